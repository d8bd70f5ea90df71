// The two inner loops of resampling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "image/filters.h"

namespace ocelli {
namespace image {

class HorizontalPass {
 public:
  // `column`: the input column at which rows begin. `weights` must outlive the pass.
  HorizontalPass(const Weights& weights, int channels, int column);
  void run(const uint8_t* src, size_t src_stride, int rows, uint8_t* dst, size_t dst_stride) const;

 private:
  const Weights& weights_;
  int channels_;
  int column_;
  std::vector<int32_t> spread_;  // each weight repeated per channel, so that a window is one run of bytes
};

// dst[i] = clip(sum over k of weights[k] * src[k * src_stride + i]) for i in [0, bytes).
void vertical_row(const uint8_t* src, size_t src_stride, size_t bytes, const int32_t* weights, int taps, uint8_t* dst);

}  // namespace image
}  // namespace ocelli
