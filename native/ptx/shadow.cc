#include "ptx/shadow.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace ocelli {
namespace ptx {
namespace {

// A stamp: valid 63 | atomic or `several lanes` 62 | `several warps` 61 | block 41..60 | epoch 25..40 | sync 11..24 |
// thread 0..10. With both marks a reader's stamp says `several blocks`.
constexpr uint64_t kValid = uint64_t{1} << 63;
constexpr uint64_t kAtomic = uint64_t{1} << 62;
constexpr uint64_t kLanes = uint64_t{1} << 62;
constexpr uint64_t kWarps = uint64_t{1} << 61;
constexpr uint64_t kBlocks = kLanes | kWarps;
constexpr uint64_t kThreadMask = (1 << 11) - 1;

uint64_t stamp_of(const Actor& actor) {
  if (actor.block >> 20 || actor.epoch >> 16 || actor.sync >> 14 || actor.thread >> 11) {
    throw Error("ERR_PTX",
                "Expected at most 2^20 blocks, 2^16 barriers and 2^14 warp barriers for the race check but received " +
                    std::to_string(actor.block) + ", " + std::to_string(actor.epoch) + ", " +
                    std::to_string(actor.sync));
  }
  return kValid | uint64_t{actor.block} << 41 | uint64_t{actor.epoch} << 25 | uint64_t{actor.sync} << 11 | actor.thread;
}

uint64_t block_of(uint64_t stamp) { return stamp >> 41 & ((1 << 20) - 1); }
uint64_t epoch_of(uint64_t stamp) { return stamp >> 25 & 0xffff; }
uint64_t warp_of(uint64_t stamp) { return (stamp & kThreadMask) >> 5; }
uint64_t sync_of(uint64_t stamp) { return stamp >> 11 & 0x3fff; }

// Whether `now` may run at the same time as the one access that `before` stands for.
bool concurrent(uint64_t before, uint64_t now) {
  if (before == 0) return false;
  if (block_of(before) != block_of(now)) return true;
  if (epoch_of(before) != epoch_of(now)) return false;
  if (warp_of(before) != warp_of(now)) return true;
  return sync_of(before) == sync_of(now) && (before & kThreadMask) != (now & kThreadMask);
}

bool concurrent_with_reads(uint64_t before, uint64_t now) {
  if (before == 0) return false;
  if ((before & kBlocks) == kBlocks) return true;
  if (block_of(before) != block_of(now)) return true;
  if (epoch_of(before) != epoch_of(now)) return false;
  if ((before & kWarps) || warp_of(before) != warp_of(now)) return true;
  return sync_of(before) == sync_of(now) && ((before & kLanes) || (before & kThreadMask) != (now & kThreadMask));
}

// The stamp of the readers so far and one more. What it forgets (earlier epochs of this block, earlier syncs of this
// warp) is ordered before any later access that could ask.
uint64_t joined(uint64_t before, uint64_t now) {
  if (before == 0 || (before & kBlocks) == kBlocks) return before | now;
  if (block_of(before) != block_of(now)) return now | kBlocks;
  if (epoch_of(before) != epoch_of(now)) return now;
  if (before & kWarps) return before;
  if (warp_of(before) != warp_of(now)) return (now & ~kLanes) | kWarps;
  if (sync_of(before) != sync_of(now)) return now;
  return (before & kThreadMask) == (now & kThreadMask) ? before : before | kLanes;
}

}  // namespace

void Shadow::set(size_t at, size_t bytes, State state) { std::memset(state_.data() + at, state, bytes); }

Shadow::State Shadow::state(size_t at, size_t bytes) const {
  for (size_t i = at; i < at + bytes; i++) {
    if (state_[i] != kWritten) return static_cast<State>(state_[i]);
  }
  return kWritten;
}

void Shadow::reset(size_t bytes) {
  state_.assign(bytes, kUnwritten);
  begin_launch();
}

void Shadow::begin_launch() {
  cells_.clear();
  granule_ = 4;
}

// Splits cells where an access is finer than they are, or not aligned to them.
void Shadow::refine(size_t granule) {
  const size_t times = granule_ / granule;
  std::vector<Cell> fine(cells_.size() * times);
  for (size_t i = 0; i < fine.size(); i++) fine[i] = cells_[i / times];
  cells_ = std::move(fine);
  granule_ = granule;
}

bool Shadow::races(size_t at, size_t bytes, Access access, const Actor& actor) {
  if (cells_.empty()) cells_.resize((state_.size() + granule_ - 1) / granule_);
  if ((at | bytes) % granule_ != 0) refine((at | bytes) % 2 != 0 ? 1 : 2);
  const uint64_t now = stamp_of(actor);
  bool race = false;
  const size_t end = (at + bytes) / granule_;
  for (size_t i = at / granule_; i < end; i++) {
    Cell& cell = cells_[i];
    if (access == Access::kRead) {
      race = race || concurrent(cell.write & ~kAtomic, now);
      cell.read = joined(cell.read, now);
      continue;
    }
    const bool both_atomic = access == Access::kAtomic && (cell.write & kAtomic);
    race = race || concurrent_with_reads(cell.read, now) || (!both_atomic && concurrent(cell.write & ~kAtomic, now));
    cell.write = access == Access::kAtomic ? now | kAtomic : now;
  }
  return race;
}

}  // namespace ptx
}  // namespace ocelli
