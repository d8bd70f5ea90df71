// Packs rows of a weight into panels of quants.
#include "cpu/dot.h"
#include "cpu/linear_quantized.h"
#include "cpu/linear_rows.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void read_row(const Tensor& rows, int64_t row, int64_t k, float* out) {
  with_plain(rows, row * rows.stride[0], [&](auto dtype, auto* from) {
    using D = decltype(dtype);
    for_vectors<D>(from, k, [&](int64_t i, Vec v, int lanes) { store_some(out + i, v, lanes); });
  });
}

void store_bytes(const QuantBlock& block, int64_t column, uint8_t* to) {
  for (int i = 0; i < kQuantBlock; i++)
    to[(i / 4 * kNR + column) * 4 + i % 4] = static_cast<uint8_t>(block.q[i] + kWeightBias);
}

void store_nibbles(const QuantBlock& block, int64_t column, uint8_t* to) {
  for (int i = 0; i < kQuantBlock / 2; i++)
    to[(i / 4 * kNR + column) * 4 + i % 4] = static_cast<uint8_t>(block.q[i] | block.q[i + 16] << 4);
}

void store_block(const QuantBlock& block, bool four, int64_t column, uint8_t* to) {
  if (four) {
    store_nibbles(block, column, to);
  } else {
    store_bytes(block, column, to);
  }
  std::memcpy(to + quant_bytes(four) + column * 2, &block.scale, 2);
  if (four) std::memcpy(to + quant_bytes(four) + kNR * 2 + column * 2, &block.least, 2);
}

}  // namespace

void pack_quantized(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  const bool four = four_bits(dst.format);
  const bool whole = dst.format == WeightFormat::kI8Rows;  // one scale a row
  const int64_t depth = rows_depth(dst.k);
  const int64_t blocks = whole ? depth / kQuantBlock : quant_blocks(dst.k);
  const int64_t panel_bytes = whole ? rows_panel_bytes(dst.k) : quantized_panel_bytes(dst.format, dst.k);
  const int64_t step = whole ? quant_bytes(false) : block_bytes(four);
  std::vector<float> x(static_cast<size_t>(depth));
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    const int64_t n = row + r;
    uint8_t* panel = static_cast<uint8_t*>(dst.data) + n / kNR * panel_bytes;
    read_row(rows, r, dst.k, x.data());
    const uint16_t scale = whole ? row_scale(x.data(), dst.k) : 0;
    for (int64_t b = 0; b < blocks; b++) {
      QuantBlock block;
      quantize_block(x.data() + b * kQuantBlock, dst.format, scale, &block);
      if (whole) {
        store_bytes(block, n % kNR, panel + b * step);
      } else {
        store_block(block, four, n % kNR, panel + b * step);
      }
    }
    if (whole) std::memcpy(panel + depth * kNR + n % kNR * 2, &scale, 2);
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
