// mov, cvt, cvta, isspacep.
#include <cmath>
#include <limits>

#include "ptx/decode.h"
#include "ptx/floats.h"

namespace ocelli {
namespace ptx {
namespace {

template <class T>
void move(Warp& warp, const Inst& inst, Mask mask) {
  commit(warp.at<T>(inst.arg[0]), warp.at<T>(inst.arg[1]), mask);
}

void move_predicate(Warp& warp, const Inst& inst, Mask mask) {
  Mask* to = warp.at<Mask>(inst.arg[0]);
  *to = (*to & ~mask) | (*warp.at<Mask>(inst.arg[1]) & mask);
}

// mov.b32 {lo, hi}, r: parts of `bytes` each, first part lowest.
void unpack(Warp& warp, const Inst& inst, Mask mask) {
  const int whole = inst.count * inst.bytes;
  char copy[kLanes * 8];
  std::memcpy(copy, warp.at<char>(inst.arg[inst.count]), static_cast<size_t>(whole) * kLanes);
  for (int part = 0; part < inst.count; part++) {
    char* to = warp.at<char>(inst.arg[part]);
    for (int l = 0; l < kLanes; l++) {
      if (mask >> l & 1) std::memcpy(to + l * inst.bytes, copy + l * whole + part * inst.bytes, inst.bytes);
    }
  }
}

void pack(Warp& warp, const Inst& inst, Mask mask) {
  const int whole = inst.count * inst.bytes;
  char out[kLanes * 8];
  for (int part = 0; part < inst.count; part++) {
    const char* from = warp.at<char>(inst.arg[1 + part]);
    for (int l = 0; l < kLanes; l++)
      std::memcpy(out + l * whole + part * inst.bytes, from + l * inst.bytes, inst.bytes);
  }
  char* to = warp.at<char>(inst.arg[0]);
  for (int l = 0; l < kLanes; l++) {
    if (mask >> l & 1) std::memcpy(to + l * whole, out + l * whole, static_cast<size_t>(whole));
  }
}

Type bits_type(int bytes) {
  return bytes == 1 ? Type::kB8 : bytes == 2 ? Type::kB16 : bytes == 4 ? Type::kB32 : Type::kB64;
}

void build_mov(Decoding& d) {
  const Type type = d.take_type();
  const Operand& to = d.operand(0);
  const Operand& from = d.operand(1);
  if (to.kind == Operand::Kind::kVector || from.kind == Operand::Kind::kVector) {
    const bool unpacks = to.kind == Operand::Kind::kVector;
    const std::vector<Operand>& parts = unpacks ? to.parts : from.parts;
    d.inst.count = static_cast<uint8_t>(parts.size());
    d.inst.bytes = static_cast<uint8_t>(size_of(type) / static_cast<int>(parts.size()));
    if (!unpacks) d.to(0, type);
    for (const Operand& part : parts)
      unpacks ? d.to(part, bits_type(d.inst.bytes)) : d.value(part, bits_type(d.inst.bytes));
    if (unpacks) d.value(1, type);
    return d.emit(unpacks ? unpack : pack);
  }
  d.to(0, type);
  d.value(1, type);
  if (type == Type::kPred) return d.emit(move_predicate);
  d.emit(for_unsigned(d, type, [](auto tag) -> Handler { return move<typename decltype(tag)::type>; }));
}

// What a float becomes on its way to an integer or another float.
struct How {
  Rounding rounding = Rounding::kNearest;
  bool to_integral = false;  // rni and the like between floats
  bool saturate = false;
  bool flush = false;
  bool relu = false;
};

double integral(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::kZero:
      return std::trunc(value);
    case Rounding::kDown:
      return std::floor(value);
    case Rounding::kUp:
      return std::ceil(value);
    default:
      return std::nearbyint(value);
  }
}

template <class D, class S>
D converted(S from, const How& how) {
  if constexpr (std::is_integral_v<D> && std::is_integral_v<S>) {
    if (!how.saturate) return static_cast<D>(from);
    const __int128 value = from;
    const __int128 low = std::numeric_limits<D>::min(), high = std::numeric_limits<D>::max();
    return static_cast<D>(value < low ? low : value > high ? high : value);
  } else if constexpr (std::is_integral_v<D>) {  // always saturates; NaN becomes 0 (the 64-bit types: the sign bit)
    double value = double(from);
    if (how.flush && std::fabs(value) < std::numeric_limits<float>::min()) value = 0;
    if (std::isnan(value)) return sizeof(D) == 8 ? static_cast<D>(uint64_t{1} << 63) : D{0};
    value = integral(value, how.rounding);
    if (value <= static_cast<double>(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
    if (value >= static_cast<double>(std::numeric_limits<D>::max())) return std::numeric_limits<D>::max();
    return static_cast<D>(value);
  } else {
    if constexpr (sizeof(S) == 8 && std::is_integral_v<S>) {
      // 64-bit integers do not fit a double: rounding once to f64 and again would be wrong for the rest.
      if (how.rounding == Rounding::kNearest && std::is_floating_point_v<D>) return static_cast<D>(from);
    }
    double value = double(from);
    if (how.flush && std::fabs(value) < std::numeric_limits<float>::min()) value = std::copysign(0.0, value);
    if (how.to_integral) value = integral(value, how.rounding);
    if (how.relu && !(value > 0)) value = std::isnan(value) ? value : 0;
    if (how.saturate) value = value > 0 ? std::fmin(value, 1.0) : 0.0;
    if constexpr (std::is_same_v<D, double>) return value;
    if constexpr (std::is_same_v<D, float>) {
      if (how.rounding == Rounding::kNearest || how.to_integral) return static_cast<float>(value);
      return bits_as<float>(narrow<8, 23>(value, how.rounding));
    }
    if constexpr (!std::is_floating_point_v<D>) return D(value, how.rounding);
  }
}

constexpr uint32_t kSaturate = 4, kFlush = 8, kRelu = 16, kIntegral = 32;  // bits 0..1: Rounding
How how_of(const Inst& inst) {
  return {static_cast<Rounding>(inst.option & 3), (inst.option & kIntegral) != 0, (inst.option & kSaturate) != 0,
          (inst.option & kFlush) != 0, (inst.option & kRelu) != 0};
}

template <class D, class S>
struct Convert {
  How how;
  D operator()(S from) const { return converted<D>(from, how); }
};

template <class D, class S>
void convert(Warp& warp, const Inst& inst, Mask mask) {
  map_lanes<D, Convert<D, S>, S>(warp, inst, mask, Convert<D, S>{how_of(inst)}, std::index_sequence_for<S>{});
}
template <class D, class S>
void convert_wide(Warp& warp, const Inst& inst,
                  Mask mask) {  // registers of `count` and `bytes` bytes, wider than the types
  const How how = how_of(inst);
  const char* from = warp.at<char>(inst.arg[1]);
  char* to = warp.at<char>(inst.arg[0]);
  for (int l = 0; l < kLanes; l++) {
    if (!(mask >> l & 1)) continue;
    S source;
    std::memcpy(&source, from + l * inst.count, sizeof source);
    const D result = converted<D>(source, how);
    if constexpr (std::is_integral_v<D>) {
      const int64_t wide = static_cast<int64_t>(result);
      std::memcpy(to + l * inst.bytes, &wide, inst.bytes);
    } else {
      std::memcpy(to + l * inst.bytes, &result, sizeof result);
    }
  }
}

template <class F>
Handler for_any(Decoding& d, Type type, F f) {
  switch (type) {
    case Type::kF16:
      return f(Tag<Half>{});
    case Type::kBF16:
      return f(Tag<BFloat>{});
    case Type::kF32:
      return f(Tag<float>{});
    case Type::kF64:
      return f(Tag<double>{});
    default:
      return for_integer(d, type, f);
  }
}

template <class T>
struct PairOf {  // cvt.rn.bf16x2.f32 d, high, low
  How how;
  Pair<T> operator()(float high, float low) const { return {converted<T>(low, how), converted<T>(high, how)}; }
};
template <class T>
void convert_pair(Warp& warp, const Inst& inst, Mask mask) {
  map_lanes<Pair<T>, PairOf<T>, float, float>(warp, inst, mask, PairOf<T>{how_of(inst)},
                                              std::index_sequence_for<float, float>{});
}

// tf32 keeps f32's exponent and 10 bits of its mantissa; ties go away from zero.
struct ToTf32 {
  uint32_t operator()(float a) const {
    const uint32_t bits = bits_as<uint32_t>(a);
    return std::isfinite(a) ? (bits + 0x1000) & ~0x1fffu : bits;
  }
};

void build_cvt(Decoding& d) {
  uint32_t option = 0;
  const struct {
    const char* name;
    Rounding rounding;
    bool integral;
  } kRoundings[] = {{"rn", Rounding::kNearest, false}, {"rz", Rounding::kZero, false},
                    {"rm", Rounding::kDown, false},    {"rp", Rounding::kUp, false},
                    {"rni", Rounding::kNearest, true}, {"rzi", Rounding::kZero, true},
                    {"rmi", Rounding::kDown, true},    {"rpi", Rounding::kUp, true}};
  for (const auto& row : kRoundings) {
    if (d.take(row.name)) option |= static_cast<uint32_t>(row.rounding) | (row.integral ? kIntegral : 0);
  }
  if (d.take("sat")) option |= kSaturate;
  if (d.take("ftz")) option |= kFlush;
  if (d.take("relu")) option |= kRelu;
  if (d.take("rna")) {
    if (!d.take("tf32") || d.take_type() != Type::kF32) d.fail("tf32 from f32");
    d.to(0, Type::kB32);
    d.value(1, Type::kF32);
    return d.emit(alu<ToTf32, uint32_t, float>);
  }
  const Type to = d.take_type(), from = d.take_type();
  d.inst.option = option;
  if (to == Type::kF16x2 || to == Type::kBF16x2) {
    if (from != Type::kF32) d.fail("f32 to make pairs of");
    d.to(0, to);
    d.value(1, Type::kF32);
    d.value(2, Type::kF32);
    return d.emit(to == Type::kF16x2 ? convert_pair<Half> : convert_pair<BFloat>);
  }
  // A register may be wider than the type; a constant is as wide as the type.
  const Operand& source = d.operand(1);
  const Type from_register = source.kind == Operand::Kind::kRegister ? d.register_type(source) : from;
  const Type to_register = d.register_type(d.operand(0));
  if (size_of(from_register) < size_of(from) || size_of(to_register) < size_of(to))
    d.fail("registers of the types' sizes");
  d.to(0, to_register);
  d.value(1, from_register);
  const bool exact = size_of(from_register) == size_of(from) && size_of(to_register) == size_of(to);
  d.inst.count = static_cast<uint8_t>(size_of(from_register));
  d.inst.bytes = static_cast<uint8_t>(size_of(to_register));
  d.emit(for_any(d, to, [&](auto to_tag) -> Handler {
    return for_any(d, from, [&](auto from_tag) -> Handler {
      using D = typename decltype(to_tag)::type;
      using S = typename decltype(from_tag)::type;
      return exact ? convert<D, S> : convert_wide<D, S>;
    });
  }));
}

struct Shift {
  uint64_t by;
  uint64_t operator()(uint64_t a) const { return a + by; }
};
void shift(Warp& warp, const Inst& inst, Mask mask) {
  map_lanes<uint64_t, Shift, uint64_t>(warp, inst, mask, Shift{static_cast<uint64_t>(inst.imm)},
                                       std::index_sequence_for<uint64_t>{});
}
// Between a space's own addresses and the generic ones, in which each space is a window.
void build_cvta(Decoding& d) {
  const bool to_space = d.take("to");
  uint64_t window = 0;
  if (d.take("shared")) {
    window = kSharedWindow;
  } else if (d.take("local")) {
    window = kLocalWindow;
  } else if (!d.take("global") && !d.take("const")) {
    d.fail("a space");
  }
  if (size_of(d.take_type()) != 8) d.fail("64-bit addresses");
  d.inst.imm = static_cast<int64_t>(to_space ? 0 - window : window);
  d.to(0, Type::kB64);
  d.value(1, Type::kB64);
  d.emit(shift);
}

}  // namespace

void add_convert(Table& table) {
  table["mov"] = build_mov;
  table["cvt"] = build_cvt;
  table["cvta"] = build_cvta;
}

}  // namespace ptx
}  // namespace ocelli
