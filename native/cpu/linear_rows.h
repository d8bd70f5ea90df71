// Weights with one scale a row (i8_rows of core/quantize.h), packed: a panel is one stream of quants, [k / 4][kNR][4]
// bytes with zeros behind k up to a multiple of kRowsDepth, then its kNR scales. Activations in such rows.
#pragma once

#include "core/quantize.h"
#include "cpu/linear.h"
#include "cpu/quantize_row.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t kRowsDepth = 64;  // what a row of a tile register holds

inline int64_t rows_depth(int64_t k) { return (k + kRowsDepth - 1) / kRowsDepth * kRowsDepth; }
inline int64_t rows_panel_bytes(int64_t k) { return (rows_depth(k) + 2) * kNR; }
inline const uint16_t* scales_of_panel(const uint8_t* panel, int64_t k) {
  return reinterpret_cast<const uint16_t*>(panel + rows_depth(k) * kNR);
}

// What a row of activations with one scale is multiplied by, and what its dot products begin with.
struct WholeRow {
  float scale;
  int32_t start;
};

// Quants of x, kRowsDepth of them from to(step) on, zeros behind k. A row that is not finite is 0 times NaN.
template <class To>
inline WholeRow quantize_whole(const float* x, int64_t k, const To& to) {
  const ActivationScale scale = activation_scale(largest_of(x, k), Activations::kRows);
  const bool finite = scale.scale == scale.scale;
  Int total = set1_int(0);
  for (int64_t step = 0; step * kRowsDepth < k; step++) {
    int8_t* q = to(step);
    const float* from = x + step * kRowsDepth;
    const int64_t left = finite ? k - step * kRowsDepth : 0;
    for (int64_t i = 0; i < kRowsDepth; i += kLanes) {
      Int rounded = set1_int(0);
      if (left - i >= kLanes) {
        rounded = to_int(load(from + i) * set1(scale.inverse));
      } else if (left > i) {
        rounded = to_int(load_some(from + i, static_cast<int>(left - i)) * set1(scale.inverse));
      }
      total = add_int(total, rounded);
      store_i8(q + i, rounded);
    }
  }
  int32_t lanes[kLanes];
  std::memcpy(lanes, &total, sizeof(lanes));
  int32_t sum = 0;
  for (int32_t lane : lanes) sum += lane;
  return {scale.scale, -kWeightBias * sum};
}

void run_rows(const OpCall& call);
size_t scratch_of_rows(const OpCall& call);

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
