// How weights in blocks of 32 (core/quantize.h) and activations lie for linear_quantized.cu: rows in slices of 128
// columns, zeros behind k.
//
//   weights      int8: a byte a quant            int4: 16 bytes a block, quant i in the low and i + 16 in the high half
//                of byte i, as the two registers of mma's B want them. [n][slices] of 128 or 64 bytes
//   their scales [blocks][columns of scales] f16, in int4 pairs of scale and least; blocks of the last slice included
//   activations  [m][slices] of 128 bytes, and of two bytes a value (q = 128 high + low, both signed) [2][m][slices],
//                the high ones first; then their scales [slices][m][4] f32 (or, one a row, [m]), then in int4 what each
//                block's `least` is multiplied by, [slices][m][4] f32
#pragma once

#include <cstddef>
#include <cstdint>

namespace ocelli {
namespace cuda {

constexpr int kQuantSlice = 128;  // 128 bytes of quants: a row of shared memory is one row of banks
constexpr int kBlocksOfSlice = kQuantSlice / 32;

// How activations meet weights: Activations of core/quantize.h.
enum Meeting : int { kByBlocks, kByRows, kTwoBytes };

constexpr int64_t quant_slices(int64_t k) { return (k + kQuantSlice - 1) / kQuantSlice; }
constexpr int64_t scale_columns(int64_t n) { return (n + 7) / 8 * 8; }  // copies take 16 bytes of eight f16

constexpr int64_t weight_row_bytes(bool four, int64_t k) { return quant_slices(k) * (four ? 64 : 128); }
constexpr int64_t scale_bytes(bool four) { return four ? 4 : 2; }

}  // namespace cuda
}  // namespace ocelli
