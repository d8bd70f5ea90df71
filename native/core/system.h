// What the machine and its cgroup grant this process.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ocelli {

struct MemoryInfo {
  uint64_t total = 0;
  uint64_t available = 0;  // free for new anonymous memory: the machine's, and no more than the cgroup leaves
  uint64_t limit = 0;      // min(total, the cgroup's limit)
  uint64_t rss_anon = 0;   // this process's, what "peak memory" means: mapped weights count in RSS
};

MemoryInfo memory_info();
double cgroup_cpu_quota();  // cores; 0: none
std::string cpu_model();
std::vector<std::string> cpu_features();  // of those that kernels use

}  // namespace ocelli
