// out [.., D] = x / sqrt(mean(x^2) + eps) * (offset + weight [D]). Zhang and Sennrich 2019, arXiv:1910.07467.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_rms_norm(const OpCall& call) {
  expect_counts(call, 2, 2, 1);
  const Tensor& x = call.in[0];
  expect_f32(call, "x", x);
  expect_rows(call, "x", x);
  expect_plain(call, "weight", call.in[1]);
  expect_shape(call, "weight", call.in[1], {x.shape[x.rank - 1]});
  expect_contiguous(call, "weight", call.in[1]);
  expect_f32(call, "out", call.out[0]);
  expect_same_shape(call, "out", call.out[0], "x", x);
  expect_rows(call, "out", call.out[0]);
  call.attrs->number("eps");
}

extern const OpContract rms_norm;
const OpContract rms_norm = {check_rms_norm, false};

}  // namespace contract

namespace ref {

static void run_rms_norm(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  double eps = call.attrs->number("eps");
  double offset = call.attrs->number("offset", 0);
  int64_t width = width_of(x);
  call.pool->parallel_for(rows_of(x), [&](int64_t row, int) {
    const float* from = x.as<float>() + row_offset(x, row);
    float* to = out.as<float>() + row_offset(out, row);
    double sum = 0;
    for (int64_t d = 0; d < width; d++) sum += static_cast<double>(from[d]) * from[d];
    double scale = 1 / std::sqrt(sum / static_cast<double>(width) + eps);
    for (int64_t d = 0; d < width; d++)
      to[d] = static_cast<float>(from[d] * scale * (offset + read_row(call.in[1], 0, d)));
  });
}

extern const OpImpl rms_norm;
const OpImpl rms_norm = {run_rms_norm, nullptr};

}  // namespace ref
}  // namespace ocelli
