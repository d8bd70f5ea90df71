// out [.., D] = kind(x[..., :D]) * x[..., D:], x [.., 2 D]. Shazeer 2020, arXiv:2002.05202.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_gated_act(const OpCall& call) {
  expect_counts(call, 1, 1, 1);
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  expect_f32(call, "x", x);
  expect_rows(call, "x", x);
  expect_f32(call, "out", out);
  expect_rank(call, "out", out, x.rank);
  expect_rows(call, "out", out);
  bool matches = out.shape[out.rank - 1] * 2 == x.shape[x.rank - 1];
  for (int i = 0; matches && i + 1 < x.rank; i++) matches = out.shape[i] == x.shape[i];
  if (!matches) fail_shape(call, "out", "half the width of " + describe(x), describe(out));
  expect_activation(call, call.attrs->string("kind"), "kind");
}

extern const OpContract gated_act;
const OpContract gated_act = {check_gated_act, false};

}  // namespace contract

namespace ref {

static void run_gated_act(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  Activation kind = activation_from_name(call.attrs->string("kind"));
  int64_t width = width_of(out);
  call.pool->parallel_for(rows_of(x), [&](int64_t row, int) {
    const float* from = x.as<float>() + row_offset(x, row);
    float* to = out.as<float>() + row_offset(out, row);
    for (int64_t d = 0; d < width; d++) to[d] = static_cast<float>(activate(kind, from[d]) * from[width + d]);
  });
}

extern const OpImpl gated_act;
const OpImpl gated_act = {run_gated_act, nullptr};

}  // namespace ref
}  // namespace ocelli
