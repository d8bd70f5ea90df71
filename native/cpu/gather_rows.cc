// out [M, D] = table[index [M]]; a negative index gives a row of zeros.
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_gather_rows(const OpCall& call) {
  const Tensor& table = call.in[0];
  const Tensor& out = call.out[0];
  const int32_t* index = call.in[1].as<int32_t>();
  int64_t rows = out.shape[0];
  int64_t width = out.shape[1];
  for (int64_t m = 0; m < rows; m++) {
    if (index[m] >= table.shape[0]) fail_index(call, "index", "indices below", table.shape[0], index[m], m);
  }
  for_rows(call.pool, rows, width, [&](int64_t m) {
    float* to = out.as<float>() + m * out.stride[0];
    if (index[m] < 0) {
      std::memset(to, 0, width * sizeof(float));
      return;
    }
    with_plain(table, index[m] * table.stride[0], [&](auto dtype, auto* from) {
      for_vectors<decltype(dtype)>(from, width, [&](int64_t i, Vec v, int lanes) { store_some(to + i, v, lanes); });
    });
  });
}

}  // namespace

extern const OpImpl gather_rows;
const OpImpl gather_rows = {run_gather_rows, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
