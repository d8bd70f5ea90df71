// Tensors as rows: all dimensions but the last are counted through, the last one lies side by side.
#pragma once

#include "core/op.h"
#include "cpu/simd.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

inline int64_t rows_of(const Tensor& tensor) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < tensor.rank; i++) rows *= tensor.shape[i];
  return rows;
}

inline int64_t width_of(const Tensor& tensor) { return tensor.rank > 0 ? tensor.shape[tensor.rank - 1] : 1; }

// Where row `row` begins, in elements.
inline int64_t row_offset(const Tensor& tensor, int64_t row) {
  if (tensor.rank == 2) return row * tensor.stride[0];
  int64_t offset = 0;
  for (int i = tensor.rank - 2; i >= 0; i--) {
    offset += row % tensor.shape[i] * tensor.stride[i];
    row /= tensor.shape[i];
  }
  return offset;
}

inline float* row_at(const Tensor& tensor, int64_t row) { return tensor.as<float>() + row_offset(tensor, row); }

// Elements that one task handles: enough to hide its start (a microsecond), few enough to share out.
constexpr int64_t kTaskElements = 16384;

// body(row) for every row, in tasks of about kTaskElements.
template <class Body>
void for_rows(Pool* pool, int64_t rows, int64_t width, const Body& body) {
  int64_t each = width >= kTaskElements ? 1 : kTaskElements / (width > 0 ? width : 1);
  pool->parallel_for((rows + each - 1) / each, [&](int64_t task, int) {
    int64_t end = rows < (task + 1) * each ? rows : (task + 1) * each;
    for (int64_t row = task * each; row < end; row++) body(row);
  });
}

// `lanes` elements: a whole vector but at the end of a row.
template <class D = F32>
inline Vec load_some(const typename D::T* p, int lanes) {
  return lanes == kLanes ? D::load(p) : D::load(p, lanes);
}

inline void store_some(float* p, Vec v, int lanes) {
  if (lanes == kLanes) {
    store(p, v);
  } else {
    store_n(p, v, lanes);
  }
}

// body(index, vector, lanes) over elements [0, n) of a row.
template <class D, class Body>
inline void for_vectors(const typename D::T* from, int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, D::load(from + i), kLanes);
  if (i < n) body(i, D::load(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

// The sum of term(element) over a row, in four chains of vectors. Where the row ends within a vector, `neutral` stands
// for what is absent; its term must be 0.
template <class Term>
inline float sum_row(const float* from, int64_t n, float neutral, const Term& term) {
  Vec sums[4] = {zero(), zero(), zero(), zero()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int c = 0; c < 4; c++) sums[c] = sums[c] + term(load(from + i + c * kLanes));
  }
  for (int c = 0; i < n; i += kLanes, c++) {
    float lanes[kLanes];
    for (int64_t j = 0; j < kLanes; j++) lanes[j] = i + j < n ? from[i + j] : neutral;
    sums[c & 3] = sums[c & 3] + term(load(lanes));
  }
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// f(dtype tag, typed pointer) for plain data at element `offset` of `tensor`.
template <class F>
inline void with_plain(const Tensor& tensor, int64_t offset, const F& f) {
  switch (tensor.dtype) {
    case DType::kBF16:
      return f(BF16(), tensor.as<const uint16_t>() + offset);
    case DType::kF16:
      return f(F16(), tensor.as<const uint16_t>() + offset);
    default:
      return f(F32(), tensor.as<const float>() + offset);
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
