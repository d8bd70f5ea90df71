// out [R, D] = x with rows index[i] replaced by (attr add: 1 - increased by) rows[i] [M, D]; equal indices in ascending
// i.
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

constexpr int64_t kColumns = 256;

void run_scatter_rows(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& rows = call.in[2];
  const Tensor& out = call.out[0];
  const int32_t* index = call.in[1].as<int32_t>();
  int64_t count = call.in[1].shape[0];
  int64_t width = x.shape[1];
  bool add = call.attrs->number("add", 0) != 0;
  for (int64_t m = 0; m < count; m++) {
    if (index[m] >= x.shape[0]) fail_index(call, "index", "indices below", x.shape[0], index[m], m);
  }
  if (out.data != x.data) {
    for_rows(call.pool, x.shape[0], width, [&](int64_t r) {
      std::memcpy(out.as<float>() + r * out.stride[0], x.as<float>() + r * x.stride[0], width * sizeof(float));
    });
  }
  // Tasks are ranges of columns, so that rows meant for one place keep their order.
  call.pool->parallel_for((width + kColumns - 1) / kColumns, [&](int64_t task, int) {
    int64_t first = task * kColumns;
    int64_t n = width - first < kColumns ? width - first : kColumns;
    for (int64_t m = 0; m < count; m++) {
      if (index[m] < 0) continue;
      float* to = out.as<float>() + index[m] * out.stride[0] + first;
      with_plain(rows, m * rows.stride[0] + first, [&](auto dtype, auto* from) {
        for_vectors<decltype(dtype)>(from, n, [&](int64_t i, Vec v, int lanes) {
          store_some(to + i, add ? load_some(to + i, lanes) + v : v, lanes);
        });
      });
    }
  });
}

}  // namespace

extern const OpImpl scatter_rows;
const OpImpl scatter_rows = {run_scatter_rows, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
