#include "image/passes.h"

#include <cstdlib>
#include <cstring>

// The loops are written for the auto-vectoriser and compiled twice on x86-64: for the baseline, and for AVX2 where the
// machine has it; passes_vnni.cc takes their place where it has more. Integer arithmetic: all give the same bytes.
#if defined(__x86_64__) && defined(__GNUC__)
#define OCELLI_IMAGE_AVX2 1
#define OCELLI_TARGET_AVX2 __attribute__((target("avx2")))
#endif
#if defined(__GNUC__)
#define OCELLI_INLINE inline __attribute__((always_inline))
#else
#define OCELLI_INLINE inline
#endif

namespace ocelli {
namespace image {
namespace {

constexpr int32_t kRound = 1 << (kPrecisionBits - 1);

OCELLI_INLINE uint8_t clip(int32_t sum) {
  const int32_t value = sum >> kPrecisionBits;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One row; windows are `taps` pixels, taps a multiple of kTapBlock. Lane j of the accumulator holds channel j % C.
template <int C>
OCELLI_INLINE void horizontal_blocks(const uint8_t* src, const int* lo, int column, const int32_t* spread, int taps,
                                     int count, uint8_t* dst) {
  constexpr int kLanes = kTapBlock * C;
  for (int i = 0; i < count; ++i) {
    const uint8_t* p = src + static_cast<size_t>(lo[i] - column) * C;
    int32_t sums[kLanes] = {0};
    for (int k = 0; k < taps; k += kTapBlock) {
      for (int j = 0; j < kLanes; ++j) sums[j] += p[j] * spread[j];
      p += kLanes;
      spread += kLanes;
    }
    for (int c = 0; c < C; ++c) {
      int32_t sum = kRound;
      for (int b = 0; b < kTapBlock; ++b) sum += sums[b * C + c];
      *dst++ = clip(sum);
    }
  }
}

template <int C>
OCELLI_INLINE void horizontal_plain(const uint8_t* src, const int* lo, int column, const int32_t* spread, int taps,
                                    int count, uint8_t* dst) {
  for (int i = 0; i < count; ++i) {
    const uint8_t* p = src + static_cast<size_t>(lo[i] - column) * C;
    int32_t sums[C];
    for (int c = 0; c < C; ++c) sums[c] = kRound;
    for (int k = 0; k < taps; ++k) {
      for (int c = 0; c < C; ++c) sums[c] += p[c] * spread[c];
      p += C;
      spread += C;
    }
    for (int c = 0; c < C; ++c) *dst++ = clip(sums[c]);
  }
}

template <int C>
OCELLI_INLINE void horizontal_row(const uint8_t* src, const int* lo, int column, const int32_t* spread, int taps,
                                  int count, uint8_t* dst) {
  if (taps % kTapBlock == 0) {
    horizontal_blocks<C>(src, lo, column, spread, taps, count, dst);
  } else {
    horizontal_plain<C>(src, lo, column, spread, taps, count, dst);
  }
}

OCELLI_INLINE void horizontal_any(int channels, const uint8_t* src, const int* lo, int column, const int32_t* spread,
                                  int taps, int count, uint8_t* dst) {
  if (channels == 3) {
    horizontal_row<3>(src, lo, column, spread, taps, count, dst);
  } else if (channels == 4) {
    horizontal_row<4>(src, lo, column, spread, taps, count, dst);
  } else {
    horizontal_row<1>(src, lo, column, spread, taps, count, dst);
  }
}

OCELLI_INLINE void vertical_any(const uint8_t* src, size_t stride, size_t bytes, const int32_t* weights, int taps,
                                uint8_t* dst) {
  constexpr size_t kRun = 64;
  size_t at = 0;
  for (; at + kRun <= bytes; at += kRun) {
    int32_t sums[kRun];
    for (size_t j = 0; j < kRun; ++j) sums[j] = kRound;
    const uint8_t* p = src + at;
    for (int k = 0; k < taps; ++k, p += stride) {
      const int32_t w = weights[k];
      for (size_t j = 0; j < kRun; ++j) sums[j] += p[j] * w;
    }
    for (size_t j = 0; j < kRun; ++j) dst[at + j] = clip(sums[j]);
  }
  for (; at < bytes; ++at) {
    int32_t sum = kRound;
    for (int k = 0; k < taps; ++k) sum += src[at + static_cast<size_t>(k) * stride] * weights[k];
    dst[at] = clip(sum);
  }
}

#ifdef OCELLI_IMAGE_AVX2
OCELLI_TARGET_AVX2 void horizontal_avx2(int channels, const uint8_t* src, const int* lo, int column,
                                        const int32_t* spread, int taps, int count, uint8_t* dst) {
  horizontal_any(channels, src, lo, column, spread, taps, count, dst);
}

OCELLI_TARGET_AVX2 void vertical_avx2(const uint8_t* src, size_t stride, size_t bytes, const int32_t* weights, int taps,
                                      uint8_t* dst) {
  vertical_any(src, stride, bytes, weights, taps, dst);
}

bool has_avx2() {
  static const bool has = [] {
    const char* wanted = std::getenv("OCELLI_ISA");
    return (wanted == nullptr || std::strcmp(wanted, "baseline") != 0) && __builtin_cpu_supports("avx2");
  }();
  return has;
}
#endif

}  // namespace

HorizontalPass::HorizontalPass(const Weights& weights, int channels, int column)
    : weights_(weights), channels_(channels), column_(column) {
  if (channels == 3 && has_vnni(weights)) {
    vnni_ = std::make_unique<HorizontalVnni>(weights, column);
    return;
  }
  spread_.reserve(weights.weights.size() * channels);
  for (const int32_t weight : weights.weights) spread_.insert(spread_.end(), channels, weight);
}

void HorizontalPass::run(const uint8_t* src, size_t src_stride, int rows, uint8_t* dst, size_t dst_stride) const {
  if (vnni_) return vnni_->run(src, src_stride, rows, dst, dst_stride);
  const int count = static_cast<int>(weights_.lo.size());
  auto row = horizontal_any;
#ifdef OCELLI_IMAGE_AVX2
  if (has_avx2()) row = horizontal_avx2;
#endif
  for (int y = 0; y < rows; ++y) {
    row(channels_, src + static_cast<size_t>(y) * src_stride, weights_.lo.data(), column_, spread_.data(),
        weights_.taps, count, dst + static_cast<size_t>(y) * dst_stride);
  }
}

VerticalPass::VerticalPass(const Weights& weights)
    : weights_(weights), vnni_(has_vnni(weights) ? std::make_unique<VerticalVnni>(weights) : nullptr) {}

void VerticalPass::row(int index, const uint8_t* src, size_t src_stride, size_t bytes, uint8_t* dst) const {
  if (vnni_) return vnni_->row(index, src, src_stride, bytes, dst);
  const int32_t* weights = weights_.weights.data() + static_cast<size_t>(index) * weights_.taps;
#ifdef OCELLI_IMAGE_AVX2
  if (has_avx2()) return vertical_avx2(src, src_stride, bytes, weights, weights_.taps, dst);
#endif
  vertical_any(src, src_stride, bytes, weights, weights_.taps, dst);
}

}  // namespace image
}  // namespace ocelli
