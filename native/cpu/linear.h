// How a weight matrix lies in memory, shared by packing (at load) and multiplying.
#pragma once

#include "core/op.h"
#include "cpu/gemm.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// f(kind of multiplication) for the format of a packed matrix.
template <class F>
inline void with_kind(WeightFormat format, const F& f) {
  switch (format) {
    case WeightFormat::kBF16:
#if defined(OCELLI_ISA_amx)
      return f(Tiled());
#elif defined(OCELLI_ISA_avx512)
      return f(Pairs());
#else
      return f(Widened<BF16>());
#endif
    case WeightFormat::kF16:
      return f(Widened<F16>());
    default:
      return f(Widened<F32>());
  }
}

// Steps of k, the last one padded with zeros.
template <class Kind>
inline int64_t steps_of(int64_t k) {
  return (k + Kind::kStep - 1) / Kind::kStep;
}

inline int64_t panels_of(int64_t n) { return (n + kNR - 1) / kNR; }

// Elements of one panel.
template <class Kind>
inline int64_t panel_size(int64_t k) {
  return (k + Kind::kDepth - 1) / Kind::kDepth * Kind::kDepth * kNR;
}

size_t packed_bytes(WeightFormat format, int64_t n, int64_t k);
void pack(const Tensor& rows, int64_t row, PackedMatrix& dst);

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
