// out = kind(x), elementwise.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_act(const OpCall& call) {
  expect_counts(call, 1, 1, 1);
  expect_f32(call, "x", call.in[0]);
  expect_rows(call, "x", call.in[0]);
  expect_f32(call, "out", call.out[0]);
  expect_same_shape(call, "out", call.out[0], "x", call.in[0]);
  expect_rows(call, "out", call.out[0]);
  expect_activation(call, call.attrs->string("kind"), "kind");
}

extern const OpContract act;
const OpContract act = {check_act, true};

}  // namespace contract

namespace ref {

static void run_act(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  Activation kind = activation_from_name(call.attrs->string("kind"));
  call.pool->parallel_for(rows_of(x), [&](int64_t row, int) {
    const float* from = x.as<float>() + row_offset(x, row);
    float* to = out.as<float>() + row_offset(out, row);
    for (int64_t d = 0; d < width_of(x); d++) to[d] = static_cast<float>(activate(kind, from[d]));
  });
}

extern const OpImpl act;
const OpImpl act = {run_act, nullptr};

}  // namespace ref
}  // namespace ocelli
