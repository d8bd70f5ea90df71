// From uint8 [height, width, 3] to float32 [3, height, width], whole or cut into tiles.
#pragma once

#include <cstdint>

#include "image/resize.h"

namespace ocelli {
namespace image {

// What each value of each channel becomes. A table because it makes tensors bit-equal to the reference, which rescales
// in double and normalises in float32, and because it costs one load per value.
struct ValueTable {
  float values[3][256];
};

// mean and std may be null: no normalising.
ValueTable make_value_table(double rescale_factor, const float* mean, const float* std);

struct Tiles {
  int width;
  int height;
  int cols;
  int rows;
  int square = 1;  // tiles come in squares of so many a side, one after the other; row by row inside them
  int repeat = 1;  // each channel so many times: pictures that are shown as films
};

// src has 3 channels and is cols * width by rows * height. dst: [rows * cols, 3, repeat, height, width].
void pack(const PixelView& src, const ValueTable& table, const Tiles& tiles, float* dst);

}  // namespace image
}  // namespace ocelli
