// shfl, vote, match, redux, activemask: the lanes of one warp among themselves. Each waits until every lane of its
// member mask is there.
#include <algorithm>

#include "ptx/decode.h"

namespace ocelli {
namespace ptx {
namespace {

// The member mask is an operand: the same in all lanes that take part.
bool together(Warp& warp, Mask mask, Slot members) {
  const int first = __builtin_ctz(mask);
  const Mask need = warp.at<Mask>(members)[first];
  if (!(need >> first & 1)) warp.fault(Fault::kAbsentLane, first, "the lane is not in its own member mask");
  return warp.gather(mask, need);
}

enum class Shuffle : uint8_t { kUp, kDown, kButterfly, kIndex };

// arg: result, predicate or none, value, by, clamp and segment, members.
template <Shuffle kShuffle>
void shuffle(Warp& warp, const Inst& inst, Mask mask) {
  if (!together(warp, mask, inst.arg[5])) return;
  const uint32_t* value = warp.at<uint32_t>(inst.arg[2]);
  const uint32_t* by = warp.at<uint32_t>(inst.arg[3]);
  const uint32_t* clamps = warp.at<uint32_t>(inst.arg[4]);
  uint32_t out[kLanes];
  Mask inside = 0;
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    const int segment = static_cast<int>(clamps[l] >> 8 & 31), clamp = static_cast<int>(clamps[l] & 31);
    const int least = l & segment, most = least | (clamp & ~segment);
    const int step = static_cast<int>(by[l] & 31);
    int from = 0;
    bool in_range = false;
    if (kShuffle == Shuffle::kUp) from = l - step, in_range = from >= most;
    if (kShuffle == Shuffle::kDown) from = l + step, in_range = from <= most;
    if (kShuffle == Shuffle::kButterfly) from = l ^ step, in_range = from <= most;
    if (kShuffle == Shuffle::kIndex) from = least | (step & ~segment), in_range = from <= most;
    if (!in_range) from = l;
    if (!(mask >> from & 1)) {
      warp.fault(Fault::kAbsentLane, l, "reads lane " + std::to_string(from) + ", which takes no part");
    }
    out[l] = mask >> from & 1 ? value[from] : 0xa5a5a5a5;
    inside |= static_cast<Mask>(in_range) << l;
  }
  commit(warp.at<uint32_t>(inst.arg[0]), out, mask);
  if (inst.arg[1] == kNoSlot) return;
  Mask* to = warp.at<Mask>(inst.arg[1]);
  *to = (*to & ~mask) | (inside & mask);
}

void build_shuffle(Decoding& d) {
  if (!d.take("sync")) d.fail("shfl.sync");
  d.inst.collective = true;
  const Handler handler = d.take("up")     ? shuffle<Shuffle::kUp>
                          : d.take("down") ? shuffle<Shuffle::kDown>
                          : d.take("bfly") ? shuffle<Shuffle::kButterfly>
                          : d.take("idx")  ? shuffle<Shuffle::kIndex>
                                           : nullptr;
  d.take_type();
  const bool predicate = d.operands() == 6;
  d.to(0, Type::kB32);
  predicate ? d.to(1, Type::kPred) : d.arg(kNoSlot);
  for (size_t i = predicate ? 2 : 1; i < d.operands(); i++) d.value(i, Type::kB32);
  d.emit(handler);
}

enum class Vote : uint8_t { kAll, kAny, kUniform, kBallot };

template <Vote kVote>
void vote(Warp& warp, const Inst& inst, Mask mask) {
  if (!together(warp, mask, inst.arg[2])) return;
  const Mask yes = (*warp.at<Mask>(inst.arg[1]) ^ inst.option) & mask;
  if (kVote == Vote::kBallot) {
    uint32_t out[kLanes];
    std::fill(out, out + kLanes, yes);
    return commit(warp.at<uint32_t>(inst.arg[0]), out, mask);
  }
  const bool result = kVote == Vote::kAll ? yes == mask : kVote == Vote::kAny ? yes != 0 : yes == mask || yes == 0;
  Mask* to = warp.at<Mask>(inst.arg[0]);
  *to = (*to & ~mask) | (result ? mask : 0);
}

void build_vote(Decoding& d) {
  if (!d.take("sync")) d.fail("vote.sync");
  d.inst.collective = true;
  const bool ballot = d.take("ballot");
  const Handler handler = ballot          ? vote<Vote::kBallot>
                          : d.take("all") ? vote<Vote::kAll>
                          : d.take("any") ? vote<Vote::kAny>
                          : d.take("uni") ? vote<Vote::kUniform>
                                          : nullptr;
  d.take_type();
  d.to(0, ballot ? Type::kB32 : Type::kPred);
  Operand which = d.operand(1);
  d.inst.option = which.negated ? kAllLanes : 0;
  which.negated = false;
  d.value(which, Type::kPred);
  d.value(2, Type::kB32);
  d.emit(handler);
}

template <class T>
void match_any(Warp& warp, const Inst& inst, Mask mask) {
  if (!together(warp, mask, inst.arg[2])) return;
  const T* value = warp.at<T>(inst.arg[1]);
  uint32_t out[kLanes] = {};
  for (int l = 0; l < kLanes; l++) {
    for (int other = 0; other < kLanes; other++) {
      if ((mask >> l & 1) && (mask >> other & 1) && value[l] == value[other]) out[l] |= Mask{1} << other;
    }
  }
  commit(warp.at<uint32_t>(inst.arg[0]), out, mask);
}

void build_match(Decoding& d) {
  if (!d.take("any") || !d.take("sync")) d.fail("match.any.sync");
  d.inst.collective = true;
  const Type type = d.take_type();
  d.to(0, Type::kB32);
  d.value(1, type);
  d.value(2, Type::kB32);
  d.emit(size_of(type) == 8 ? match_any<uint64_t> : match_any<uint32_t>);
}

enum class Reduce : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor };

template <Reduce kReduce, class T>
void reduce(Warp& warp, const Inst& inst, Mask mask) {
  if (!together(warp, mask, inst.arg[2])) return;
  const T* value = warp.at<T>(inst.arg[1]);
  const int first = __builtin_ctz(mask);
  T sum = value[first];
  for (int l = first + 1; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    if (kReduce == Reduce::kAdd) sum = static_cast<T>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(value[l]));
    if (kReduce == Reduce::kMin) sum = std::min(sum, value[l]);
    if (kReduce == Reduce::kMax) sum = std::max(sum, value[l]);
    if (kReduce == Reduce::kAnd) sum &= value[l];
    if (kReduce == Reduce::kOr) sum |= value[l];
    if (kReduce == Reduce::kXor) sum ^= value[l];
  }
  T out[kLanes];
  std::fill(out, out + kLanes, sum);
  commit(warp.at<T>(inst.arg[0]), out, mask);
}

