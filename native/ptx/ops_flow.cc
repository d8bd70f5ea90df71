// bra, call, ret, exit, trap, bar.
#include <cstring>

#include "ptx/decode.h"

namespace ocelli {
namespace ptx {
namespace {

void branch(Warp& warp, const Inst& inst, Mask mask) {
  warp.split(mask);
  warp.pc = static_cast<int>(inst.imm);
}
void build_branch(Decoding& d) {
  d.take("uni");
  if (d.operand(0).kind != Operand::Kind::kLabel) d.fail("a label");
  d.emit(branch);
}

// Functions have their registers and arrays at fixed places, so that a call only copies parameters (local memory to
// local memory) and remembers where to go on. arg: from, to, bytes per parameter, the same in all lanes.
void call(Warp& warp, const Inst& inst, Mask mask) {
  warp.split(mask);
  const size_t size = warp.block->launch->kernel->local_bytes;
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    uint8_t* base = warp.local.data() + l * size;
    for (int i = 0; i < inst.count; i++) {
      const Slot* copy = inst.arg + 3 * i;
      std::memcpy(base + copy[1], base + copy[0], static_cast<size_t>(copy[2]));
      warp.local_shadow.set(l * size + copy[1], static_cast<size_t>(copy[2]), Shadow::kWritten);
    }
    warp.calls[l].push_back(warp.pc);
  }
  warp.pc = static_cast<int>(inst.imm);
}

void build_call(Decoding& d) {
  d.take("uni");
  const bool results = d.operand(0).kind == Operand::Kind::kVector;
  const Operand& target = d.operand(results ? 1 : 0);
  if (target.kind != Operand::Kind::kFunction) d.fail("a function's name");
  d.call(target.index);
  // Results stay where the callee puts them: the caller's variable is another name of that place from here on.
  if (results) {
    const std::vector<Place> places = d.places(target.index, true);
    const std::vector<Operand>& names = d.operand(0).parts;
    if (names.size() != places.size()) d.fail(std::to_string(places.size()) + " results");
    for (size_t i = 0; i < places.size(); i++) d.alias(names[i], places[i]);
  }
  const std::vector<Place> places = d.places(target.index, false);
  const size_t at = results ? 2 : 1;
  const std::vector<Operand> given = d.operands() > at ? d.operand(at).parts : std::vector<Operand>{};
  if (given.size() != places.size()) d.fail(std::to_string(places.size()) + " parameters");
  for (size_t i = 0; i < places.size(); i++) {
    const Place own = d.place(given[i]);
    if (own.bytes != places[i].bytes) d.fail("parameters of the callee's sizes");
    for (size_t value : {own.at, places[i].at, own.bytes}) d.arg(static_cast<Slot>(value));
  }
  d.inst.count = static_cast<uint8_t>(places.size());
  d.emit(call);
}

void finish(Warp& warp, Mask mask) {
  warp.live &= ~mask;
  warp.active &= ~mask;
  if (warp.live == 0) warp.state = Warp::State::kDone;
}

void leave(Warp& warp, const Inst&, Mask mask) {
  warp.split(mask);
  Mask ending = 0;
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    if (warp.calls[l].empty()) {
      ending |= Mask{1} << l;
      continue;
    }
    warp.lane_pc[l] = warp.calls[l].back();
    warp.calls[l].pop_back();
  }
  finish(warp, ending);
  if (ending == mask) return;
  // Lanes that came from different calls part here.
  warp.pc = warp.lane_pc[__builtin_ctz(mask & ~ending)];
  Mask together = 0;
  for (int l = 0; l < kLanes; l++) {
    if ((warp.active >> l & 1) && warp.lane_pc[l] == warp.pc) together |= Mask{1} << l;
  }
  warp.active = together;
}
void build_return(Decoding& d) {
  d.take("uni");
  d.emit(leave);
}

void end(Warp& warp, const Inst&, Mask mask) {
  warp.split(mask);
  finish(warp, mask);
}
void build_exit(Decoding& d) { d.emit(end); }

void trap(Warp& warp, const Inst&, Mask mask) {
  warp.fault(Fault::kTrap, __builtin_ctz(mask), "the kernel gave up by itself");
  warp.split(mask);
  finish(warp, mask);
}
void build_trap(Decoding& d) { d.emit(trap); }

// Barriers of the whole block. imm: which; option: threads that take part, 0 for all.
void barrier(Warp& warp, const Inst& inst, Mask mask) {
  if (!warp.gather(mask, warp.everyone())) return;
  const uint32_t threads = warp.block->launch->block.count();
  if (inst.option != 0 && inst.option != threads) {
    warp.fault(Fault::kBarrier, __builtin_ctz(mask),
               "a barrier of " + std::to_string(inst.option) + " of " + std::to_string(threads) +
                   " threads is beyond the emulator");
  }
  warp.barrier = static_cast<int>(inst.imm);
  warp.state = Warp::State::kAtBarrier;
}

void warp_barrier(Warp& warp, const Inst& inst, Mask mask) {
  const int first = __builtin_ctz(mask);
  if (!warp.gather(mask, warp.at<Mask>(inst.arg[0])[first])) return;
  warp.sync++;
}

void build_barrier(Decoding& d) {
  d.take("cta");
  if (d.take("warp")) {
    if (!d.take("sync")) d.fail("bar.warp.sync");
    d.inst.collective = true;
    d.value(0, Type::kB32);
    return d.emit(warp_barrier);
  }
  if (!d.take("sync")) d.fail("bar.sync");
  d.take("aligned");
  d.inst.imm = d.immediate(0);
  d.inst.option = d.operands() > 1 ? static_cast<uint32_t>(d.immediate(1)) : 0;
  d.emit(barrier);
}

}  // namespace

void add_flow(Table& table) {
  table["bra"] = build_branch;
  table["call"] = build_call;
  table["ret"] = build_return;
  table["exit"] = build_exit;
  table["trap"] = build_trap;
  table["bar"] = table["barrier"] = build_barrier;
}

}  // namespace ptx
}  // namespace ocelli
