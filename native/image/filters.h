// The weights of one resampling pass.
#pragma once

#include <cstdint>
#include <vector>

#include "image/resize.h"

namespace ocelli {
namespace image {

constexpr int kPrecisionBits = 32 - 8 - 2;  // Pillow's: 8 bits of value, 2 of headroom for overshoot

// Output i of the range reads `taps` inputs from lo[i - first] on, with weights[(i - first) * taps ...] in fixed point.
// Windows are shifted left at the end of a line and filled with zero weights, so that all have one length (a multiple
// of kTapBlock wherever the line is long enough) and none reads outside.
struct Weights {
  int taps;
  std::vector<int> lo;
  std::vector<int32_t> weights;
  int input_begin;  // the inputs that the range depends on: [input_begin, input_end)
  int input_end;
};

constexpr int kTapBlock = 4;

Weights make_weights(int in, int out, Filter filter, int first, int count);

// Nearest: no resampling. The input of each output in [first, first + count).
std::vector<int> nearest_sources(int in, int out, int first, int count);

}  // namespace image
}  // namespace ocelli
