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
    Launch made;
    made.kernel = &kernel(name);
    made.grid = grid;
    made.block = block;
    made.dynamic_shared = dynamic_shared;
    made.params.resize(made.kernel->param_bytes);
    size_t i = 0;
    (put(&made, i++, &arguments, sizeof arguments), ...);
    expect_count(made, i);
    return made;
  }

 private:
  static void put(Launch* launch, size_t i, const void* argument, size_t bytes);
  static void expect_count(const Launch& launch, size_t count);

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
