// The two inner loops of resampling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "image/filters.h"
#include "image/passes_vnni.h"

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
  std::unique_ptr<HorizontalVnni> vnni_;  // takes the place of what follows, where it can
  std::vector<int32_t> spread_;           // each weight repeated per channel, so that a window is one run of bytes
};

class VerticalPass {
 public:
  // `weights` must outlive the pass.
  explicit VerticalPass(const Weights& weights);
  // Output row `index` of the range, from src, the first input row of its window: dst[i] = clip(sum over k of its
  // weights[k] * src[k * src_stride + i]) for i in [0, bytes).
  void row(int index, const uint8_t* src, size_t src_stride, size_t bytes, uint8_t* dst) const;

 private:
  const Weights& weights_;
  std::unique_ptr<VerticalVnni> vnni_;
};

}  // namespace image
}  // namespace ocelli
