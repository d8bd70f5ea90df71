#include "core/gated_linear.h"

namespace ocelli {

namespace {

// linear without its gate, into scratch; its own scratch lies behind that.
struct Product {
  Attrs attrs;
  Tensor result;
  OpCall call;

  explicit Product(const OpCall& gated) : result(gated.out[0]), call(gated) {
    result.data = gated.scratch;
    result.shape[result.rank - 1] = gated.in[1].packed->n;
    int64_t stride = 1;
    for (int i = result.rank - 1; i >= 0; i--) {
      result.stride[i] = stride;
      stride *= result.shape[i];
    }
    call.out = &result;
    call.attrs = &attrs;
    call.scratch = static_cast<char*>(gated.scratch) + bytes();
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  size_t bytes() const { return (static_cast<size_t>(result.numel() * size_of(result.dtype)) + 63) / 64 * 64; }
};

}  // namespace

const std::string* gate_of(const Attrs& attrs) {
  for (const auto& entry : attrs.strings) {
    if (entry.first == "gate") return &entry.second;
  }
  return nullptr;
}

size_t scratch_of_gated(const OpCall& call, const OpImpl& linear) {
  const Product product(call);
  return product.bytes() + (linear.scratch == nullptr ? 0 : linear.scratch(product.call));
}

void run_gated(const OpCall& call, const OpImpl& linear, const OpImpl& gated_act) {
  const Product product(call);
  linear.run(product.call);
  Attrs attrs;
  attrs.strings = {{"kind", *gate_of(*call.attrs)}};
  OpCall act = call;
  act.in = &product.result;
  act.inputs = 1;
  act.attrs = &attrs;
  gated_act.run(act);
}

}  // namespace ocelli
