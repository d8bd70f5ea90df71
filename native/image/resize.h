// Pillow's uint8 resampling, bit for bit: two separable fixed-point passes with a rounded 8-bit picture between them.
// Pure functions over raw pointers; no threads, no globals.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace ocelli {
namespace image {

enum class Filter { kNearest, kBox, kBilinear, kHamming, kBicubic, kLanczos };

// Pillow 13 may run the vertical pass first; before it the horizontal pass always came first. Results differ by a
// level.
enum class PassOrder { kPillow13, kBefore13 };

struct Region {
  int left;
  int top;
  int width;
  int height;
};

// Interleaved pixels that somebody else owns: [height, width, channels], rows `stride` bytes apart.
struct PixelView {
  const uint8_t* data;
  int width;
  int height;
  int channels;
  size_t stride;
};

// A side above this is refused: the products of sides then fit 32 bits and tables stay small.
constexpr int kMaxSide = 1 << 17;

Filter parse_filter(const std::string& name);
PassOrder parse_pass_order(const std::string& name);

// Writes `region` of src resized to out_width x out_height into dst (rows dst_stride bytes apart). Only the rows and
// columns that the region depends on are computed; the bytes equal those of the whole result. Throws ERR_ABORTED soon
// after *cancel becomes true (cancel may be null).
void resize(const PixelView& src, int out_width, int out_height, Filter filter, PassOrder order, const Region& region,
            uint8_t* dst, size_t dst_stride, const std::atomic<bool>* cancel);

}  // namespace image
}  // namespace ocelli
