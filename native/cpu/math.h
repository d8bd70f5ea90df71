// exp, tanh and the activations by polynomials. Errors are the largest found against long double on 10^7 points of the
// ranges named, with FMA; the polynomials are minimax fits of degree and range as written.
#pragma once

#include "core/op.h"
#include "cpu/simd.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// e^x within 2 ulp; exactly 0 below -87.33 (where the result would be denormal), infinity above 88.72, NaN for NaN.
inline Vec exp(Vec x) {
  // x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in two parts, so that n times the first is exact.
  Vec n = round(x * set1(1.44269504f));
  Vec r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  Vec p = set1(0.001381455920636654f);
  p = fma(p, r, set1(0.008368735201656818f));
  p = fma(p, r, set1(0.04166838899254799f));
  p = fma(p, r, set1(0.1666652113199234f));
  p = fma(p, r, set1(0.4999999403953552f));
  p = fma(p, r * r, r) + set1(1.f);
  Vec scaled = scale_by_power(p, n);
  scaled = select(less(x, set1(-87.33f)), zero(), scaled);
  scaled = select(less(set1(88.722839f), x), set1(__builtin_inff()), scaled);
  return select(is_nan(x), x, scaled);
}

// 2^x for x <= 0 within 2 ulp: the weights of a softmax. Exactly 0 below -126, -infinity too; NaN for NaN.
inline Vec exp2_weight(Vec x) {
  x = max(set1(-160.f), x);  // a NaN is the second operand's
  Vec n = round(x);
  Vec r = x - n;
  Vec p = set1(0.00015353361959569156f);
  p = fma(p, r, set1(0.0013398875016719103f));
  p = fma(p, r, set1(0.00961843691766262f));
  p = fma(p, r, set1(0.055503323674201965f));
  p = fma(p, r, set1(0.24022647738456726f));
  p = fma(p, r, set1(0.6931471824645996f));
  p = fma(p, r, set1(1.f));
  return scale_down(p, n);
}

// tanh x within 3 ulp.
inline Vec tanh(Vec x) {
  Vec z = x * x;
  Vec p = set1(-0.00571705f);
  p = fma(p, z, set1(0.02065059f));
  p = fma(p, z, set1(-0.0537435f));
  p = fma(p, z, set1(0.13331491f));
  p = fma(p, z, set1(-0.33333284f));
  Vec small = fma(p * z, x, x);
  Vec large = set1(1.f) - set1(2.f) / (exp(abs(x) * set1(2.f)) + set1(1.f));
  large = select(less(x, zero()), zero() - large, large);
  return select(less(abs(x), set1(0.625f)), small, large);
}

// x times the normal distribution function of x. With z = |x| / sqrt 2 and t = 1 / (1 + 0.4 z), erfc(z) = e^(-z^2) t
// P(t): a rational form in the manner of Abramowitz and Stegun 7.1.26 with P of degree 9, so that the tail keeps its
// relative precision instead of losing it in 1 + erf. Within 3e-7 |x|.
inline Vec gelu(Vec x) {
  Vec z = abs(x) * set1(0.70710678f);
  Vec t = set1(1.f) / fma(z, set1(0.4f), set1(1.f));
  Vec p = set1(-0.029594f);
  p = fma(p, t, set1(0.19801148f));
  p = fma(p, t, set1(-0.49880763f));
  p = fma(p, t, set1(0.54743058f));
  p = fma(p, t, set1(-0.28436288f));
  p = fma(p, t, set1(0.27206432f));
  p = fma(p, t, set1(0.12968022f));
  p = fma(p, t, set1(0.21491898f));
  p = fma(p, t, set1(0.22495204f));
  p = fma(p, t, set1(0.22570691f));
  Vec tail = set1(0.5f) * x * (p * t * exp(zero() - z * z));
  return select(less(x, zero()), tail, x - tail);
}

enum class Activation { kNone, kGelu, kGeluTanh, kQuickGelu, kSilu, kRelu, kTanh };

inline Vec activate(Activation kind, Vec x) {
  switch (kind) {
    case Activation::kGelu:
      return gelu(x);
    case Activation::kGeluTanh: {
      // (1 + tanh u) / 2 = 1 / (1 + e^(-2u))
      Vec u = set1(-1.5957691216f) * fma(x * x * x, set1(0.044715f), x);
      return x / (set1(1.f) + exp(u));
    }
    case Activation::kQuickGelu:
      return x / (set1(1.f) + exp(x * set1(-1.702f)));
    case Activation::kSilu:
      return x / (set1(1.f) + exp(zero() - x));
    case Activation::kRelu:
      return select(less(x, zero()), zero(), x);
    case Activation::kTanh: {
      // 1 - 2 / (e^(2|x|) + 1), which for small x would be left with the rounding of 1: there x (1 - x^2 / 3 + ...).
      Vec a = abs(x);
      Vec square = x * x;
      Vec p = fma(square, set1(-0.0088632355f), set1(0.021869488f));
      p = fma(p, square, set1(-0.053968254f));
      p = fma(p, square, set1(0.13333333f));
      p = fma(p, square, set1(-0.33333333f));
      Vec near = fma(x * square, p, x);
      Vec far = set1(1.f) - set1(2.f) / (exp(a + a) + set1(1.f));
      return select(less(a, set1(0.35f)), near, select(less(x, zero()), zero() - far, far));
    }
    case Activation::kNone:
      break;
  }
  return x;
}

// The attribute's value; kNone where it is absent.
inline Activation activation_of(const Attrs& attrs, const char* attribute) {
  for (const auto& entry : attrs.strings) {
    if (entry.first.compare(attribute) != 0) continue;
    const char* name = entry.second.c_str();
    if (std::strcmp(name, "gelu") == 0) return Activation::kGelu;
    if (std::strcmp(name, "gelu_tanh") == 0) return Activation::kGeluTanh;
    if (std::strcmp(name, "quick_gelu") == 0) return Activation::kQuickGelu;
    if (std::strcmp(name, "silu") == 0) return Activation::kSilu;
    if (std::strcmp(name, "relu") == 0) return Activation::kRelu;
    if (std::strcmp(name, "tanh") == 0) return Activation::kTanh;
  }
  return Activation::kNone;
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
