// ld, st, atom, red, fences. Caching modifiers (.ca, .cg, .nc, .L2::128B, ...) do not change what is read: they are
// known and dropped. Fences are no-ops: the emulator runs one instruction after the other.
#include <algorithm>
#include <cstring>

#include "ptx/decode.h"
#include "ptx/floats.h"

namespace ocelli {
namespace ptx {
namespace {

void addresses(Warp& warp, const Inst& inst, Slot slot, uint64_t* out) {
  if (inst.wide_address) {
    const uint64_t* base = warp.at<uint64_t>(slot);
    for (int l = 0; l < kLanes; l++) out[l] = base[l] + static_cast<uint64_t>(inst.imm);
  } else {
    const uint32_t* base = warp.at<uint32_t>(slot);
    for (int l = 0; l < kLanes; l++) out[l] = base[l] + static_cast<uint64_t>(inst.imm);
  }
}

// Of one element in memory (inst.bytes) and one register (inst.option >> 1); bit 0 of the option extends the sign.
void store_register(char* to, int register_bytes, const uint8_t* from, int bytes, bool sign) {
  uint64_t value = 0;
  std::memcpy(&value, from, static_cast<size_t>(bytes));
  if (sign && bytes < 8 && (value >> (bytes * 8 - 1) & 1)) value |= ~uint64_t{0} << bytes * 8;
  std::memcpy(to, &value, static_cast<size_t>(register_bytes));
}

void load(Warp& warp, const Inst& inst, Mask mask) {
  uint64_t address[kLanes];
  uint8_t* where[kLanes];
  addresses(warp, inst, inst.arg[inst.count], address);
  resolve(warp, inst, mask, address, inst.count * inst.bytes, Access::kRead, where);
  const int register_bytes = static_cast<int>(inst.option >> 1);
  for (int i = 0; i < inst.count; i++) {
    char* to = warp.at<char>(inst.arg[i]);
    for (int l = 0; l < kLanes; l++) {
      if (mask >> l & 1)
        store_register(to + l * register_bytes, register_bytes, where[l] + i * inst.bytes, inst.bytes, inst.option & 1);
    }
  }
}

void load_parameter(Warp& warp, const Inst& inst, Mask mask) {
  const std::vector<uint8_t>& params = warp.block->launch->params;
  const int register_bytes = static_cast<int>(inst.option >> 1);
  const size_t at = *warp.at<uint64_t>(inst.arg[inst.count]) + static_cast<uint64_t>(inst.imm);
  for (int i = 0; i < inst.count; i++) {
    char* to = warp.at<char>(inst.arg[i]);
    for (int l = 0; l < kLanes; l++) {
      if (mask >> l & 1)
        store_register(to + l * register_bytes, register_bytes, params.data() + at + i * inst.bytes, inst.bytes,
                       inst.option & 1);
    }
  }
}

void store(Warp& warp, const Inst& inst, Mask mask) {
  uint64_t address[kLanes];
  uint8_t* where[kLanes];
  addresses(warp, inst, inst.arg[0], address);
  resolve(warp, inst, mask, address, inst.count * inst.bytes, Access::kWrite, where);
  const int register_bytes = static_cast<int>(inst.option >> 1);
  for (int i = 0; i < inst.count; i++) {
    const char* from = warp.at<char>(inst.arg[1 + i]);
    for (int l = 0; l < kLanes; l++) {
      if (mask >> l & 1) std::memcpy(where[l] + i * inst.bytes, from + l * register_bytes, inst.bytes);
    }
  }
}

Space take_space(Decoding& d) {
  if (d.take("global")) return Space::kGlobal;
  if (d.take("shared") || d.take("shared::cta")) return Space::kShared;
  if (d.take("local")) return Space::kLocal;
  if (d.take("const")) return Space::kConst;
  if (d.take("param")) return Space::kParam;
  return Space::kGeneric;
}

void drop_caching(Decoding& d) {
  for (const char* modifier : {"ca",
                               "cg",
                               "cs",
                               "lu",
                               "cv",
                               "wb",
                               "wt",
                               "nc",
                               "weak",
                               "volatile",
                               "relaxed",
                               "acquire",
                               "release",
                               "cta",
                               "gpu",
                               "L1::evict_normal",
                               "L1::evict_unchanged",
                               "L1::evict_first",
                               "L1::evict_last",
                               "L1::no_allocate",
                               "L2::64B",
                               "L2::128B",
                               "L2::256B"})
    d.take(modifier);
}

int take_vector(Decoding& d) { return d.take("v2") ? 2 : d.take("v4") ? 4 : 1; }

template <bool kLoad>
void build_access(Decoding& d) {
  drop_caching(d);
  d.inst.space = take_space(d);
  const int count = take_vector(d);
  const Type type = d.take_type();
  d.inst.count = static_cast<uint8_t>(count);
  d.inst.bytes = static_cast<uint8_t>(size_of(type));
  const Operand& data = d.operand(kLoad ? 0 : 1);
  const std::vector<Operand> parts = data.kind == Operand::Kind::kVector ? data.parts : std::vector<Operand>{data};
  if (static_cast<int>(parts.size()) != count) d.fail(std::to_string(count) + " registers");
  if (!kLoad) d.address(0);
  // Integer registers may be wider than the type; all parts are alike.
  Type own = type;
  for (const Operand& part : parts) {
    if (part.kind == Operand::Kind::kRegister) own = d.register_type(part);
  }
  if (size_of(own) < size_of(type)) d.fail("registers of at least the type's size");
  for (const Operand& part : parts) kLoad ? d.to(part, own) : d.value(part, own);
  if (kLoad) d.address(1);
  d.inst.option = static_cast<uint32_t>(size_of(own)) << 1 | (is_signed(type) ? 1 : 0);
  if (d.inst.space == Space::kParam) {
    if (!kLoad) d.fail("no writes to a kernel's parameters");
    return d.emit(load_parameter);
  }
  d.emit(kLoad ? load : store);
}

enum class Atomic : uint8_t { kAdd, kMin, kMax, kAnd, kOr, kXor, kExchange, kCompare, kInc, kDec };

template <Atomic kAtomic, class T>
T updated(T old, T value, T other) {
  if constexpr (kAtomic == Atomic::kExchange) return value;
  if constexpr (kAtomic == Atomic::kCompare) return old == value ? other : old;
  if constexpr (kAtomic == Atomic::kAdd) return old + value;
  if constexpr (kAtomic == Atomic::kMin) return std::min(old, value);
  if constexpr (kAtomic == Atomic::kMax) return std::max(old, value);
  if constexpr (std::is_integral_v<T>) {
    if constexpr (kAtomic == Atomic::kAnd) return old & value;
    if constexpr (kAtomic == Atomic::kOr) return old | value;
    if constexpr (kAtomic == Atomic::kXor) return old ^ value;
    if constexpr (kAtomic == Atomic::kInc) return old >= value ? 0 : old + 1;
    if constexpr (kAtomic == Atomic::kDec) return old == 0 || old > value ? value : old - 1;
  }
  return old;
}

// arg: result (or none), address, value, other value. Lanes take turns in ascending order.
template <Atomic kAtomic, class T>
void atomic(Warp& warp, const Inst& inst, Mask mask) {
  uint64_t address[kLanes];
  uint8_t* where[kLanes];
  addresses(warp, inst, inst.arg[1], address);
  resolve(warp, inst, mask, address, sizeof(T), Access::kAtomic, where);
  const T* value = warp.at<T>(inst.arg[2]);
  const T* other = warp.at<T>(inst.arg[3]);
  T out[kLanes] = {};
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    std::memcpy(&out[l], where[l], sizeof(T));
    const T result = updated<kAtomic, T>(out[l], value[l], other[l]);
    std::memcpy(where[l], &result, sizeof(T));
  }
  if (inst.arg[0] != kNoSlot) commit(warp.at<T>(inst.arg[0]), out, mask);
}

template <Atomic kAtomic>
Handler atomic_of(Decoding& d, Type type) {
  if constexpr (kAtomic <= Atomic::kMax) {
    if (type == Type::kF32 && kAtomic == Atomic::kAdd) return atomic<kAtomic, float>;
    if (type == Type::kF64 && kAtomic == Atomic::kAdd) return atomic<kAtomic, double>;
  }
  if (is_float(type)) d.fail("an integer type, or add of f32 or f64");
  if (size_of(type) < 4) d.fail("32 or 64 bits");
  return for_integer(d, type, [](auto tag) -> Handler { return atomic<kAtomic, typename decltype(tag)::type>; });
}

template <bool kResult>
void build_atomic(Decoding& d) {
  drop_caching(d);
  d.inst.space = take_space(d);
  const struct {
    const char* name;
    Handler (*choose)(Decoding&, Type);
  } kRows[] = {{"add", atomic_of<Atomic::kAdd>},       {"min", atomic_of<Atomic::kMin>},
               {"max", atomic_of<Atomic::kMax>},       {"and", atomic_of<Atomic::kAnd>},
               {"or", atomic_of<Atomic::kOr>},         {"xor", atomic_of<Atomic::kXor>},
               {"exch", atomic_of<Atomic::kExchange>}, {"cas", atomic_of<Atomic::kCompare>},
               {"inc", atomic_of<Atomic::kInc>},       {"dec", atomic_of<Atomic::kDec>}};
  Handler (*choose)(Decoding&, Type) = nullptr;
  for (const auto& row : kRows) {
    if (d.take(row.name)) choose = row.choose;
  }
  if (choose == nullptr) d.fail("an atomic operation");
  const Type type = d.take_type();
  const size_t at = kResult ? 1 : 0;
  kResult ? d.to(0, type) : d.arg(kNoSlot);
  d.address(at);
  d.value(at + 1, type);
  d.value(d.operands() > at + 2 ? at + 2 : at + 1, type);
  d.emit(choose(d, type));
}

void nothing(Warp&, const Inst&, Mask) {}

void build_fence(Decoding& d) {
  for (const char* modifier : {"cta", "gpu", "gl", "sys", "sc", "acq_rel"}) d.take(modifier);
  d.emit(nothing);
}

void build_prefetch(Decoding& d) {
  d.take("L1");
  d.take("L2");
  take_space(d);
  d.emit(nothing);
}

}  // namespace

void add_memory(Table& table) {
  table["ld"] = build_access<true>;
  table["st"] = build_access<false>;
  table["atom"] = build_atomic<true>;
  table["red"] = build_atomic<false>;
  table["membar"] = table["fence"] = build_fence;
  table["prefetch"] = build_prefetch;
}

}  // namespace ptx
}  // namespace ocelli