template <Reduce kReduce>
Handler reduce_of(Type type) {
  return type == Type::kS32 ? Handler(reduce<kReduce, int32_t>) : Handler(reduce<kReduce, uint32_t>);
}

void build_redux(Decoding& d) {
  if (!d.take("sync")) d.fail("redux.sync");
  d.inst.collective = true;
  Handler (*choose)(Type) = d.take("add")   ? reduce_of<Reduce::kAdd>
                            : d.take("min") ? reduce_of<Reduce::kMin>
                            : d.take("max") ? reduce_of<Reduce::kMax>
                            : d.take("and") ? reduce_of<Reduce::kAnd>
                            : d.take("or")  ? reduce_of<Reduce::kOr>
                            : d.take("xor") ? reduce_of<Reduce::kXor>
                                            : nullptr;
  const Type type = d.take_type();
  if (choose == nullptr || size_of(type) != 4 || is_float(type)) d.fail("a reduction of 32-bit integers");
  d.to(0, type);
  d.value(1, type);
  d.value(2, Type::kB32);
  d.emit(choose(type));
}

void active_mask(Warp& warp, const Inst& inst, Mask mask) {
  uint32_t out[kLanes];
  std::fill(out, out + kLanes, mask);
  commit(warp.at<uint32_t>(inst.arg[0]), out, mask);
}
void build_active(Decoding& d) {
  d.take_type();
  d.to(0, Type::kB32);
  d.emit(active_mask);
}

}  // namespace

void add_warp(Table& table) {
  table["shfl"] = build_shuffle;
  table["vote"] = build_vote;
  table["match"] = build_match;
  table["redux"] = build_redux;
  table["activemask"] = build_active;
}

}  // namespace ptx
}  // namespace ocelli
