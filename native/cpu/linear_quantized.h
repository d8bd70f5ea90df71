// Weights in blocks of 32 (core/quantize.h), packed: a panel is one stream of blocks. A block has its quants as
// [8][kNR][4] bytes (i8) or [4][kNR][4] bytes of two nibbles (i4: groups g and g + 4 of four k), then kNR scales and,
// in i4, kNR least values.
#pragma once

#include "core/quantize.h"
#include "cpu/linear.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t quant_bytes(bool four) { return (four ? 16 : 32) * kNR; }
constexpr int64_t block_bytes(bool four) { return quant_bytes(four) + (four ? 4 : 2) * kNR; }

inline int64_t quantized_panel_bytes(WeightFormat format, int64_t k) {
  return quant_blocks(k) * block_bytes(four_bits(format));
}

void pack_quantized(const Tensor& rows, int64_t row, PackedMatrix& dst);
void run_quantized(const OpCall& call);
size_t scratch_of_quantized(const OpCall& call);

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
