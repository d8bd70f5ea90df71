#include "image/pack.h"

#include <algorithm>

namespace ocelli {
namespace image {

ValueTable make_value_table(double rescale_factor, const float* mean, const float* std) {
  ValueTable table;
  for (int c = 0; c < 3; ++c) {
    for (int v = 0; v < 256; ++v) {
      float x = static_cast<float>(v * rescale_factor);
      if (mean != nullptr) x = x - mean[c];
      if (std != nullptr) x = x / std[c];
      table.values[c][v] = x;
    }
  }
  return table;
}

void pack(const PixelView& src, const ValueTable& table, const Tiles& tiles, float* dst) {
  const size_t plane = static_cast<size_t>(tiles.width) * tiles.height;
  const size_t channel = plane * tiles.repeat;
  const int in_square = tiles.square * tiles.square;
  const int squares = tiles.cols / tiles.square;
  for (int i = 0; i < tiles.rows * tiles.cols; ++i, dst += 3 * channel) {
    const int row = i / in_square / squares * tiles.square + i % in_square / tiles.square;
    const int col = i / in_square % squares * tiles.square + i % tiles.square;
    for (int y = 0; y < tiles.height; ++y) {
      const uint8_t* p = src.data + static_cast<size_t>(row * tiles.height + y) * src.stride +
                         static_cast<size_t>(col) * tiles.width * 3;
      float* red = dst + static_cast<size_t>(y) * tiles.width;
      float* green = red + channel;
      float* blue = green + channel;
      for (int x = 0; x < tiles.width; ++x, p += 3) {
        red[x] = table.values[0][p[0]];
        green[x] = table.values[1][p[1]];
        blue[x] = table.values[2][p[2]];
      }
    }
    for (int c = 0; c < 3; ++c) {
      for (int again = 1; again < tiles.repeat; ++again) {
        const float* first = dst + c * channel;
        std::copy(first, first + plane, dst + c * channel + again * plane);
      }
    }
  }
}

}  // namespace image
}  // namespace ocelli
