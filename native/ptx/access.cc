// Every access to memory passes here: windows of the generic space, bounds, alignment, unwritten bytes, races, and
// counts.
#include <algorithm>

#include "ptx/machine.h"

namespace ocelli {
namespace ptx {
namespace {

struct Place {
  uint8_t* data;
  Shadow* shadow;
  size_t at;
  const char* space;
};

std::string hex(uint64_t value) {
  static const char* const kDigits = "0123456789abcdef";
  std::string text;
  do text.insert(text.begin(), kDigits[value & 15]);
  while (value >>= 4);
  return "0x" + text;
}

bool in_shared(Space space, uint64_t address) {
  return space == Space::kShared || (space == Space::kGeneric && address >> 48 == kSharedWindow >> 48);
}

bool place(Warp& warp, Space space, int lane, uint64_t address, int bytes, Place* out) {
  Block& block = *warp.block;
  if (in_shared(space, address)) {
    const size_t fixed = block.launch->kernel->shared_bytes;
    uint64_t at = space == Space::kShared ? address : address - kSharedWindow;
    if (at >= kDynamicShared) {
      at = at - kDynamicShared + fixed;
    } else if (at >= fixed) {
      at = block.shared.size();
    }
    *out = {block.shared.data(), &block.shared_shadow, at, "shared"};
  } else if (space == Space::kLocal || (space == Space::kGeneric && address >> 48 == kLocalWindow >> 48)) {
    const size_t size = block.launch->kernel->local_bytes;
    const uint64_t at = space == Space::kLocal ? address : address - kLocalWindow;
    *out = {warp.local.data(), &warp.local_shadow, at + lane * size, "local"};
    return at <= size && size - at >= static_cast<uint64_t>(bytes);
  } else {
    Allocation* allocation = block.arena->find(address);
    if (allocation == nullptr) {
      *out = {nullptr, nullptr, 0, "global"};
      return false;
    }
    *out = {allocation->data.get(), &allocation->shadow, address - allocation->address, "global"};
  }
  return out->at <= out->shadow->size() && out->shadow->size() - out->at >= static_cast<uint64_t>(bytes);
}

// All checks of one lane's access; null where the access has no place to go.
uint8_t* checked(Warp& warp, Space space, int lane, uint64_t address, int bytes, Access access) {
  Place found;
  const auto what = [&] { return std::to_string(bytes) + " bytes of " + found.space + " memory at " + hex(address); };
  if (!place(warp, space, lane, address, bytes, &found)) {
    warp.fault(Fault::kOutOfBounds, lane, what());
    return nullptr;
  }
  if (address % bytes != 0) {
    warp.fault(Fault::kMisaligned, lane, what());
    return nullptr;
  }
  const Shadow::State state = found.shadow->state(found.at, bytes);
  if (state == Shadow::kOutside) {
    warp.fault(Fault::kOutOfBounds, lane, what() + ", between two variables");
    return nullptr;
  }
  if (state == Shadow::kPending) {
    warp.fault(Fault::kPendingCopy, lane, what());
  } else if (state == Shadow::kUnwritten && access != Access::kWrite) {
    warp.fault(Fault::kUnwritten, lane, what());
  }
  if (warp.block->options->check_races && found.space[0] != 'l') {
    Actor actor = warp.block->actor(warp, lane);
    if (found.space[0] == 's') actor.block = 0;
    if (found.shadow->races(found.at, bytes, access, actor)) warp.fault(Fault::kRace, lane, what());
  }
  if (access != Access::kRead && state != Shadow::kWritten) found.shadow->set(found.at, bytes, Shadow::kWritten);
  return found.data + found.at;
}

Waste& waste_of(Warp& warp) {
  const Inst& inst = warp.current();
  return warp.block->report->waste[inst.source_line > 0 ? inst.source_line : inst.line];
}

uint8_t* scrap() {
  static thread_local uint8_t bytes[64];
  std::fill(bytes, bytes + sizeof bytes, 0xa5);
  return bytes;
}

}  // namespace

void resolve(Warp& warp, const Inst& inst, Mask mask, const uint64_t* address, int bytes, Access access,
             uint8_t** where) {
  int first = -1;
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    if (first < 0) first = l;
    where[l] = checked(warp, inst.space, l, address[l], bytes, access);
    if (where[l] == nullptr) where[l] = scrap();
  }
  if (in_shared(inst.space, address[first])) {
    count_shared(warp, mask, address, bytes);
  } else if (inst.space != Space::kLocal && address[first] >> 48 != kLocalWindow >> 48) {
    count_global(warp, mask, address, bytes);
  }
}

uint8_t* resolve_shared(Warp& warp, int lane, uint64_t address, int bytes, Access access) {
  uint8_t* where = checked(warp, Space::kShared, lane, address, bytes, access);
  return where != nullptr ? where : scrap();
}

// Requests of 8 or 16 bytes a lane go as halves or quarters of the warp. In each, words of one bank but of different
// rows take turns.
void count_shared(Warp& warp, Mask mask, const uint64_t* address, int bytes) {
  Counters& counters = warp.block->report->counters;
  counters.shared_requests++;
  const int words = bytes > 4 ? bytes / 4 : 1;
  const int group = kLanes / words;
  for (int begin = 0; begin < kLanes; begin += group) {
    uint64_t seen[kLanes][kLanes];  // by bank: its distinct words
    uint8_t count[kLanes] = {};
    int wavefronts = 0;
    for (int l = begin; l < begin + group; l++) {
      if (!(mask >> l & 1)) continue;
      for (int w = 0; w < words; w++) {
        const uint64_t word = address[l] / 4 + w;
        const int bank = static_cast<int>(word % kLanes);
        bool known = false;
        for (int i = 0; i < count[bank] && !known; i++) known = seen[bank][i] == word;
        if (known) continue;
        seen[bank][count[bank]++] = word;
        wavefronts = std::max<int>(wavefronts, count[bank]);
      }
    }
    counters.shared_wavefronts += wavefronts;
    if (wavefronts > 1) waste_of(warp).bank_conflicts += wavefronts - 1;
    counters.shared_wavefronts_needed += wavefronts > 0;
  }
}

void count_global(Warp& warp, Mask mask, const uint64_t* address, int bytes) {
  Counters& counters = warp.block->report->counters;
  uint64_t lines[kLanes];
  uint64_t distinct[kLanes];
  int n = 0;
  for (int l = 0; l < kLanes; l++) {
    if (mask >> l & 1) lines[n++] = address[l];
  }
  std::sort(lines, lines + n);
  const int unique = static_cast<int>(std::unique_copy(lines, lines + n, distinct) - distinct);
  int sectors = 0;
  uint64_t last = UINT64_MAX;
  for (int i = 0; i < unique; i++) {
    for (uint64_t s = distinct[i] / 32; s <= (distinct[i] + bytes - 1) / 32; s++) {
      sectors += s != last;
      last = s;
    }
  }
  counters.global_requests++;
  counters.global_sectors += sectors;
  const int needed = (unique * bytes + 31) / 32;
  counters.global_sectors_needed += needed;
  if (sectors > needed) waste_of(warp).sectors += sectors - needed;
}

}  // namespace ptx
}  // namespace ocelli
