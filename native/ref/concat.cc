// Joins tensors along attr `dim`; operands may be views of any strides. One that was planned into the result's storage
// is left where it is.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_concat(const OpCall& call) {
  expect_counts(call, 1, 1 << 16, 1);
  const Tensor& out = call.out[0];
  int64_t dim = call.attrs->integer("dim");
  if (dim < 0 || dim >= out.rank) fail_attr(call, "dim", "a dimension of " + describe(out), std::to_string(dim));
  bool integers = out.dtype == DType::kI32;
  if (!integers) expect_f32(call, "out", out);
  int64_t sum = 0;
  for (int i = 0; i < call.inputs; i++) {
    const Tensor& in = call.in[i];
    std::string name = "inputs[" + std::to_string(i) + "]";
    if (integers) {
      expect_i32(call, name.c_str(), in);
    } else {
      expect_plain(call, name.c_str(), in);
    }
    expect_rank(call, name.c_str(), in, out.rank);
    for (int d = 0; d < out.rank; d++) {
      if (d != dim && in.shape[d] != out.shape[d])
        fail_shape(call, name, "the shape of " + describe(out) + " beside dim", describe(in));
    }
    sum += in.shape[dim];
  }
  if (sum != out.shape[dim]) {
    fail_shape(call, "out", std::to_string(sum) + " in dimension " + std::to_string(dim), describe(out));
  }
}

extern const OpContract concat;
const OpContract concat = {check_concat, false};

}  // namespace contract

namespace ref {

static void run_concat(const OpCall& call) {
  const Tensor& out = call.out[0];
  int64_t dim = call.attrs->integer("dim");
  int64_t start = 0;
  for (int i = 0; i < call.inputs; i++) {
    const Tensor& in = call.in[i];
    Tensor part = out;
    for (int d = 0; d < out.rank; d++) part.shape[d] = in.shape[d];
    part.data = out.as<char>() + start * out.stride[dim] * size_of(out.dtype);
    start += in.shape[dim];
    bool planned = in.dtype == out.dtype && in.data == part.data;
    for (int d = 0; planned && d < out.rank; d++) planned = in.shape[d] == 1 || in.stride[d] == part.stride[d];
    if (planned) continue;
    int64_t count = in.numel();
    for (int64_t n = 0; n < count; n++) {
      int64_t from = element_offset(in, n);
      int64_t to = element_offset(part, n);
      if (out.dtype == DType::kI32) {
        part.as<int32_t>()[to] = in.as<int32_t>()[from];
      } else {
        part.as<float>()[to] = read(in.data, in.dtype, from);
      }
    }
  }
}

extern const OpImpl concat;
const OpImpl concat = {run_concat, nullptr};

}  // namespace ref
}  // namespace ocelli
