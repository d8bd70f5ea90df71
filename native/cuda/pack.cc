// Weights of linear are packed on the host and copied to the GPU as they are: rows of whole slices, zeros behind k.
#include "core/convert.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

size_t packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  if (quantized(format))
    throw Error("ERR_DTYPE", std::string("Expected weights of f32, bf16 or f16 for CUDA but received ") +
                                 name_of(format) + ". Use quantization: 'none' there.");
  return static_cast<size_t>(n * packed_width(k) * size_of(plain_dtype(format)));
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    for (int64_t c = 0; c < dst.k; c++) {
      const float value = read_element(rows.data, rows.dtype, r * rows.stride[0] + c);
      write_element(dst.data, plain_dtype(dst.format), (row + r) * packed_width(dst.k) + c, value);
    }
  }
}

}  // namespace cuda
}  // namespace ocelli
