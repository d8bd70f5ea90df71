#include "ptx/executor.h"

#include <algorithm>
#include <numeric>
#include <random>

#include "core/check.h"
#include "ptx/decode.h"

namespace ocelli {
namespace ptx {
namespace {

// The noise in memory that nobody wrote: other in every run, so that what depends on it shows.
uint8_t noise(uint32_t seed) { return static_cast<uint8_t>(0x81 + 0x1d * seed); }

class Execution {
 public:
  Execution(Arena& arena, const Launch& launch, const Options& options)
      : arena_(arena), launch_(launch), options_(options), random_(options.seed) {
    const uint32_t threads = launch.block.count();
    if (threads == 0 || threads > 1024) {
      throw Error("ERR_PTX", "Expected 1 to 1024 threads a block for " + launch.kernel->name + " but received " +
                                 std::to_string(threads));
    }
    block_.arena = &arena_;
    block_.launch = &launch_;
    block_.options = &options_;
    block_.report = &report_;
    block_.warps.resize((threads + kLanes - 1) / kLanes);
  }

  Report run() {
    arena_.begin_launch();
    std::vector<uint32_t> blocks(launch_.grid.count());
    std::iota(blocks.begin(), blocks.end(), 0);
    if (options_.order == Order::kDescending) std::reverse(blocks.begin(), blocks.end());
    if (options_.order == Order::kRandom) std::shuffle(blocks.begin(), blocks.end(), random_);
    for (uint32_t index : blocks) {
      begin_block(index);
      run_block();
      if (left_ == 0) break;
    }
    return std::move(report_);
  }

 private:
  void begin_block(uint32_t index) {
    const Kernel& kernel = *launch_.kernel;
    block_.index = index;
    block_.at = {index % launch_.grid.x, index / launch_.grid.x % launch_.grid.y,
                 index / launch_.grid.x / launch_.grid.y};
    block_.epoch = 0;
    block_.shared.assign(kernel.shared_bytes + launch_.dynamic_shared, noise(options_.seed));
    block_.shared_shadow.reset(block_.shared.size());
    for (const auto& [begin, end] : kernel.shared_gaps) block_.shared_shadow.set(begin, end - begin, Shadow::kOutside);
    for (size_t i = 0; i < block_.warps.size(); i++) begin_warp(block_.warps[i], static_cast<int>(i));
  }

  void begin_warp(Warp& warp, int index) {
    const Kernel& kernel = *launch_.kernel;
    warp.block = &block_;
    warp.index = index;
    warp.state = Warp::State::kRunning;
    warp.live = warp.active = warp.everyone();
    warp.parked = 0;
    warp.forced = false;
    warp.pc = 0;
    warp.carry = 0;
    warp.sync = 0;
    warp.registers.assign(kernel.register_bytes + 64, static_cast<char>(noise(options_.seed)));
    warp.base[0] = warp.registers.data();
    warp.base[1] = kernel.constants.data();
    warp.local.assign(kernel.local_bytes * kLanes, noise(options_.seed));
    warp.local_shadow.reset(warp.local.size());
    for (int l = 0; l < kLanes; l++) {
      warp.calls[l].clear();
      warp.open[l].clear();
      warp.groups[l].clear();
    }
    for (const auto& [slot, name] : kernel.specials) fill_special(warp, name, warp.at<uint32_t>(slot));
  }

  void run_block() {
    std::vector<Warp*> order;
    for (Warp& warp : block_.warps) order.push_back(&warp);
    if (options_.order == Order::kDescending) std::reverse(order.begin(), order.end());
    while (left_ > 0) {
      std::vector<Warp*> running;
      for (Warp* warp : order) {
        if (warp->state == Warp::State::kRunning) running.push_back(warp);
      }
      if (running.empty()) {
        if (!release()) return;
      } else if (options_.order == Order::kRandom) {
        run_warp(*running[random_() % running.size()], 1 + random_() % 64);
      } else {
        run_warp(*running.front(), left_);
      }
    }
    Warp& warp = block_.warps[0];
    if (warp.pc == 0) warp.pc = 1;
    warp.fault(Fault::kRunaway, 0, "more than " + std::to_string(options_.budget) + " instructions");
  }

  // Every warp waits or has ended. False when all have ended.
  bool release() {
    int waiting = 0;
    Warp* first = nullptr;
    bool same = true;
    for (Warp& warp : block_.warps) {
      if (warp.state != Warp::State::kAtBarrier) continue;
      waiting++;
      if (first == nullptr) first = &warp;
      same = same && warp.barrier == first->barrier;
    }
    if (waiting == 0) return false;
    if (waiting < static_cast<int>(block_.warps.size()) || !same) {
      first->fault(Fault::kBarrier, __builtin_ctz(first->active),
                   same ? std::to_string(waiting) + " of " + std::to_string(block_.warps.size()) +
                              " warps wait here, the others have returned"
                        : "warps wait at different barriers");
    }
    for (Warp& warp : block_.warps) {
      if (warp.state == Warp::State::kAtBarrier) warp.state = Warp::State::kRunning;
      warp.sync = 0;
    }
    block_.epoch++;
    report_.counters.barriers++;
    return true;
  }

