// out = kind(x), elementwise.
#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_act(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  Activation kind = activation_of(*call.attrs, "kind");
  int64_t width = width_of(x);
  for_rows(call.pool, rows_of(x), width, [&](int64_t row) {
    float* to = row_at(out, row);
    for_vectors<F32>(row_at(x, row), width,
                     [&](int64_t i, Vec v, int lanes) { store_some(to + i, activate(kind, v), lanes); });
  });
}

}  // namespace

extern const OpImpl act;
const OpImpl act = {run_act, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
