// Running kernels: once, or under every order of warps and both timings of asynchronous copies.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ptx/machine.h"

namespace ocelli {
namespace ptx {

// A PTX module whose variables lie in `arena`, which must outlive it.
class Program {
 public:
  Program(Arena& arena, std::string_view ptx);

  // Decoded at first use. Throws ERR_PTX where there is no such kernel.
  const Kernel& kernel(const std::string& name);
  std::vector<std::string> kernels() const;

  // Arguments are as wide as the kernel's parameters: Address, int32_t, float, ...
  template <class... A>
  Launch launch(const std::string& name, Dim3 grid, Dim3 block, size_t dynamic_shared, const A&... arguments) {
    std::vector<std::vector<uint8_t>> values;
    const auto add = [&](const void* bytes, size_t size) {
      values.emplace_back(static_cast<const uint8_t*>(bytes), static_cast<const uint8_t*>(bytes) + size);
    };
    (add(&arguments, sizeof arguments), ...);
    return launch_of(name, grid, block, dynamic_shared, values);
  }
  // The same with the arguments' bytes. Throws ERR_PTX where their count or sizes are not the kernel's.
  Launch launch_of(const std::string& name, Dim3 grid, Dim3 block, size_t dynamic_shared,
                   const std::vector<std::vector<uint8_t>>& arguments);

 private:
  Arena& arena_;
  Module module_;
  std::vector<Address> globals_;
  std::map<std::string, std::unique_ptr<Kernel>> kernels_;
};

Report execute(Arena& arena, const Launch& launch, const Options& options);

// Runs the launch in ascending order, in descending order and in three random ones, and once with copies that land at
// once, each on the same memory. Bits that differ are findings too. Leaves the first run's results in memory; the
// counters are the first run's.
Report prove(Arena& arena, const Launch& launch);

}  // namespace ptx
}  // namespace ocelli
