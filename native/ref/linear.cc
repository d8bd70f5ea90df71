// y [.., N] = act(x [.., K] w^T + bias), w packed [N, K].
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_linear(const OpCall& call) {
  expect_counts(call, 2, 3, 1);
  const Tensor& x = call.in[0];
  const Tensor& w = call.in[1];
  const Tensor& y = call.out[0];
  expect_f32(call, "x", x);
  expect_rows(call, "x", x);
  if (w.packed == nullptr) fail_dtype(call, "w", "a packed matrix", describe(w));
  if (w.packed->k != x.shape[x.rank - 1]) {
    fail_shape(call, "x", "rows of " + std::to_string(w.packed->k) + " (" + describe(w) + ")", describe(x));
  }
  if (call.inputs > 2 && call.in[2].rank >= 0) {
    expect_plain(call, "bias", call.in[2]);
    expect_shape(call, "bias", call.in[2], {w.packed->n});
    expect_contiguous(call, "bias", call.in[2]);
  }
  expect_f32(call, "y", y);
  expect_rows(call, "y", y);
  bool matches = y.rank == x.rank && y.shape[y.rank - 1] == w.packed->n;
  for (int i = 0; matches && i + 1 < x.rank; i++) matches = y.shape[i] == x.shape[i];
  if (!matches)
    fail_shape(call, "y", "the leading dimensions of " + describe(x) + " and " + std::to_string(w.packed->n),
               describe(y));
  for (const auto& entry : call.attrs->strings) {
    if (entry.first == "act") expect_activation(call, entry.second, "act");
  }
}

extern const OpContract linear;
const OpContract linear = {check_linear, false};

}  // namespace contract

namespace ref {

static void run_linear(const OpCall& call) {
  const Tensor& x = call.in[0];
  const PackedMatrix& w = *call.in[1].packed;
  const Tensor& y = call.out[0];
  bool biased = call.inputs > 2 && call.in[2].present();
  Activation act = Activation::kNone;
  for (const auto& entry : call.attrs->strings) {
    if (entry.first == "act") act = activation_from_name(entry.second);
  }
  call.pool->parallel_for(rows_of(x), [&](int64_t row, int) {
    int64_t from = row_offset(x, row);
    float* to = y.as<float>() + row_offset(y, row);
    for (int64_t n = 0; n < w.n; n++) {
      double sum = 0;
      for (int64_t k = 0; k < w.k; k++) {
        sum += static_cast<double>(x.as<float>()[from + k]) * read(w.data, w.format, n * w.k + k);
      }
      if (biased) sum += read_row(call.in[2], 0, n);
      to[n] = static_cast<float>(activate(act, sum));
    }
  });
}

extern const OpImpl linear;
const OpImpl linear = {run_linear, nullptr};

}  // namespace ref
}  // namespace ocelli
