// add and mul: b has a's shape or a suffix of it, or is the attribute `value`.
#pragma once

#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

inline void check_elementwise(const OpCall& call) {
  expect_counts(call, 1, 2, 1);
  const Tensor& a = call.in[0];
  expect_f32(call, "a", a);
  expect_rows(call, "a", a);
  if (call.inputs > 1 && call.in[1].rank >= 0) {
    const Tensor& b = call.in[1];
    expect_plain(call, "b", b);
    bool suffix = b.rank <= a.rank;
    for (int i = 1; suffix && i <= b.rank; i++) suffix = b.shape[b.rank - i] == a.shape[a.rank - i];
    if (!suffix) fail_shape(call, "b", "the shape of 'a', " + describe(a) + ", or its last dimensions", describe(b));
    if (b.rank > 0) expect_rows(call, "b", b);
  } else {
    call.attrs->number("value");
  }
  expect_f32(call, "out", call.out[0]);
  expect_same_shape(call, "out", call.out[0], "a", a);
  expect_rows(call, "out", call.out[0]);
}

}  // namespace contract

namespace ref {

template <class F>
void run_elementwise(const OpCall& call, F apply) {
  const Tensor& a = call.in[0];
  const Tensor& out = call.out[0];
  const Tensor* b = call.inputs > 1 && call.in[1].present() ? &call.in[1] : nullptr;
  double value = b == nullptr ? static_cast<float>(call.attrs->number("value")) : 0;
  int64_t width = width_of(a);
  int64_t repeat = b == nullptr || b->rank == 0 ? 1 : rows_of(*b);
  for (int64_t row = 0; row < rows_of(a); row++) {
    const float* from = a.as<float>() + row_offset(a, row);
    float* to = out.as<float>() + row_offset(out, row);
    int64_t other = b == nullptr ? 0 : row_offset(*b, row % repeat);
    for (int64_t d = 0; d < width; d++) {
      double second = b == nullptr ? value : read_row(*b, other, b->rank == 0 ? 0 : d);
      to[d] = static_cast<float>(apply(static_cast<double>(from[d]), second));
    }
  }
}

}  // namespace ref
}  // namespace ocelli
