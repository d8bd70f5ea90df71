// Between f32 and the 16-bit formats, one element at a time. Kernels have their own, wider ones and are tested against
// these.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/tensor.h"

namespace ocelli {

inline float widen_bf16(uint16_t bits) {
  uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

float widen_f16(uint16_t bits);
uint16_t narrow_bf16(float value);  // round to nearest even; NaN stays NaN
uint16_t narrow_f16(float value);

// Element `at` of f32, bf16 or f16 data of any alignment.
inline float read_element(const void* data, DType dtype, int64_t at) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(data) + at * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, static_cast<const char*>(data) + at * 2, 2);
  return dtype == DType::kBF16 ? widen_bf16(bits) : widen_f16(bits);
}

inline void write_element(void* data, DType dtype, int64_t at, float value) {
  if (dtype == DType::kF32) {
    std::memcpy(static_cast<char*>(data) + at * 4, &value, 4);
    return;
  }
  uint16_t bits = dtype == DType::kBF16 ? narrow_bf16(value) : narrow_f16(value);
  std::memcpy(static_cast<char*>(data) + at * 2, &bits, 2);
}

}  // namespace ocelli
