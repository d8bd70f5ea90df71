// Resampling by products of bytes, on x86-64 with AVX-512 VNNI: the sums are the same integers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "image/filters.h"

namespace ocelli {
namespace image {

// A 22-bit weight is three signed digits of a byte, w = d2 * 2^16 + d1 * 2^8 + d0, and one instruction multiplies 64
// bytes of pixels by digits and adds them up by fours. The three sums are put together at the end, modulo 2^32 as the
// sum of whole products would be.
constexpr int kDigits = 3;

// Whether this processor has the instructions (and OCELLI_ISA allows them), taps come by fours, and every weight fits
// three digits.
bool has_vnni(const Weights& weights);

// The horizontal pass over interleaved pixels of 3 channels.
class HorizontalVnni {
 public:
  HorizontalVnni(const Weights& weights, int column);
  void run(const uint8_t* src, size_t src_stride, int rows, uint8_t* dst, size_t dst_stride) const;

 private:
  const Weights& weights_;
  int column_;
  int blocks_;                  // of 16 taps
  size_t begin_ = 0;            // of the digits: their vector never moves
  std::vector<int8_t> digits_;  // [output, block, digit, 4 lanes of (4 taps of R, of G, of B, 4 zeros)]
};

// The vertical pass over bytes of any kind.
class VerticalVnni {
 public:
  explicit VerticalVnni(const Weights& weights);
  // Output row `index` of the range, from the first input row of its window.
  void row(int index, const uint8_t* src, size_t src_stride, size_t bytes, uint8_t* dst) const;

 private:
  int fours_;                    // of taps
  std::vector<int32_t> digits_;  // [output, four, digit]: one for each of four input rows
};

}  // namespace image
}  // namespace ocelli
