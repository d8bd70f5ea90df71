// out [.., D] = x / sqrt(mean(x^2) + eps) * (offset + weight).
#include <cmath>

#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_rms_norm(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  double eps = call.attrs->number("eps");
  Vec offset = set1(static_cast<float>(call.attrs->number("offset", 0)));
  int64_t width = width_of(x);
  for_rows(call.pool, rows_of(x), width, [&](int64_t row) {
    const float* from = row_at(x, row);
    float* to = row_at(out, row);
    double squares = sum_row(from, width, 0, [](Vec v) { return v * v; });
    Vec scale = set1(static_cast<float>(1 / std::sqrt(squares / static_cast<double>(width) + eps)));
    with_plain(call.in[1], 0, [&](auto dtype, auto* weight) {
      using D = decltype(dtype);
      for_vectors<F32>(from, width, [&](int64_t i, Vec v, int lanes) {
        store_some(to + i, v * scale * (offset + load_some<D>(weight + i, lanes)), lanes);
      });
    });
  });
}

}  // namespace

extern const OpImpl rms_norm;
const OpImpl rms_norm = {run_rms_norm, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
