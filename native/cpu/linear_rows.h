// Weights with one scale a row (i8_rows of core/quantize.h), packed: a panel is one stream of quants, [k / 4][kNR][4]
// bytes with zeros behind k up to a multiple of kRowsDepth, then its kNR scales.
#pragma once

#include "core/quantize.h"
#include "cpu/linear.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t kRowsDepth = 64;  // what a row of a tile register holds

inline int64_t rows_depth(int64_t k) { return (k + kRowsDepth - 1) / kRowsDepth * kRowsDepth; }
inline int64_t rows_panel_bytes(int64_t k) { return (rows_depth(k) + 2) * kNR; }
inline const uint16_t* scales_of_panel(const uint8_t* panel, int64_t k) {
  return reinterpret_cast<const uint16_t*>(panel + rows_depth(k) * kNR);
}

void run_rows(const OpCall& call);
size_t scratch_of_rows(const OpCall& call);

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
