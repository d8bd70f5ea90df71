// add and mul: b is of the shape of a or a suffix of it, or is the attribute `value`.
#pragma once

#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// apply(vector of a, vector of b) for each element, rows in parallel.
template <class Apply>
void run_elementwise(const OpCall& call, const Apply& apply) {
  const Tensor& a = call.in[0];
  const Tensor& out = call.out[0];
  const Tensor* b = call.inputs > 1 && call.in[1].present() ? &call.in[1] : nullptr;
  int64_t width = width_of(a);
  int64_t repeat = b == nullptr || b->rank == 0 ? 1 : rows_of(*b);
  bool scalar = b == nullptr || b->rank == 0;
  Vec value = zero();
  if (b == nullptr) {
    value = set1(static_cast<float>(call.attrs->number("value")));
  } else if (scalar) {
    with_plain(*b, 0, [&](auto dtype, auto* from) {
      float lanes[kLanes];
      store(lanes, decltype(dtype)::load(from, 1));
      value = set1(lanes[0]);
    });
  }
  for_rows(call.pool, rows_of(a), width, [&](int64_t row) {
    const float* from = row_at(a, row);
    float* to = row_at(out, row);
    if (scalar) {
      for_vectors<F32>(from, width, [&](int64_t i, Vec v, int lanes) { store_some(to + i, apply(v, value), lanes); });
      return;
    }
    with_plain(*b, row_offset(*b, row % repeat), [&](auto dtype, auto* other) {
      using D = decltype(dtype);
      for_vectors<F32>(from, width, [&](int64_t i, Vec v, int lanes) {
        store_some(to + i, apply(v, load_some<D>(other + i, lanes)), lanes);
      });
    });
  });
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
