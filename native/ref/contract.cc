#include "ref/contract.h"

namespace ocelli {
namespace contract {

namespace {

std::string where(const OpCall& call, const std::string& operand) { return "'" + operand + "' of " + call.path; }

}  // namespace

void fail_shape(const OpCall& call, const std::string& operand, const std::string& expected, const std::string& found) {
  throw Error("ERR_SHAPE", "Expected " + expected + " for " + where(call, operand) + " but received " + found);
}

void fail_dtype(const OpCall& call, const std::string& operand, const std::string& expected, const std::string& found) {
  throw Error("ERR_DTYPE", "Expected " + expected + " for " + where(call, operand) + " but received " + found);
}

void fail_attr(const OpCall& call, const std::string& name, const std::string& expected, const std::string& found) {
  throw Error("ERR_PROGRAM", "Expected " + expected + " for attribute " + where(call, name) + " but received " + found);
}

void expect_counts(const OpCall& call, int min_inputs, int max_inputs, int outputs) {
  if (call.inputs < min_inputs || call.inputs > max_inputs) {
    std::string expected = min_inputs == max_inputs ? std::to_string(min_inputs)
                                                    : std::to_string(min_inputs) + " to " + std::to_string(max_inputs);
    fail_shape(call, "inputs", expected + " operands", std::to_string(call.inputs));
  }
  if (call.outputs != outputs)
    fail_shape(call, "outputs", std::to_string(outputs) + " results", std::to_string(call.outputs));
}

void expect_present(const OpCall& call, const char* operand, const Tensor& tensor) {
  // While sizes are bound data may be null: a rank or a packed matrix tells an operand from nothing.
  if (!tensor.present() && tensor.rank < 0) fail_shape(call, operand, "a tensor", "nothing");
}

void expect_dtype(const OpCall& call, const char* operand, const Tensor& tensor, std::initializer_list<DType> dtypes) {
  expect_present(call, operand, tensor);
  if (tensor.packed != nullptr) fail_dtype(call, operand, "a plain tensor", describe(tensor));
  std::string names;
  for (DType dtype : dtypes) {
    if (tensor.dtype == dtype) return;
    names += (names.empty() ? "" : " or ") + std::string(name_of(dtype));
  }
  fail_dtype(call, operand, names, describe(tensor));
}

void expect_f32(const OpCall& call, const char* operand, const Tensor& tensor) {
  expect_dtype(call, operand, tensor, {DType::kF32});
}

void expect_plain(const OpCall& call, const char* operand, const Tensor& tensor) {
  expect_dtype(call, operand, tensor, {DType::kF32, DType::kBF16, DType::kF16});
}

void expect_i32(const OpCall& call, const char* operand, const Tensor& tensor) {
  expect_dtype(call, operand, tensor, {DType::kI32});
}

void expect_rank(const OpCall& call, const char* operand, const Tensor& tensor, int rank) {
  if (tensor.rank != rank) fail_shape(call, operand, "rank " + std::to_string(rank), describe(tensor));
}

void expect_shape(const OpCall& call, const char* operand, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  bool matches = tensor.rank == static_cast<int>(shape.size());
  std::string text;
  int i = 0;
  for (int64_t size : shape) {
    if (matches && size >= 0 && tensor.shape[i] != size) matches = false;
    text += (i++ > 0 ? ", " : "") + (size < 0 ? std::string("any") : std::to_string(size));
  }
  if (!matches) fail_shape(call, operand, "[" + text + "]", describe(tensor));
}

void expect_same_shape(const OpCall& call, const char* operand, const Tensor& tensor, const char* other_name,
                       const Tensor& other) {
  bool same = tensor.rank == other.rank;
  for (int i = 0; same && i < tensor.rank; i++) same = tensor.shape[i] == other.shape[i];
  if (!same)
    fail_shape(call, operand, std::string("the shape of '") + other_name + "', " + describe(other) + ",",
               describe(tensor));
}

void expect_rows(const OpCall& call, const char* operand, const Tensor& tensor) {
  if (tensor.rank < 1) fail_shape(call, operand, "rank 1 or more", describe(tensor));
  int last = tensor.rank - 1;
  if (tensor.shape[last] > 1 && tensor.stride[last] != 1) {
    fail_shape(call, operand, "elements of a row side by side",
               describe(tensor) + " with stride " + std::to_string(tensor.stride[last]));
  }
}

void expect_contiguous(const OpCall& call, const char* operand, const Tensor& tensor) {
  if (!tensor.contiguous()) fail_shape(call, operand, "a tensor without gaps", describe(tensor) + " with strides");
}

void expect_activation(const OpCall& call, const std::string& kind, const char* attribute) {
  for (const char* known : {"gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "tanh"}) {
    if (kind == known) return;
  }
  fail_attr(call, attribute, "gelu, gelu_tanh, quick_gelu, silu, relu or tanh", "'" + kind + "'");
}

}  // namespace contract
}  // namespace ocelli
