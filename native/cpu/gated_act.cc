// out [.., D] = kind(x[..., :D]) * x[..., D:].
#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_gated_act(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  Activation kind = activation_of(*call.attrs, "kind");
  int64_t width = width_of(out);
  for_rows(call.pool, rows_of(x), 2 * width, [&](int64_t row) {
    const float* gate = row_at(x, row);
    const float* up = gate + width;
    float* to = row_at(out, row);
    for_vectors<F32>(gate, width, [&](int64_t i, Vec v, int lanes) {
      store_some(to + i, activate(kind, v) * load_some(up + i, lanes), lanes);
    });
  });
}

}  // namespace

extern const OpImpl gated_act;
const OpImpl gated_act = {run_gated_act, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
