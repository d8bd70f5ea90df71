// out [.., D] = (x - mean) / sqrt(variance + eps) * weight + bias, the variance from the differences.
#include <cmath>

#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_layer_norm(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& weight = call.in[1];
  const Tensor* bias = call.inputs > 2 && call.in[2].present() ? &call.in[2] : nullptr;
  const Tensor& out = call.out[0];
  double eps = call.attrs->number("eps");
  int64_t width = width_of(x);
  for_rows(call.pool, rows_of(x), width, [&](int64_t row) {
    const float* from = row_at(x, row);
    float* to = row_at(out, row);
    double mean = static_cast<double>(sum_row(from, width, 0, [](Vec v) { return v; })) / static_cast<double>(width);
    Vec middle = set1(static_cast<float>(mean));
    // The mean was rounded: what that leaves in the sum of differences is taken from the variance (Chan et al. 1983).
    double rest = mean - static_cast<double>(static_cast<float>(mean));
    double squares = sum_row(from, width, static_cast<float>(mean), [&](Vec v) { return (v - middle) * (v - middle); });
    double variance = squares / static_cast<double>(width) - rest * rest;
    Vec scale = set1(static_cast<float>(1 / std::sqrt((variance > 0 ? variance : 0) + eps)));
    with_plain(weight, 0, [&](auto dtype, auto* factor) {
      using D = decltype(dtype);
      for_vectors<F32>(from, width, [&](int64_t i, Vec v, int lanes) {
        Vec y = (v - middle) * scale * load_some<D>(factor + i, lanes);
        store_some(to + i, y, lanes);
      });
    });
    if (bias == nullptr) return;
    with_plain(*bias, 0, [&](auto dtype, auto* term) {
      using D = decltype(dtype);
      for_vectors<F32>(to, width, [&](int64_t i, Vec v, int lanes) {
        store_some(to + i, v + load_some<D>(term + i, lanes), lanes);
      });
    });
  });
}

}  // namespace

extern const OpImpl layer_norm;
const OpImpl layer_norm = {run_layer_norm, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
