// The reference backend: every op's scalar truth, and weights packed as plain rows.
#include "core/quantize.h"
#include "ref/reference.h"

namespace ocelli {
namespace ref {

#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP

namespace {

size_t packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  if (quantized(format)) return static_cast<size_t>(n * quant_blocks(k)) * sizeof(QuantBlock);
  return static_cast<size_t>(n * k * size_of(plain_dtype(format)));
}

void pack_blocks(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  int64_t count = quant_blocks(dst.k);
  QuantBlock* blocks = static_cast<QuantBlock*>(dst.data) + row * count;
  std::vector<float> x(static_cast<size_t>(count * kQuantBlock));
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    for (int64_t i = 0; i < dst.k; i++) x[i] = read(rows.data, rows.dtype, r * rows.stride[0] + i);
    uint16_t scale = row_scale(x.data(), dst.k);
    for (int64_t b = 0; b < count; b++) {
      quantize_block(x.data() + b * kQuantBlock, dst.format, scale, blocks++);
    }
  }
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  if (quantized(dst.format)) return pack_blocks(rows, row, dst);
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    for (int64_t c = 0; c < dst.k; c++) {
      float value = read(rows.data, rows.dtype, r * rows.stride[0] + c);
      int64_t at = (row + r) * dst.k + c;
      write_element(dst.data, plain_dtype(dst.format), at, value);
    }
  }
}

}  // namespace

extern const Backend backend;
const Backend backend = {"ref",
                         {
#define OCELLI_OP(name) &name,
#include "core/ops.def"
#undef OCELLI_OP
                         },
                         packed_bytes,
                         pack};

}  // namespace ref
}  // namespace ocelli
