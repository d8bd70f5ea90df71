// linear with a gate as two ops, where kernels do not have it: the product in scratch, then gated_act.
#pragma once

#include "core/op.h"

namespace ocelli {

// The kind of linear's gate; null: it has none.
inline const std::string* gate_of(const Attrs& attrs) {
  for (const auto& entry : attrs.strings) {
    if (entry.first == "gate") return &entry.second;
  }
  return nullptr;
}

struct GatedLinear {
  const OpCall& call;
  const OpImpl& linear;
  Attrs plain;  // linear's
  Tensor product;

  GatedLinear(const OpCall& c, const OpImpl& impl) : call(c), linear(impl), product(c.out[0]) {
    product.data = call.scratch;
    product.shape[product.rank - 1] = call.in[1].packed->n;
    int64_t stride = 1;
    for (int i = product.rank - 1; i >= 0; i--) {
      product.stride[i] = stride;
      stride *= product.shape[i];
    }
  }

  size_t product_bytes() const { return (static_cast<size_t>(product.numel()) * size_of(product.dtype) + 63) / 64 * 64; }

  OpCall linear_call() const {
    OpCall inner = call;
    inner.out = &product;
    inner.attrs = &plain;
    inner.scratch = static_cast<char*>(call.scratch) + product_bytes();
    return inner;
  }

  size_t scratch_bytes() const { return product_bytes() + (linear.scratch ? linear.scratch(linear_call()) : 0); }

  void run(const OpImpl& gated_act) const {
    linear.run(linear_call());
    Attrs attrs;
    attrs.strings = {{"kind", *gate_of(*call.attrs)}};
    OpCall outer = call;
    outer.in = &product;
    outer.inputs = 1;
    outer.attrs = &attrs;
    gated_act.run(outer);
  }
};

}  // namespace ocelli
