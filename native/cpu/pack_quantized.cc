// Packs rows of a weight into panels of quantised blocks.
#include "cpu/dot.h"
#include "cpu/linear_quantized.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

// Elements [at, at + 32) of a row as f32; zeros behind its end.
void read_block(const Tensor& rows, int64_t row, int64_t at, int64_t k, float* out) {
  int64_t count = k - at < kQuantBlock ? k - at : kQuantBlock;
  for (int64_t i = count; i < kQuantBlock; i++) out[i] = 0;
  with_plain(rows, row * rows.stride[0] + at, [&](auto dtype, auto* from) {
    using D = decltype(dtype);
    for_vectors<D>(from, count, [&](int64_t i, Vec v, int lanes) { store_some(out + i, v, lanes); });
  });
}

void store_block(const QuantBlock& block, bool four, int64_t column, uint8_t* to) {
  for (int i = 0; i < kQuantBlock; i++) {
    int64_t group = i / 4;
    int64_t at = (column * 4) + i % 4;
    if (!four) {
      to[group * kNR * 4 + at] = static_cast<uint8_t>(block.q[i] + kWeightBias);
    } else if (group < 4) {
      to[group * kNR * 4 + at] = static_cast<uint8_t>(block.q[i] | block.q[i + 16] << 4);
    }
  }
  std::memcpy(to + quant_bytes(four) + column * 2, &block.scale, 2);
  if (four) std::memcpy(to + quant_bytes(four) + kNR * 2 + column * 2, &block.least, 2);
}

}  // namespace

void pack_quantized(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  bool four = four_bits(dst.format);
  int64_t blocks = quant_blocks(dst.k);
  uint8_t* data = static_cast<uint8_t*>(dst.data);
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    int64_t n = row + r;
    uint8_t* panel = data + n / kNR * blocks * block_bytes(four);
    for (int64_t b = 0; b < blocks; b++) {
      float x[kQuantBlock];
      QuantBlock block;
      read_block(rows, r, b * kQuantBlock, dst.k, x);
      if (four) {
        quantize_i4(x, &block);
      } else {
        quantize_i8(x, &block);
      }
      store_block(block, four, n % kNR, panel + b * block_bytes(four));
    }
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