  void run_warp(Warp& warp, uint64_t slice) {
    const Inst* code = launch_.kernel->code.data();
    Counters& counters = report_.counters;
    uint64_t ran = 0;
    for (; ran < slice && warp.state == Warp::State::kRunning; ran++) {
      const Inst& inst = code[warp.pc++];
      Mask mask = warp.active;
      if (inst.guard != kNoSlot) {
        const Mask guard = *warp.at<Mask>(inst.guard);
        mask &= inst.guard_negated ? ~guard : guard;
      }
      if (mask != 0) {
        counters.lane_instructions += static_cast<uint64_t>(__builtin_popcount(mask));
        inst.run(warp, inst, mask);
      }
      if (warp.active != warp.live && warp.state == Warp::State::kRunning) warp.regroup();
    }
    counters.warp_instructions += ran;
    left_ -= std::min(left_, ran);
  }

  Arena& arena_;
  const Launch& launch_;
  const Options& options_;
  std::mt19937 random_;
  Report report_;
  Block block_;
  uint64_t left_ = options_.budget;
};

}  // namespace

Program::Program(Arena& arena, std::string_view ptx) : arena_(arena), module_(parse(ptx)) {
  for (const Variable& variable : module_.globals) {
    if (variable.space == Space::kShared) {
      globals_.push_back(0);
      continue;
    }
    globals_.push_back(arena_.allocate(static_cast<size_t>(variable.bytes)));
    const std::vector<uint8_t> zeros(static_cast<size_t>(variable.bytes));
    arena_.write(globals_.back(), variable.init.empty() ? zeros.data() : variable.init.data(), zeros.size());
  }
}

const Kernel& Program::kernel(const std::string& name) {
  std::unique_ptr<Kernel>& kernel = kernels_[name];
  if (!kernel) kernel = decode(module_, name, globals_);
  return *kernel;
}

std::vector<std::string> Program::kernels() const {
  std::vector<std::string> names;
  for (const Function& function : module_.functions) {
    if (function.entry) names.push_back(function.name);
  }
  return names;
}

Launch Program::launch_of(const std::string& name, Dim3 grid, Dim3 block, size_t dynamic_shared,
                          const std::vector<std::vector<uint8_t>>& arguments) {
  Launch made;
  made.kernel = &kernel(name);
  made.grid = grid;
  made.block = block;
  made.dynamic_shared = dynamic_shared;
  made.params.resize(made.kernel->param_bytes);
  const std::vector<Place>& params = made.kernel->params;
  std::string wanted, given;
  bool same = params.size() == arguments.size();
  for (size_t i = 0; i < params.size(); i++) {
    wanted += " " + std::to_string(params[i].bytes);
    same = same && arguments[i].size() == params[i].bytes;
    if (same) std::memcpy(made.params.data() + params[i].at, arguments[i].data(), params[i].bytes);
  }
  for (const std::vector<uint8_t>& argument : arguments) given += " " + std::to_string(argument.size());
  if (!same) throw Error("ERR_PTX", "Expected arguments of" + wanted + " bytes for " + name + " but received" + given);
  return made;
}

Report execute(Arena& arena, const Launch& launch, const Options& options) {
  return Execution(arena, launch, options).run();
}

Report prove(Arena& arena, const Launch& launch) {
  const Arena::Snapshot before = arena.snapshot();
  Report report = execute(arena, launch, {});
  const Arena::Snapshot first = arena.snapshot();
  const auto again = [&](const Options& options, Fault difference, const std::string& how) {
    arena.restore(before);
    report.merge(execute(arena, launch, options));
    const Address at = arena.first_difference(first);
    if (at != 0)
      report.add(difference, launch.kernel->name, 0, 0, "memory differs at " + std::to_string(at) + " " + how);
  };
  again({Order::kDescending, 2}, Fault::kOrder, "when warps run in descending order");
  for (uint32_t seed : {3u, 4u, 5u}) again({Order::kRandom, seed}, Fault::kOrder, "when warps run in a random order");
  Options at_once;
  at_once.copies_at_once = true;
  again(at_once, Fault::kCopyTiming, "when copies land as soon as they are issued");
  arena.restore(first);
  return report;
}

}  // namespace ptx
}  // namespace ocelli
