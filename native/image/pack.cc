#include "image/pack.h"

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
  for (int row = 0; row < tiles.rows; ++row) {
    for (int col = 0; col < tiles.cols; ++col) {
      for (int y = 0; y < tiles.height; ++y) {
        const uint8_t* p = src.data + static_cast<size_t>(row * tiles.height + y) * src.stride +
                           static_cast<size_t>(col) * tiles.width * 3;
        float* red = dst + static_cast<size_t>(y) * tiles.width;
        float* green = red + plane;
        float* blue = green + plane;
        for (int x = 0; x < tiles.width; ++x, p += 3) {
          red[x] = table.values[0][p[0]];
          green[x] = table.values[1][p[1]];
          blue[x] = table.values[2][p[2]];
        }
      }
      dst += 3 * plane;
    }
  }
}

}  // namespace image
}  // namespace ocelli
