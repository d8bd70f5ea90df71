// The passes of native/image on a device: bytes in, the same bytes out. Weights and tables are the host's
// (image/filters.h, image/pack.h), copied to the device by the caller, who also decides which passes run and in which
// order.
#pragma once

#include <cstdint>

namespace ocelli {
namespace cuda {

// Rows of bytes, `stride` apart, as the windows of `weights` see them.
struct ImagePass {
  const uint8_t* src;
  uint8_t* dst;
  const int* lo;       // [count]: the first input of each output
  const int* weights;  // [count, taps], with 22 bits behind the point
  long long src_stride, dst_stride;
  int taps;
  int count;     // outputs along the pass: columns (horizontal) or rows (vertical)
  int first;     // the input, column or row, at which src begins
  int lines;     // rows (horizontal), or bytes of a row (vertical)
  int channels;  // horizontal only
  int vectors;   // vertical: all rows of src and dst begin at multiples of 4 bytes
};

// src [rows * height, cols * width, 3] of bytes to dst [rows * cols, 3, height, width].
struct ImagePack {
  const uint8_t* src;
  long long src_stride;
  const float* table;  // [3, 256]
  void* dst;
  int format;
  int width, height, cols, rows;
};

#ifndef __CUDACC__
// Launches on current_queue(); pointers are the device's.
void image_horizontal(const ImagePass& pass);
void image_vertical(ImagePass pass);
void image_pack(const ImagePack& pack);
#endif

}  // namespace cuda
}  // namespace ocelli
