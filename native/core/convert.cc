#include "core/convert.h"

namespace ocelli {

float widen_f16(uint16_t bits) {
  uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  uint32_t exponent = (bits >> 10) & 0x1f;
  uint32_t fraction = bits & 0x3ff;
  uint32_t wide;
  if (exponent == 0x1f) {
    wide = sign | 0x7f800000 | fraction << 13 |
           (fraction != 0 ? 0x400000 : 0);  // a NaN comes out quiet, as vcvtph2ps makes it
  } else if (exponent != 0) {
    wide = sign | (exponent + 112) << 23 | fraction << 13;
  } else if (fraction == 0) {
    wide = sign;
  } else {
    exponent = 113;
    while ((fraction & 0x400) == 0) {
      fraction <<= 1;
      exponent--;
    }
    wide = sign | exponent << 23 | (fraction & 0x3ff) << 13;
  }
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

uint16_t narrow_bf16(float value) {
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  if ((wide & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(wide >> 16 | 0x40);
  return static_cast<uint16_t>((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
}

uint16_t narrow_f16(float value) {
  uint32_t wide;
  std::memcpy(&wide, &value, 4);
  uint16_t sign = static_cast<uint16_t>(wide >> 16 & 0x8000);
  wide &= 0x7fffffff;
  if (wide > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (wide >> 13 & 0x3ff));
  if (wide >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);
  if (wide < 0x33000000) return sign;  // below half of the smallest denormal
  int shift = 13;
  uint32_t fraction = wide & 0x7fffff;
  uint32_t exponent = wide >> 23;
  if (exponent < 113) {
    shift += static_cast<int>(113 - exponent);
    fraction |= 0x800000;
    exponent = 0;
  } else {
    exponent -= 112;
  }
  uint32_t half = (exponent << 10) + (fraction >> shift);
  uint32_t rest = fraction & ((1u << shift) - 1);
  uint32_t middle = 1u << (shift - 1);
  if (rest > middle || (rest == middle && (half & 1) != 0)) half++;
  return static_cast<uint16_t>(sign | half);
}

}  // namespace ocelli
