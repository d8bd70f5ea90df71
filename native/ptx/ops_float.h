// What the builders of float instructions share.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "ptx/decode.h"
#include "ptx/floats.h"

namespace ocelli {
namespace ptx {

// Options of f32 instructions.
constexpr uint32_t kFlush = 1;
constexpr uint32_t kSaturate = 2;

inline float flushed(float value) {
  return std::fabs(value) < std::numeric_limits<float>::min() ? std::copysign(0.f, value) : value;
}
inline float saturated(float value) { return value > 0 ? std::min(value, 1.f) : 0.f; }

// f32 with flushing of subnormal numbers or saturation.
template <class F, class... S>
struct Adjusted {
  uint32_t option;
  float operator()(S... s) const {
    float value = (option & kFlush) ? flushed(F{}(flushed(s)...)) : F{}(s...);
    return (option & kSaturate) ? saturated(value) : value;
  }
};
template <class F, class... S>
void adjusted(Warp& warp, const Inst& inst, Mask mask) {
  map_lanes<float, Adjusted<F, S...>, S...>(warp, inst, mask, Adjusted<F, S...>{inst.option},
                                            std::index_sequence_for<S...>{});
}

inline uint32_t float_options(Decoding& d) {
  uint32_t option = 0;
  if (d.take("ftz")) option |= kFlush;
  if (d.take("sat")) option |= kSaturate;
  return option;
}

inline Rounding take_rounding(Decoding& d) {
  if (d.take("rz")) return Rounding::kZero;
  if (d.take("rm")) return Rounding::kDown;
  if (d.take("rp")) return Rounding::kUp;
  d.take("rn");
  return Rounding::kNearest;
}

template <class F, class... S>
void build_float32(Decoding& d) {
  d.inst.option = float_options(d);
  d.emit(d.inst.option != 0 ? Handler(adjusted<F, S...>) : Handler(alu<F, float, S...>));
}

// Operand 0 and the sources behind it, all of one type.
inline void push(Decoding& d, Type type, size_t operands) {
  d.to(0, type);
  for (size_t i = 1; i <= operands; i++) d.value(i, type);
}

template <class F, class T>
Handler same() {
  if constexpr (std::is_invocable_v<F, T, T, T>) return alu<F, T, T, T, T>;
  if constexpr (std::is_invocable_v<F, T, T>) return alu<F, T, T, T>;
  if constexpr (std::is_invocable_v<F, T>) return alu<F, T, T>;
  return nullptr;
}

// The float types beside f32, whose results need no options.
template <class F>
Handler other_float(Decoding& d, Type type) {
  switch (type) {
    case Type::kF64:
      return same<F, double>();
    case Type::kF16:
      return same<F, Half>();
    case Type::kBF16:
      return same<F, BFloat>();
    case Type::kF16x2:
      return same<F, Pair<Half>>();
    case Type::kBF16x2:
      return same<F, Pair<BFloat>>();
    default:
      d.fail("a type of this instruction");
  }
}

}  // namespace ptx
}  // namespace ocelli
