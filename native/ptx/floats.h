// Arithmetic as IEEE 754 defines it for the formats that the host lacks or rounds otherwise: f16, bf16, and f32 with
// directed rounding. Everything goes through a double that is rounded to odd, so that the one rounding that counts is
// the last (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace ocelli {
namespace ptx {

enum class Rounding : uint8_t { kNearest, kZero, kDown, kUp };

template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "a view of the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// `value` in a format of kExponent and kMantissa bits, as its bits.
template <int kExponent, int kMantissa>
uint32_t narrow(double value, Rounding rounding = Rounding::kNearest) {
  constexpr uint32_t kInfinity = ((1u << kExponent) - 1) << kMantissa;
  constexpr int kLeast = 2 - (1 << (kExponent - 1));  // the exponent of the smallest normal number
  const uint64_t bits = bits_as<uint64_t>(value);
  const bool negative = bits >> 63;
  const uint32_t sign = negative ? 1u << (kExponent + kMantissa) : 0;
  if (std::isnan(value)) return kInfinity | ((1u << kMantissa) - 1);
  if (std::isinf(value)) return sign | kInfinity;
  const int exponent = static_cast<int>(bits >> 52 & 0x7ff) - 1023;
  if (exponent == -1023) {  // a double's subnormals are below every format's: zero, or the least number
    const bool away = value != 0 && (negative ? rounding == Rounding::kDown : rounding == Rounding::kUp);
    return sign | (away ? 1 : 0);
  }
  const uint64_t mantissa = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1} << 52;
  int shift = 52 - kMantissa + (exponent < kLeast ? kLeast - exponent : 0);
  if (shift > 62) shift = 62;
  const uint64_t kept = mantissa >> shift;
  const uint64_t rest = mantissa & ((uint64_t{1} << shift) - 1);
  const uint64_t half = uint64_t{1} << (shift - 1);
  bool up = false;
  if (rounding == Rounding::kNearest) up = rest > half || (rest == half && (kept & 1));
  if (rounding == Rounding::kDown) up = negative && rest != 0;
  if (rounding == Rounding::kUp) up = !negative && rest != 0;
  const uint64_t base = exponent > kLeast ? static_cast<uint64_t>(exponent - kLeast) << kMantissa : 0;
  const uint64_t result = base + kept + (up ? 1 : 0);
  if (result < kInfinity) return sign | static_cast<uint32_t>(result);
  const bool to_infinity = rounding == Rounding::kNearest || (rounding == Rounding::kDown && negative) ||
                           (rounding == Rounding::kUp && !negative);
  return sign | (to_infinity ? kInfinity : kInfinity - 1);
}

// a + b, of which a rounding to at most 24 bits equals the rounding of the exact sum.
inline double sum_to_odd(double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  const double error = (a - (sum - part)) + (b - part);
  uint64_t bits = bits_as<uint64_t>(sum);
  if (!(error != 0) || !std::isfinite(sum) || (bits & 1)) return sum;
  bits += (error > 0) == (sum > 0) ? 1 : -1;
  return bits_as<double>(bits);
}

template <int kExponent, int kMantissa>
struct Small {
  uint16_t bits = 0;
  Small() = default;
  explicit Small(double value, Rounding rounding = Rounding::kNearest)
      : bits(static_cast<uint16_t>(narrow<kExponent, kMantissa>(value, rounding))) {}
  explicit operator double() const {
    const uint32_t exponent = bits >> kMantissa & ((1u << kExponent) - 1);
    const uint32_t mantissa = bits & ((1u << kMantissa) - 1);
    if (kExponent == 8) return bits_as<float>(static_cast<uint32_t>(bits) << 16);
    double value =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(mantissa + 1024, static_cast<int>(exponent) - 25);
    if (exponent == 31) value = mantissa != 0 ? NAN : INFINITY;
    return bits >> 15 ? -value : value;
  }
  explicit operator float() const { return static_cast<float>(static_cast<double>(*this)); }
};
using Half = Small<5, 10>;
using BFloat = Small<8, 7>;

template <class T>
struct Pair {
  T low, high;
};

template <int E, int M>
Small<E, M> operator+(Small<E, M> a, Small<E, M> b) {
  return Small<E, M>(sum_to_odd(double(a), double(b)));
}
template <int E, int M>
Small<E, M> operator-(Small<E, M> a, Small<E, M> b) {
  return Small<E, M>(sum_to_odd(double(a), -double(b)));
}
template <int E, int M>
Small<E, M> operator*(Small<E, M> a, Small<E, M> b) {
  return Small<E, M>(double(a) * double(b));
}
template <int E, int M>
Small<E, M> fused(Small<E, M> a, Small<E, M> b, Small<E, M> c) {
  return Small<E, M>(sum_to_odd(double(a) * double(b), double(c)));
}
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline double fused(double a, double b, double c) { return std::fma(a, b, c); }

template <class T>
Pair<T> operator+(Pair<T> a, Pair<T> b) {
  return {a.low + b.low, a.high + b.high};
}
template <class T>
Pair<T> operator-(Pair<T> a, Pair<T> b) {
  return {a.low - b.low, a.high - b.high};
}
template <class T>
Pair<T> operator*(Pair<T> a, Pair<T> b) {
  return {a.low * b.low, a.high * b.high};
}
template <class T>
Pair<T> fused(Pair<T> a, Pair<T> b, Pair<T> c) {
  return {fused(a.low, b.low, c.low), fused(a.high, b.high, c.high)};
}

}  // namespace ptx
}  // namespace ocelli
