// The CUDA backend's table: an op that is missing here fails at link. Weights are packed on the host, as rows of whole
// slices with zeros behind k, and copied to the GPU as they are.
#include "core/convert.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP

namespace {

size_t packed_bytes(DType format, int64_t n, int64_t k) {
  return static_cast<size_t>(n * packed_width(k) * size_of(format));
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    for (int64_t c = 0; c < dst.k; c++) {
      const float value = read_element(rows.data, rows.dtype, r * rows.stride[0] + c);
      write_element(dst.data, dst.format, (row + r) * packed_width(dst.k) + c, value);
    }
  }
}

}  // namespace

extern const Backend backend;
const Backend backend = {"cuda",
                         {
#define OCELLI_OP(name) &name,
#include "core/ops.def"
#undef OCELLI_OP
                         },
                         packed_bytes,
                         pack};

}  // namespace cuda
}  // namespace ocelli
