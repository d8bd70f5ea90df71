// What contracts are written with: each check throws ERR_SHAPE or ERR_DTYPE naming path, operand, expectation and what
// came.
#pragma once

#include <initializer_list>
#include <string>

#include "core/op.h"

namespace ocelli {
namespace contract {

[[noreturn]] void fail_shape(const OpCall& call, const std::string& operand, const std::string& expected,
                             const std::string& found);
[[noreturn]] void fail_dtype(const OpCall& call, const std::string& operand, const std::string& expected,
                             const std::string& found);
[[noreturn]] void fail_attr(const OpCall& call, const std::string& name, const std::string& expected,
                            const std::string& found);

void expect_counts(const OpCall& call, int min_inputs, int max_inputs, int outputs);
void expect_present(const OpCall& call, const char* operand, const Tensor& tensor);
void expect_dtype(const OpCall& call, const char* operand, const Tensor& tensor, std::initializer_list<DType> dtypes);
void expect_f32(const OpCall& call, const char* operand, const Tensor& tensor);
void expect_plain(const OpCall& call, const char* operand, const Tensor& tensor);  // f32, bf16 or f16
void expect_i32(const OpCall& call, const char* operand, const Tensor& tensor);
void expect_rank(const OpCall& call, const char* operand, const Tensor& tensor, int rank);
// -1: any size.
void expect_shape(const OpCall& call, const char* operand, const Tensor& tensor, std::initializer_list<int64_t> shape);
void expect_same_shape(const OpCall& call, const char* operand, const Tensor& tensor, const char* other_name,
                       const Tensor& other);
// The last dimension has stride 1 (or holds at most one element).
void expect_rows(const OpCall& call, const char* operand, const Tensor& tensor);
void expect_contiguous(const OpCall& call, const char* operand, const Tensor& tensor);
// `kind` of act and gated_act, or linear's optional `act`.
void expect_activation(const OpCall& call, const std::string& kind, const char* attribute);

}  // namespace contract
}  // namespace ocelli
