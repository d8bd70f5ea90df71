#include "core/system.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ocelli {

namespace {

// Small files of /proc and /sys; an unreadable one is empty.
std::string read_text(const std::string& path, size_t max = 1 << 16) {
  std::string text;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return text;
  text.resize(max);
  text.resize(std::fread(&text[0], 1, max, file));
  std::fclose(file);
  return text;
}

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  size_t start = 0;
  while (start < text.size()) {
    size_t end = text.find('\n', start);
    if (end == std::string::npos) end = text.size();
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

// The number in "Name:   123 kB", in bytes.
uint64_t kilobytes(const std::string& text, const char* name) {
  for (const std::string& line : split_lines(text)) {
    if (line.rfind(name, 0) == 0) return std::strtoull(line.c_str() + std::strlen(name), nullptr, 10) * 1024;
  }
  return 0;
}

// The folders that limit this process for one controller, own group first, then its parents. Inside a container the
// path of /proc/self/cgroup is often the host's and missing below the mount, so the mount's root always counts.
std::vector<std::string> cgroup_folders(const std::string& controller, bool* unified) {
  std::string path;
  bool v1 = false;
  for (const std::string& line : split_lines(read_text("/proc/self/cgroup"))) {
    size_t first = line.find(':');
    size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    if (names == ",," && !v1) path = line.substr(second + 1);
    if (names.find("," + controller + ",") != std::string::npos) {
      v1 = true;
      path = line.substr(second + 1);
    }
  }
  *unified = !v1;
  std::string root = "/sys/fs/cgroup";
  if (v1) {
    root = "/sys/fs/cgroup/" + controller;
    if (controller == "cpu" && read_text(root + "/cpu.cfs_period_us").empty()) root = "/sys/fs/cgroup/cpu,cpuacct";
  }
  std::vector<std::string> folders;
  while (path.size() > 1) {
    folders.push_back(root + path);
    size_t slash = path.rfind('/');
    path = slash == std::string::npos ? "" : path.substr(0, slash);
  }
  folders.push_back(root);
  return folders;
}

}  // namespace

double cgroup_cpu_quota() {
  bool unified = false;
  double best = 0;
  for (const std::string& folder : cgroup_folders("cpu", &unified)) {
    double quota = 0;
    double period = 0;
    if (unified) {
      std::string text = read_text(folder + "/cpu.max");
      if (text.empty() || text.rfind("max", 0) == 0) continue;
      char* end = nullptr;
      quota = std::strtod(text.c_str(), &end);
      period = std::strtod(end, nullptr);
    } else {
      quota = std::strtod(read_text(folder + "/cpu.cfs_quota_us").c_str(), nullptr);
      period = std::strtod(read_text(folder + "/cpu.cfs_period_us").c_str(), nullptr);
    }
    if (quota > 0 && period > 0) best = best == 0 ? quota / period : std::min(best, quota / period);
  }
  return best;
}

MemoryInfo memory_info() {
  MemoryInfo info;
  std::string meminfo = read_text("/proc/meminfo");
  info.total = kilobytes(meminfo, "MemTotal:");
  info.available = kilobytes(meminfo, "MemAvailable:");
  info.limit = info.total;
  info.rss_anon = kilobytes(read_text("/proc/self/status"), "RssAnon:");
  bool unified = false;
  for (const std::string& folder : cgroup_folders("memory", &unified)) {
    std::string limit_text = read_text(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
    if (limit_text.empty() || limit_text.rfind("max", 0) == 0) continue;
    uint64_t limit = std::strtoull(limit_text.c_str(), nullptr, 10);
    if (limit == 0 || limit >= info.total) continue;
    uint64_t used = std::strtoull(read_text(folder + (unified ? "/memory.current" : "/memory.usage_in_bytes")).c_str(),
                                  nullptr, 10);
    // Page cache that can be dropped at once is counted as used.
    std::string stat = read_text(folder + "/memory.stat");
    size_t at = stat.find(unified ? "\ninactive_file " : "\ntotal_inactive_file ");
    uint64_t droppable = at == std::string::npos ? 0 : std::strtoull(stat.c_str() + stat.find(' ', at), nullptr, 10);
    used -= std::min(used, droppable);
    info.limit = std::min(info.limit, limit);
    info.available = std::min(info.available, limit - std::min(limit, used));
  }
  return info;
}

std::string cpu_model() {
  for (const std::string& line : split_lines(read_text("/proc/cpuinfo"))) {
    size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> features;
#if defined(__x86_64__)
#define OCELLI_FEATURE(name) \
  if (__builtin_cpu_supports(name)) features.push_back(name);
  OCELLI_FEATURE("sse4.1")
  OCELLI_FEATURE("avx")
  OCELLI_FEATURE("f16c")
  OCELLI_FEATURE("fma")
  OCELLI_FEATURE("avx2")
  OCELLI_FEATURE("avx512f")
  OCELLI_FEATURE("avx512bw")
  OCELLI_FEATURE("avx512dq")
  OCELLI_FEATURE("avx512vl")
  OCELLI_FEATURE("avx512vnni")
  OCELLI_FEATURE("avx512bf16")
#if defined(OCELLI_HAVE_AMX)
  OCELLI_FEATURE("amx-tile")
  OCELLI_FEATURE("amx-bf16")
  OCELLI_FEATURE("amx-int8")
#endif
#undef OCELLI_FEATURE
#elif defined(__aarch64__)
  features.push_back("neon");
#endif
  return features;
}

}  // namespace ocelli
