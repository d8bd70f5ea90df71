// cp.async: from global to shared memory, later. The hardware may let a copy land at any time between its issue and its
// wait. Here it lands at the wait, or in a second run at once: a kernel whose results tell the difference lacks a wait.
// Until its wait the destination counts as being written, and reading it is a fault.
#include <cstring>

#include "ptx/decode.h"

namespace ocelli {
namespace ptx {
namespace {

void land(Warp& warp, int lane, const std::vector<Copy>& copies) {
  for (const Copy& copy : copies) {
    warp.block->shared_shadow.set(copy.at, copy.bytes, Shadow::kWritten);
    uint8_t* to = resolve_shared(warp, lane, copy.to, copy.bytes, Access::kWrite);
    if (!warp.block->options->copies_at_once) std::memcpy(to, copy.data, copy.bytes);
  }
}

// arg: shared address, global address, bytes to read (the rest is zeros).
void issue(Warp& warp, const Inst& inst, Mask mask) {
  uint64_t to[kLanes], from[kLanes];
  uint8_t* source[kLanes] = {};
  for (int l = 0; l < kLanes; l++) {
    to[l] = inst.option & 1 ? warp.at<uint64_t>(inst.arg[0])[l] : warp.at<uint32_t>(inst.arg[0])[l];
    to[l] += static_cast<uint64_t>(inst.imm);
    from[l] = warp.at<uint64_t>(inst.arg[1])[l] + (inst.option >> 1);
  }
  const uint32_t* wanted = warp.at<uint32_t>(inst.arg[2]);
  Mask whole = 0;
  for (int l = 0; l < kLanes; l++) {
    if ((mask >> l & 1) && wanted[l] >= inst.bytes) whole |= Mask{1} << l;
  }
  if (whole != 0) resolve(warp, inst, whole, from, inst.bytes, Access::kRead, source);
  Shadow& shadow = warp.block->shared_shadow;
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    Copy copy{to[l], 0, inst.bytes, {}};
    if (whole >> l & 1) {
      std::memcpy(copy.data, source[l], inst.bytes);
    } else {
      for (uint32_t i = 0; i < wanted[l] && i < inst.bytes; i++) {  // a tail, byte by byte
        uint64_t one[kLanes];
        uint8_t* byte[kLanes];
        one[l] = from[l] + i;
        resolve(warp, inst, Mask{1} << l, one, 1, Access::kRead, byte);
        copy.data[i] = *byte[l];
      }
    }
    // The write may happen now: it races with whoever is still reading here.
    uint8_t* where = resolve_shared(warp, l, to[l], inst.bytes, Access::kWrite);
    const uint8_t* begin = warp.block->shared.data();
    if (where < begin || where >= begin + warp.block->shared.size()) continue;  // at fault, and reported
    if (warp.block->options->copies_at_once) std::memcpy(where, copy.data, inst.bytes);
    copy.at = static_cast<size_t>(where - begin);
    shadow.set(copy.at, inst.bytes, Shadow::kPending);
    warp.open[l].push_back(copy);
  }
  count_shared(warp, mask, to, inst.bytes);
}

void commit_group(Warp& warp, const Inst&, Mask mask) {
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    warp.groups[l].push_back(std::move(warp.open[l]));
    warp.open[l].clear();
  }
}

// All but the `imm` youngest groups.
void wait_group(Warp& warp, const Inst& inst, Mask mask) {
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    while (warp.groups[l].size() > static_cast<size_t>(inst.imm)) {
      land(warp, l, warp.groups[l].front());
      warp.groups[l].pop_front();
    }
  }
}

void wait_all(Warp& warp, const Inst& inst, Mask mask) {
  commit_group(warp, inst, mask);
  wait_group(warp, inst, mask);
}

void build_copy(Decoding& d) {
  if (!d.take("async")) d.fail("cp.async");
  if (d.take("commit_group")) return d.emit(commit_group);
  if (d.take("wait_all")) return d.emit(wait_all);
  if (d.take("wait_group")) {
    d.inst.imm = d.immediate(0);
    return d.emit(wait_group);
  }
  const bool l2_only = d.take("cg");
  if (!l2_only && !d.take("ca")) d.fail(".ca or .cg");
  if ((!d.take("shared") && !d.take("shared::cta")) || !d.take("global")) d.fail(".shared.global");
  for (const char* modifier : {"L2::64B", "L2::128B", "L2::256B"}) d.take(modifier);
  const int64_t bytes = d.immediate(2);
  if (bytes != 16 && (l2_only || (bytes != 4 && bytes != 8))) d.fail("16 bytes, or 4 or 8 with .ca");
  d.inst.bytes = static_cast<uint8_t>(bytes);
  d.address(1);  // only for its check: the slots follow in the handler's order
  const int64_t from_offset = d.inst.imm;
  const bool from_wide = d.inst.wide_address;
  const Slot from = d.take_args()[0];
  d.address(0);
  if (!from_wide || from_offset < 0) d.fail("a 64-bit global address with no negative offset");
  d.inst.option = (d.inst.wide_address ? 1 : 0) | static_cast<uint32_t>(from_offset) << 1;
  d.arg(from);
  d.operands() > 3 ? d.value(3, Type::kU32) : d.arg(d.constant(static_cast<uint64_t>(bytes), 4));
  d.inst.space = Space::kGlobal;
  d.emit(issue);
}

}  // namespace

void add_copy(Table& table) { table["cp"] = build_copy; }

}  // namespace ptx
}  // namespace ocelli
