// Weights of linear are packed on the host and copied to the GPU as they are: rows of whole slices, zeros behind k; in
// blocks as quantized.h has them.
#include "core/quantize.h"
#include "cuda/launch.h"
#include "cuda/quantized.h"

namespace ocelli {
namespace cuda {

size_t packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  if (!quantized(format)) return static_cast<size_t>(n * packed_width(k) * size_of(plain_dtype(format)));
  const bool four = four_bits(format);
  return static_cast<size_t>(n * weight_row_bytes(four, k) +
                             quant_slices(k) * kBlocksOfSlice * scale_columns(n) * scale_bytes(four));
}

static void pack_blocks(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  const bool four = four_bits(dst.format);
  uint8_t* const quants = static_cast<uint8_t*>(dst.data);
  uint8_t* const scales = quants + dst.n * weight_row_bytes(four, dst.k);
  std::vector<float> x(static_cast<size_t>(quant_blocks(dst.k) * kQuantBlock));
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    const int64_t n = row + r;
    uint8_t* to = quants + n * weight_row_bytes(four, dst.k);
    for (int64_t i = 0; i < dst.k; i++) x[i] = read_element(rows.data, rows.dtype, r * rows.stride[0] + i);
    const uint16_t scale = row_scale(x.data(), dst.k);
    for (int64_t b = 0; b < quant_blocks(dst.k); b++) {
      QuantBlock block;
      quantize_block(x.data() + b * kQuantBlock, dst.format, scale, &block);
      if (four) {
        for (int i = 0; i < 16; i++) *to++ = static_cast<uint8_t>(block.q[i] | block.q[i + 16] << 4);
      } else {
        std::memcpy(to, block.q, kQuantBlock);
        to += kQuantBlock;
      }
      uint8_t* at = scales + (b * scale_columns(dst.n) + n) * scale_bytes(four);
      std::memcpy(at, &block.scale, 2);
      if (four) std::memcpy(at + 2, &block.least, 2);
    }
  }
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  if (quantized(dst.format)) return pack_blocks(rows, row, dst);
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    for (int64_t c = 0; c < dst.k; c++) {
      const float value = read_element(rows.data, rows.dtype, r * rows.stride[0] + c);
      write_element(dst.data, plain_dtype(dst.format), (row + r) * packed_width(dst.k) + c, value);
    }
  }
}

}  // namespace cuda
}  // namespace ocelli
