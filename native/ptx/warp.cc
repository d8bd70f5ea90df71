// How the lanes of a warp part and meet. Each lane has its own program counter, as GPUs since Volta have; of the lanes
// that may run, those furthest behind in the code run next, so that lanes meet again where their paths do. Instructions
// that need lanes of the warp together park those that are early.
#include <algorithm>

#include "ptx/machine.h"

namespace ocelli {
namespace ptx {

Mask Warp::everyone() const {
  const int threads = static_cast<int>(block->launch->block.count()) - index * kLanes;
  return threads >= kLanes ? kAllLanes : (Mask{1} << threads) - 1;
}

void Warp::fault(Fault fault, int lane, const std::string& detail) {
  const Inst& inst = current();
  block->report->add(fault, block->launch->kernel->name, inst.line, inst.source_line,
                     detail + ", block " + std::to_string(block->index) + ", thread " + std::to_string(thread(lane)));
}

void Warp::split(Mask mask) {
  for (int l = 0; l < kLanes; l++) {
    if ((active & ~mask) >> l & 1) lane_pc[l] = pc;
  }
  active = mask;
}

void Warp::regroup() {
  for (int l = 0; l < kLanes; l++) {
    if (active >> l & 1) lane_pc[l] = pc;
  }
  Mask candidates = live & ~parked;
  const bool stuck = candidates == 0;
  if (stuck) candidates = parked & live;
  pc = INT32_MAX;
  for (int l = 0; l < kLanes; l++) {
    if (candidates >> l & 1) pc = std::min(pc, lane_pc[l]);
  }
  active = 0;
  for (int l = 0; l < kLanes; l++) {
    if ((live >> l & 1) && lane_pc[l] == pc) active |= Mask{1} << l;
  }
  parked &= ~active;
  if (!stuck) return;
  // Everybody waits for somebody else. The fault is told, and this group goes on so that the run ends.
  forced = true;
  pc++;
  fault(current().collective ? Fault::kAbsentLane : Fault::kBarrier, __builtin_ctz(active),
        std::to_string(__builtin_popcount(active)) + " of " + std::to_string(__builtin_popcount(live)) +
            " lanes wait here for others that never come");
  pc--;
}

bool Warp::gather(Mask mask, Mask need) {
  split(mask);
  if (need & ~live) {
    const int lane = __builtin_ctz(need & ~live);
    fault(current().collective ? Fault::kAbsentLane : Fault::kBarrier, __builtin_ctz(mask),
          "thread " + std::to_string(thread(lane)) + " has returned or does not exist");
  }
  need &= live;
  if ((mask & need) == need || forced) {
    forced = false;
    return true;
  }
  for (int l = 0; l < kLanes; l++) {
    if (mask >> l & 1) lane_pc[l] = pc - 1;
  }
  parked |= mask;
  active = 0;
  return false;
}

const std::vector<std::string> kSpecials = {
    "%tid.x",       "%tid.y",       "%tid.z",       "%ntid.x",      "%ntid.y",      "%ntid.z",           "%ctaid.x",
    "%ctaid.y",     "%ctaid.z",     "%nctaid.x",    "%nctaid.y",    "%nctaid.z",    "%laneid",           "%warpid",
    "%lanemask_eq", "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge", "%dynamic_smem_size"};

void fill_special(Warp& warp, const std::string& name, uint32_t* lanes) {
  const Block& block = *warp.block;
  const Launch& launch = *block.launch;
  const size_t which = static_cast<size_t>(std::find(kSpecials.begin(), kSpecials.end(), name) - kSpecials.begin());
  for (uint32_t l = 0; l < kLanes; l++) {
    const uint32_t thread = static_cast<uint32_t>(warp.index) * kLanes + l;
    const Mask bit = Mask{1} << l;
    const uint32_t values[] = {thread % launch.block.x,
                               thread / launch.block.x % launch.block.y,
                               thread / launch.block.x / launch.block.y,
                               launch.block.x,
                               launch.block.y,
                               launch.block.z,
                               block.at.x,
                               block.at.y,
                               block.at.z,
                               launch.grid.x,
                               launch.grid.y,
                               launch.grid.z,
                               l,
                               static_cast<uint32_t>(warp.index),
                               bit,
                               bit - 1,
                               bit | (bit - 1),
                               ~(bit | (bit - 1)),
                               ~(bit - 1),
                               static_cast<uint32_t>(launch.dynamic_shared)};
    lanes[l] = values[which];
  }
}

}  // namespace ptx
}  // namespace ocelli
