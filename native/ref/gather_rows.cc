// out [M, D] = table[index [M]]; a negative index gives a row of zeros.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_gather_rows(const OpCall& call) {
  expect_counts(call, 2, 2, 1);
  expect_plain(call, "table", call.in[0]);
  expect_rank(call, "table", call.in[0], 2);
  expect_rows(call, "table", call.in[0]);
  expect_i32(call, "index", call.in[1]);
  expect_rank(call, "index", call.in[1], 1);
  expect_contiguous(call, "index", call.in[1]);
  expect_f32(call, "out", call.out[0]);
  expect_shape(call, "out", call.out[0], {call.in[1].shape[0], call.in[0].shape[1]});
  expect_rows(call, "out", call.out[0]);
}

extern const OpContract gather_rows;
const OpContract gather_rows = {check_gather_rows, false};

}  // namespace contract

namespace ref {

static void run_gather_rows(const OpCall& call) {
  const Tensor& table = call.in[0];
  const Tensor& out = call.out[0];
  const int32_t* index = call.in[1].as<int32_t>();
  for (int64_t m = 0; m < out.shape[0]; m++) {
    if (index[m] >= table.shape[0]) fail_index(call, "index", "indices below", table.shape[0], index[m], m);
    float* to = out.as<float>() + m * out.stride[0];
    for (int64_t d = 0; d < out.shape[1]; d++) {
      to[d] = index[m] < 0 ? 0 : read(table.data, table.dtype, index[m] * table.stride[0] + d);
    }
  }
}

extern const OpImpl gather_rows;
const OpImpl gather_rows = {run_gather_rows, nullptr};

}  // namespace ref
}  // namespace ocelli
