// out [.., D] = (x - mean) / sqrt(variance + eps) * weight [D] + bias [D]. Ba, Kiros and Hinton 2016, arXiv:1607.06450.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_layer_norm(const OpCall& call) {
  expect_counts(call, 2, 3, 1);
  const Tensor& x = call.in[0];
  expect_f32(call, "x", x);
  expect_rows(call, "x", x);
  expect_plain(call, "weight", call.in[1]);
  expect_shape(call, "weight", call.in[1], {x.shape[x.rank - 1]});
  expect_contiguous(call, "weight", call.in[1]);
  if (call.inputs > 2 && call.in[2].rank >= 0) {
    expect_plain(call, "bias", call.in[2]);
    expect_shape(call, "bias", call.in[2], {x.shape[x.rank - 1]});
    expect_contiguous(call, "bias", call.in[2]);
  }
  expect_f32(call, "out", call.out[0]);
  expect_same_shape(call, "out", call.out[0], "x", x);
  expect_rows(call, "out", call.out[0]);
  call.attrs->number("eps");
}

extern const OpContract layer_norm;
const OpContract layer_norm = {check_layer_norm, false};

}  // namespace contract

namespace ref {

static void run_layer_norm(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  double eps = call.attrs->number("eps");
  bool biased = call.inputs > 2 && call.in[2].present();
  int64_t width = width_of(x);
  call.pool->parallel_for(rows_of(x), [&](int64_t row, int) {
    const float* from = x.as<float>() + row_offset(x, row);
    float* to = out.as<float>() + row_offset(out, row);
    double mean = 0;
    for (int64_t d = 0; d < width; d++) mean += from[d];
    mean /= static_cast<double>(width);
    double variance = 0;
    for (int64_t d = 0; d < width; d++) variance += (from[d] - mean) * (from[d] - mean);
    double scale = 1 / std::sqrt(variance / static_cast<double>(width) + eps);
    for (int64_t d = 0; d < width; d++) {
      double bias = biased ? read_row(call.in[2], 0, d) : 0;
      to[d] = static_cast<float>((from[d] - mean) * scale * read_row(call.in[1], 0, d) + bias);
    }
  });
}

extern const OpImpl layer_norm;
const OpImpl layer_norm = {run_layer_norm, nullptr};

}  // namespace ref
}  // namespace ocelli
