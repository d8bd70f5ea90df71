// Quantised linear weights, and how activations meet them: what `quantization` and `accuracy` choose, stated once for the
// reference and every kernel.
//
//   i8: w = scale * q, q in [-127, 127]          i4: w = scale * q + least, q in [0, 15]       scale and least are f16
//
// Weights have a scale for each block of 32 along k, and i8_rows one for the whole row. Activations are quantised once
// per row of a linear op: q = round(x * 127 / max|x|), over each block of 32 (i8, i4) or over the whole row (i8_rows,
// i4_rows); or with 127 * 128 for 127 (i8_exact, i4_exact), which two bytes hold. Products and sums of quants are exact
// in int32; blocks add up in f32 in ascending order, where there are any. Weights that a file has quantised keep their
// quants where a format holds them: Q8_0, Q5_0 and Q4_0 in i8, Q4_0, Q4_1 and Q4_K in i4, whose scales are found again
// (Q4_K's have more bits than f16, and are rounded).
#pragma once

#include <cstdint>

#include "core/convert.h"
#include "core/tensor.h"

namespace ocelli {

constexpr int64_t kQuantBlock = 32;

inline int64_t quant_blocks(int64_t k) { return (k + kQuantBlock - 1) / kQuantBlock; }

struct QuantBlock {
  uint16_t scale = 0;  // f16
  uint16_t least = 0;  // f16; 0 in i8
  int8_t q[kQuantBlock] = {};
};

// Functions below are static: each instruction set compiles its own.

// To the nearest integer, ties to even, for |x| < 2^22.
static inline float round_to_integer(float x) { return (x + 12582912.f) - 12582912.f; }

static inline float clamp(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

// Fills q for the block's scale and least; returns the squared error.
static inline float fill_block(const float* x, float low, float high, QuantBlock* block) {
  float scale = widen_f16(block->scale);
  float least = widen_f16(block->least);
  float inverse = scale != 0 ? 1 / scale : 0;
  float q[kQuantBlock];
  float error = 0;
  for (int i = 0; i < kQuantBlock; i++) q[i] = clamp(round_to_integer((x[i] - least) * inverse), low, high);
  for (int i = 0; i < kQuantBlock; i++) {
    float d = x[i] - (q[i] * scale + least);
    error += d * d;
    block->q[i] = static_cast<int8_t>(q[i]);
  }
  return error;
}

// How far x is from a whole number of steps above `least`, at most half.
static inline float off_grid(float x, float least, float inverse) {
  float q = (x - least) * inverse;
  return q - round_to_integer(q);
}

// The steps in `range` of the coarsest grid that all of x lie on, as blocks do that a file has quantised, up to `most`;
// `usual` where there is none. What is accepted is nearer than rounding to the usual steps would be.
static inline int steps_of(const float* x, float least, float range, int most, int usual) {
  constexpr int kMost = 16;
  constexpr int kFirst = 2;
  constexpr float kNear = 0x1p-20f;  // squared
  if (!(range > 0)) return usual;
  // The first weights beside every grid, in vectors: hardly a block of other weights has to be looked at further.
  float first[kMost] = {};
  float inverse = 1 / range;
  for (int i = 0; i < kFirst; i++) {
    for (int s = 0; s < kMost; s++) {
      float off = off_grid(x[i], least, static_cast<float>(s + 1) * inverse);
      first[s] += off * off;
    }
  }
  for (int steps = 1; steps <= most; steps++) {
    if (!(first[steps - 1] < kFirst * kNear)) continue;
    float scale = range / static_cast<float>(steps);
    if (scale > 65504) continue;  // f16 has no larger scale
    bool near = true;
    for (int i = 0; i < kQuantBlock && near; i++) {
      float off = off_grid(x[i], least, 1 / scale);
      near = off * off < kNear;
    }
    if (near) return steps;
  }
  return usual;
}

// max|x|, and NaN where something is not finite: scales made of it are NaN, so that results are NaN too.
static inline float largest_weight(const float* x, int64_t count) {
  float largest = 0;
  float check = 0;
  for (int64_t i = 0; i < count; i++) {
    float magnitude = x[i] < 0 ? -x[i] : x[i];
    largest = magnitude > largest ? magnitude : largest;
    check += x[i] - x[i];
  }
  return largest + check;
}

// The scale of a row of i8_rows, f16.
static inline uint16_t row_scale(const float* x, int64_t k) { return narrow_f16(largest_weight(x, k) / 127); }

// 32 weights of a row with that scale.
static inline void quantize_i8(const float* x, uint16_t scale, QuantBlock* block) {
  *block = QuantBlock();
  block->scale = scale;
  if (widen_f16(scale) == widen_f16(scale)) fill_block(x, -127, 127, block);
}

// 32 weights with a scale of their own.
static inline void quantize_i8(const float* x, QuantBlock* block) {
  float largest = largest_weight(x, kQuantBlock);
  // Five bits and fewer have 16 steps on either side.
  int steps = largest == largest ? steps_of(x, 0, largest, 16, 127) : 127;
  quantize_i8(x, narrow_f16(largest / static_cast<float>(steps)), block);
}

// The better of two grids: from the smallest weight to the largest, or with 0 on it and -8 for the weight of largest
// magnitude (Q4_0's).
static inline void quantize_i4(const float* x, QuantBlock* block) {
  float low = x[0];
  float high = x[0];
  float check = 0;
  for (int i = 0; i < kQuantBlock; i++) {
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
    check += x[i] - x[i];
  }
  *block = QuantBlock();
  int steps = check == 0 ? steps_of(x, low, high - low, 14, 15) : 15;
  block->scale = narrow_f16((high - low) / static_cast<float>(steps) + check);
  block->least = narrow_f16(low);
  if (check != 0) return;
  float error = fill_block(x, 0, 15, block);
  if (error == 0) return;
  QuantBlock other;
  other.scale = narrow_f16((-low > high ? low : high) / -8);
  other.least = narrow_f16(-8 * widen_f16(other.scale));
  if (fill_block(x, 0, 15, &other) < error) *block = other;
}

// Block `x` of a row whose scale is `row`, which i8_rows alone needs.
static inline void quantize_block(const float* x, WeightFormat format, uint16_t row, QuantBlock* block) {
  if (four_bits(format)) {
    quantize_i4(x, block);
  } else if (format == WeightFormat::kI8Rows) {
    quantize_i8(x, row, block);
  } else {
    quantize_i8(x, block);
  }
}

// How activations meet weights.
enum class Activations { kBlocks, kRows, kExact };

constexpr Activations activations_of(WeightFormat format) {
  return format == WeightFormat::kI8 || format == WeightFormat::kI4           ? Activations::kBlocks
         : format == WeightFormat::kI8Rows || format == WeightFormat::kI4Rows ? Activations::kRows
                                                                              : Activations::kExact;
}

// An activation's scale over `largest` = max|x|, and what x is multiplied by; rows too small to matter are 0.
struct ActivationScale {
  float scale;
  float inverse;
};
static inline ActivationScale activation_scale(float largest, Activations activations) {
  if (largest < 1e-30f) return {0, 0};
  float most = activations == Activations::kExact ? 127 * 128 : 127;
  return {largest / most, most / largest};
}

}  // namespace ocelli
