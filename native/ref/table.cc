// The reference backend: every op's scalar truth, and weights packed as plain rows.
#include "ref/reference.h"

namespace ocelli {
namespace ref {

#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP

namespace {

size_t packed_bytes(DType format, int64_t n, int64_t k) { return static_cast<size_t>(n * k * size_of(format)); }

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  for (int64_t r = 0; r < rows.shape[0]; r++) {
    for (int64_t c = 0; c < dst.k; c++) {
      float value = read(rows.data, rows.dtype, r * rows.stride[0] + c);
      int64_t at = (row + r) * dst.k + c;
      write_element(dst.data, dst.format, at, value);
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
