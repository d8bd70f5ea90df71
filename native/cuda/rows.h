// What launchers hand to kernels beside plain numbers.
#pragma once

namespace ocelli {
namespace cuda {

enum Format : int { kF32, kBF16, kF16 };

// A tensor as rows by up to three leading dimensions, outermost first; strides in elements. The values of a row lie
// side by side.
struct Rows {
  void* data;
  int format;
  int width;
  int shape[3];  // unused leading dimensions are 1
  int vectors;   // every run of eight values begins at a multiple of 16 bytes
  long long stride[3];
};

// M-RoPE: `end[i]` is the frequency before which axis i turns; interleaved, axis i turns every count-th frequency
// before it.
struct RopeAxes {
  int count;
  int interleaved;
  int end[4];
};

}  // namespace cuda
}  // namespace ocelli
