// What the reference is written with: slow, obvious access to tensors of any dtype and stride, arithmetic in double.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "core/convert.h"
#include "core/op.h"

namespace ocelli {
namespace ref {

inline float read(const void* data, DType dtype, int64_t at) { return read_element(data, dtype, at); }

// Rows: all dimensions but the last.
inline int64_t rows_of(const Tensor& tensor) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < tensor.rank; i++) rows *= tensor.shape[i];
  return rows;
}

inline int64_t width_of(const Tensor& tensor) { return tensor.rank > 0 ? tensor.shape[tensor.rank - 1] : 1; }

// Where flat row `row` begins, in elements.
inline int64_t row_offset(const Tensor& tensor, int64_t row) {
  int64_t offset = 0;
  for (int i = tensor.rank - 2; i >= 0; i--) {
    offset += row % tensor.shape[i] * tensor.stride[i];
    row /= tensor.shape[i];
  }
  return offset;
}

// Where flat element `index` lies, in elements.
inline int64_t element_offset(const Tensor& tensor, int64_t index) {
  int64_t offset = 0;
  for (int i = tensor.rank - 1; i >= 0; i--) {
    offset += index % tensor.shape[i] * tensor.stride[i];
    index /= tensor.shape[i];
  }
  return offset;
}

inline double read_row(const Tensor& tensor, int64_t offset, int64_t column) {
  return read(tensor.data, tensor.dtype, offset + column);
}

enum class Activation { kNone, kGelu, kGeluTanh, kQuickGelu, kSilu, kRelu, kTanh };
Activation activation_from_name(const std::string& name);
double activate(Activation kind, double x);

}  // namespace ref
}  // namespace ocelli
