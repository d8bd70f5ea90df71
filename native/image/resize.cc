#include "image/resize.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/check.h"
#include "image/filters.h"
#include "image/passes.h"

namespace ocelli {
namespace image {
namespace {

bool stopped(const std::atomic<bool>* cancel) { return cancel != nullptr && cancel->load(std::memory_order_relaxed); }

void throw_if_stopped(const std::atomic<bool>* cancel) {
  if (stopped(cancel)) throw Error("ERR_ABORTED", "Expected image work to finish but its environment is closing");
}

constexpr int kRowsPerCheck = 64;  // how often a long pass looks whether it was cancelled

void nearest(const PixelView& src, int out_width, int out_height, const Region& region, uint8_t* dst, size_t dst_stride,
             const std::atomic<bool>* cancel) {
  const std::vector<int> xs = nearest_sources(src.width, out_width, region.left, region.width);
  const std::vector<int> ys = nearest_sources(src.height, out_height, region.top, region.height);
  const int channels = src.channels;
  for (int y = 0; y < region.height; ++y) {
    if (y % kRowsPerCheck == 0) throw_if_stopped(cancel);
    const uint8_t* row = src.data + static_cast<size_t>(ys[y]) * src.stride;
    uint8_t* out = dst + static_cast<size_t>(y) * dst_stride;
    for (int x = 0; x < region.width; ++x) {
      for (int c = 0; c < channels; ++c) *out++ = row[static_cast<size_t>(xs[x]) * channels + c];
    }
  }
}

// src's columns [weights.input_begin, ...) -> all of dst's columns, rows one to one. `column` is the input column at
// which the rows of src begin.
void horizontal(const uint8_t* src, size_t src_stride, int column, int rows, int channels, const Weights& weights,
                uint8_t* dst, size_t dst_stride, const std::atomic<bool>* cancel) {
  const HorizontalPass pass(weights, channels, column);
  for (int y = 0; y < rows; y += kRowsPerCheck) {
    throw_if_stopped(cancel);
    pass.run(src + static_cast<size_t>(y) * src_stride, src_stride, std::min(kRowsPerCheck, rows - y),
             dst + static_cast<size_t>(y) * dst_stride, dst_stride);
  }
}

// The same along columns; `row` is the input row at which src begins.
void vertical(const uint8_t* src, size_t src_stride, int row, size_t bytes, const Weights& weights, uint8_t* dst,
              size_t dst_stride, const std::atomic<bool>* cancel) {
  const VerticalPass pass(weights);
  const int count = static_cast<int>(weights.lo.size());
  for (int y = 0; y < count; ++y) {
    if (y % kRowsPerCheck == 0) throw_if_stopped(cancel);
    pass.row(y, src + static_cast<size_t>(weights.lo[y] - row) * src_stride, src_stride, bytes,
             dst + static_cast<size_t>(y) * dst_stride);
  }
}

void check(const PixelView& src, int out_width, int out_height, const Region& region) {
  const auto side = [](int n) { return n >= 1 && n <= kMaxSide; };
  if (!side(src.width) || !side(src.height) || !side(out_width) || !side(out_height)) {
    throw Error("ERR_IMAGE_SIZE", "Expected sides of 1 to " + std::to_string(kMaxSide) + " for a resize but received " +
                                      std::to_string(src.width) + "x" + std::to_string(src.height) + " to " +
                                      std::to_string(out_width) + "x" + std::to_string(out_height));
  }
  if (src.channels != 1 && src.channels != 3 && src.channels != 4) {
    throw Error("ERR_IMAGE_SIZE",
                "Expected 1, 3 or 4 channels for a resize but received " + std::to_string(src.channels));
  }
  if (region.left < 0 || region.top < 0 || region.width < 0 || region.height < 0 ||
      region.width > out_width - region.left || region.height > out_height - region.top) {
    throw Error("ERR_IMAGE_SIZE", "Expected a region within the resized picture but received one outside it");
  }
}

}  // namespace

Filter parse_filter(const std::string& name) {
  if (name == "nearest") return Filter::kNearest;
  if (name == "box") return Filter::kBox;
  if (name == "bilinear") return Filter::kBilinear;
  if (name == "hamming") return Filter::kHamming;
  if (name == "bicubic") return Filter::kBicubic;
  if (name == "lanczos") return Filter::kLanczos;
  throw Error("ERR_INVALID_ARGUMENT",
              "Expected nearest, box, bilinear, hamming, bicubic or lanczos for filter but received " + name);
}

PassOrder parse_pass_order(const std::string& name) {
  if (name == "pillow13") return PassOrder::kPillow13;
  if (name == "before13") return PassOrder::kBefore13;
  throw Error("ERR_INVALID_ARGUMENT", "Expected pillow13 or before13 for order but received " + name);
}

void resize(const PixelView& src, int out_width, int out_height, Filter filter, PassOrder order, const Region& region,
            uint8_t* dst, size_t dst_stride, const std::atomic<bool>* cancel) {
  check(src, out_width, out_height, region);
  if (region.width == 0 || region.height == 0) return;
  const int channels = src.channels;
  if (filter == Filter::kNearest) return nearest(src, out_width, out_height, region, dst, dst_stride, cancel);

  const bool across = src.width != out_width;  // a pass whose size does not change is skipped
  const bool down = src.height != out_height;
  const size_t region_bytes = static_cast<size_t>(region.width) * channels;
  if (!across && !down) {
    for (int y = 0; y < region.height; ++y) {
      std::memcpy(
          dst + static_cast<size_t>(y) * dst_stride,
          src.data + static_cast<size_t>(region.top + y) * src.stride + static_cast<size_t>(region.left) * channels,
          region_bytes);
    }
    return;
  }

  const Weights columns = across ? make_weights(src.width, out_width, filter, region.left, region.width) : Weights{};
  const Weights rows = down ? make_weights(src.height, out_height, filter, region.top, region.height) : Weights{};
  const int x0 = across ? columns.input_begin : region.left;
  const int y0 = down ? rows.input_begin : region.top;
  const uint8_t* needed = src.data + static_cast<size_t>(y0) * src.stride + static_cast<size_t>(x0) * channels;
  if (!down) return horizontal(needed, src.stride, x0, region.height, channels, columns, dst, dst_stride, cancel);
  if (!across) return vertical(needed, src.stride, y0, region_bytes, rows, dst, dst_stride, cancel);

  const int shrunk_across = src.width - out_width;
  const int shrunk_down = src.height - out_height;
  if (order == PassOrder::kPillow13 && shrunk_down > 0 && shrunk_down > 2 * shrunk_across) {
    const size_t stride = static_cast<size_t>(columns.input_end - x0) * channels;
    const std::unique_ptr<uint8_t[]> between(new uint8_t[stride * region.height]);
    vertical(needed, src.stride, y0, stride, rows, between.get(), stride, cancel);
    horizontal(between.get(), stride, x0, region.height, channels, columns, dst, dst_stride, cancel);
  } else {
    const int count = rows.input_end - y0;
    const std::unique_ptr<uint8_t[]> between(new uint8_t[region_bytes * count]);
    horizontal(needed, src.stride, x0, count, channels, columns, between.get(), region_bytes, cancel);
    vertical(between.get(), region_bytes, y0, region_bytes, rows, dst, dst_stride, cancel);
  }
}

}  // namespace image
}  // namespace ocelli
