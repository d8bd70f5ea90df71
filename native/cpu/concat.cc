// Joins tensors along attr `dim`; operands may be views of any strides. One that was planned into the storage of the
// result is left where it is.
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

// One element or one run of them, 4 bytes each in the result.
void copy_row(const Tensor& in, int64_t from, int64_t stride, int64_t n, float* to) {
  if (in.dtype == DType::kI32 || in.dtype == DType::kF32) {
    const int32_t* source = in.as<int32_t>() + from;
    int32_t* target = reinterpret_cast<int32_t*>(to);
    if (stride == 1) {
      std::memcpy(target, source, n * sizeof(int32_t));
    } else {
      for (int64_t i = 0; i < n; i++) target[i] = source[i * stride];
    }
    return;
  }
  with_plain(in, from, [&](auto dtype, auto* source) {
    using D = decltype(dtype);
    if (stride == 1) {
      for_vectors<D>(source, n, [&](int64_t i, Vec v, int lanes) { store_some(to + i, v, lanes); });
    } else {
      for (int64_t i = 0; i < n; i++) store_n(to + i, D::load(source + i * stride, 1), 1);
    }
  });
}

bool is_planned(const Tensor& in, const Tensor& part) {
  if (in.dtype != part.dtype || in.data != part.data) return false;
  for (int d = 0; d < in.rank; d++) {
    if (in.shape[d] != 1 && in.stride[d] != part.stride[d]) return false;
  }
  return true;
}

void run_concat(const OpCall& call) {
  const Tensor& out = call.out[0];
  int64_t dim = call.attrs->integer("dim");
  int64_t start = 0;
  for (int i = 0; i < call.inputs; i++) {
    const Tensor& in = call.in[i];
    Tensor part = out;
    for (int d = 0; d < out.rank; d++) part.shape[d] = in.shape[d];
    part.data = out.as<float>() + start * out.stride[dim];
    start += in.shape[dim];
    if (is_planned(in, part)) continue;
    int last = in.rank - 1;
    int64_t stride = in.shape[last] == 1 ? 1 : in.stride[last];
    for_rows(call.pool, rows_of(in), width_of(in), [&](int64_t row) {
      float* to = row_at(part, row);
      if (part.shape[last] == 1 || part.stride[last] == 1) {
        copy_row(in, row_offset(in, row), stride, in.shape[last], to);
        return;
      }
      for (int64_t j = 0; j < in.shape[last]; j++)
        copy_row(in, row_offset(in, row) + j * stride, 1, 1, to + j * part.stride[last]);
    });
  }
}

}  // namespace

extern const OpImpl concat;
const OpImpl concat = {run_concat, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
