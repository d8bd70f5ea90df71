// Activations of a row in blocks of 32, as core/quantize.h has them.
#pragma once

#include "core/quantize.h"
#include "cpu/dot.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// The bytes of an exact activation: 128 * high + low.
constexpr int kLowBits = 7;
constexpr int parts_of(Activations activations) { return activations == Activations::kExact ? 2 : 1; }

// Bytes from a block's high quants to its low ones: vectors are stored whole.
constexpr int64_t kQuantStride = kQuantBlock + 64;

// max|x|, and NaN where something is not finite.
inline float largest_of(const float* x, int64_t n) {
  Vec most[2] = {zero(), zero()};
  Vec check[2] = {zero(), zero()};
  const auto add = [&](int i, Vec v) {
    most[i] = max(most[i], abs(v));
    check[i] = check[i] + (v - v);
  };
  int64_t at = 0;
  for (; at + 2 * kLanes <= n; at += 2 * kLanes) {
    add(0, load(x + at));
    add(1, load(x + at + kLanes));
  }
  for_vectors<F32>(x + at, n - at, [&](int64_t, Vec v, int) { add(0, v); });
  return largest(max(most[0], most[1])) + sum(check[0] + check[1]);
}

// 32 elements of a row times `inverse`, rounded; returns their sum. A vector is stored beyond a short block.
template <int kParts>
inline int32_t quantize(const float* x, int64_t count, float inverse, int8_t* q) {
  Int total = set1_int(0);
  int64_t i = 0;
  for (; i < count; i += kLanes) {
    Vec v = load_some(x + i, static_cast<int>(count - i < kLanes ? count - i : kLanes));
    Int rounded = to_int(v * set1(inverse));
    total = add_int(total, rounded);
    if constexpr (kParts == 1) {
      store_i8(q + i, rounded);
    } else {
      // Shifts are logical, so the number is made positive first: |rounded| < 2^14.
      Int raised = add_int(rounded, set1_int((1 << 14) + (1 << (kLowBits - 1))));
      store_i8(q + i, add_int(shift_right<kLowBits>(raised), set1_int(-(1 << (14 - kLowBits)))));
      Int low = and_int(raised, set1_int((1 << kLowBits) - 1));
      store_i8(q + kQuantStride + i, add_int(low, set1_int(-(1 << (kLowBits - 1)))));
    }
  }
  for (; i < kQuantBlock; i++) q[i] = q[(kParts - 1) * kQuantStride + i] = 0;
  return static_cast<int32_t>(sum(to_float(total)));  // exact: below 2^24
}

// f(block, its quants, their scale, their sum) for every block of a row. A block that is not finite is 0 times NaN.
template <Activations kActivations, class F>
inline void quantize_row(const float* x, int64_t k, const F& f) {
  constexpr bool kRows = kActivations == Activations::kRows;
  constexpr int kParts = parts_of(kActivations);
  ActivationScale whole = kRows ? activation_scale(largest_of(x, k), kActivations) : ActivationScale();
  for (int64_t b = 0; b < quant_blocks(k); b++) {
    int64_t count = k - b * kQuantBlock < kQuantBlock ? k - b * kQuantBlock : kQuantBlock;
    const float* from = x + b * kQuantBlock;
    ActivationScale scale = kRows ? whole : activation_scale(largest_of(from, count), kActivations);
    int8_t q[kParts * kQuantStride];
    bool finite = scale.scale == scale.scale;
    int32_t sum = finite ? quantize<kParts>(from, count, scale.inverse, q) : 0;
    if (!finite) std::memset(q, 0, sizeof(q));
    f(b, q, scale.scale, sum);
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
