// out [R, D] = x with rows index[i] replaced by (attr add: 1 - increased by) rows[i] [M, D]. Negative indices are left
// out, as gather_rows reads zeros for them; equal indices apply in ascending i.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_scatter_rows(const OpCall& call) {
  expect_counts(call, 3, 3, 1);
  const Tensor& x = call.in[0];
  expect_f32(call, "x", x);
  expect_rank(call, "x", x, 2);
  expect_rows(call, "x", x);
  expect_i32(call, "index", call.in[1]);
  expect_rank(call, "index", call.in[1], 1);
  expect_contiguous(call, "index", call.in[1]);
  expect_plain(call, "rows", call.in[2]);
  expect_shape(call, "rows", call.in[2], {call.in[1].shape[0], x.shape[1]});
  expect_rows(call, "rows", call.in[2]);
  expect_f32(call, "out", call.out[0]);
  expect_same_shape(call, "out", call.out[0], "x", x);
  expect_rows(call, "out", call.out[0]);
}

extern const OpContract scatter_rows;
const OpContract scatter_rows = {check_scatter_rows, true};

}  // namespace contract

namespace ref {

static void run_scatter_rows(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& rows = call.in[2];
  const Tensor& out = call.out[0];
  const int32_t* index = call.in[1].as<int32_t>();
  int64_t count = call.in[1].shape[0];
  bool add = call.attrs->number("add", 0) != 0;
  for (int64_t m = 0; m < count; m++) {
    if (index[m] >= x.shape[0]) fail_index(call, "index", "indices below", x.shape[0], index[m], m);
  }
  int64_t width = x.shape[1];
  if (out.data != x.data) {
    for (int64_t r = 0; r < x.shape[0]; r++) {
      for (int64_t d = 0; d < width; d++) out.as<float>()[r * out.stride[0] + d] = x.as<float>()[r * x.stride[0] + d];
    }
  }
  for (int64_t m = 0; m < count; m++) {
    if (index[m] < 0) continue;
    float* to = out.as<float>() + index[m] * out.stride[0];
    for (int64_t d = 0; d < width; d++) {
      float value = read(rows.data, rows.dtype, m * rows.stride[0] + d);
      to[d] = add ? to[d] + value : value;
    }
  }
}

extern const OpImpl scatter_rows;
const OpImpl scatter_rows = {run_scatter_rows, nullptr};

}  // namespace ref
}  // namespace ocelli
