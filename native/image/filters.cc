#include "image/filters.h"

#include <algorithm>
#include <cmath>

namespace ocelli {
namespace image {
namespace {

constexpr double kPi = 3.14159265358979323846;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double hamming(double x) {
  x = std::fabs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x *= kPi;
  return std::sin(x) / x * (0.54f + 0.46f * std::cos(x));  // float32 constants, as in Pillow
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x *= kPi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Kernel {
  double (*weight)(double);
  double support;
};

Kernel kernel_of(Filter filter) {
  switch (filter) {
    case Filter::kBox:
      return {box, 0.5};
    case Filter::kBilinear:
      return {bilinear, 1.0};
    case Filter::kHamming:
      return {hamming, 1.0};
    case Filter::kBicubic:
      return {bicubic, 2.0};
    default:
      return {lanczos, 3.0};
  }
}

}  // namespace

Weights make_weights(int in, int out, Filter filter, int first, int count) {
  const Kernel kernel = kernel_of(filter);
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = kernel.support * filter_scale;
  const double inverse = 1.0 / filter_scale;
  const auto window = [&](int i, int* lo, int* hi) {
    const double center = (i + 0.5) * scale;
    *lo = std::max(0, static_cast<int>(center - support + 0.5));
    *hi = std::min(in, static_cast<int>(center + support + 0.5));
    return center;
  };

  Weights result{};
  result.input_begin = in;
  int longest = 0;
  for (int i = first; i < first + count; ++i) {
    int lo, hi;
    window(i, &lo, &hi);
    longest = std::max(longest, hi - lo);
    result.input_begin = std::min(result.input_begin, lo);
    result.input_end = std::max(result.input_end, hi);
  }
  // The padded window must lie within the inputs of the range: a caller may hold no more than those.
  const int padded = (longest + kTapBlock - 1) / kTapBlock * kTapBlock;
  result.taps = padded <= result.input_end - result.input_begin ? padded : longest;
  result.lo.resize(count);
  result.weights.assign(static_cast<size_t>(count) * result.taps, 0);

  std::vector<double> values(longest);
  for (int i = first; i < first + count; ++i) {
    int lo, hi;
    const double center = window(i, &lo, &hi);
    double sum = 0.0;
    for (int x = lo; x < hi; ++x) {
      values[x - lo] = kernel.weight((x - center + 0.5) * inverse);
      sum += values[x - lo];
    }
    const int start = std::min(lo, result.input_end - result.taps);
    int32_t* fixed = result.weights.data() + static_cast<size_t>(i - first) * result.taps + (lo - start);
    for (int x = lo; x < hi; ++x) {
      const double w = (sum != 0.0 ? values[x - lo] / sum : values[x - lo]) * (1 << kPrecisionBits);
      fixed[x - lo] = static_cast<int32_t>(w < 0 ? w - 0.5 : w + 0.5);
    }
    result.lo[i - first] = start;
  }
  return result;
}

std::vector<int> nearest_sources(int in, int out, int first, int count) {
  std::vector<int> sources(count);
  const double scale = static_cast<double>(in) / out;
  double at = scale * 0.5;  // accumulated, not multiplied: the rounding is part of the result
  for (int i = 0; i < first + count; ++i) {
    if (i >= first) sources[i - first] = std::min(in - 1, static_cast<int>(at));
    at += scale;
  }
  return sources;
}

}  // namespace image
}  // namespace ocelli
