// Packs rows of a weight into panels of columns: [panel][k / kStep][kNR][kStep], zeros where n or k is padded.
#include "core/convert.h"
#include "cpu/linear.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

constexpr int64_t kBlock = 64;  // k at once: a cache line or more of source and destination each

// Elements [at, at + n) of a row, in the packed format. Equal formats are copied bit by bit.
void convert(const float* from, int64_t n, DType, float* to) { std::memcpy(to, from, n * sizeof(float)); }

void convert(const float* from, int64_t n, DType format, uint16_t* to) {
  if (format == DType::kF16) {
    for (int64_t i = 0; i < n; i++) to[i] = narrow_f16(from[i]);
    return;
  }
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_bf16(to + i, load(from + i));
  for (; i < n; i++) to[i] = narrow_bf16(from[i]);
}

template <class D>
void widen(const typename D::T* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, D::load(from + i));
  if (i < n) store_n(to + i, D::load(from + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

template <class T>
void read_block(const Tensor& rows, int64_t offset, int64_t n, DType format, T* to) {
  if (rows.dtype == format) {
    std::memcpy(to, rows.as<const T>() + offset, n * sizeof(T));
    return;
  }
  float wide[kBlock];
  if (rows.dtype == DType::kBF16) {
    widen<BF16>(rows.as<const uint16_t>() + offset, n, wide);
  } else if (rows.dtype == DType::kF16) {
    widen<F16>(rows.as<const uint16_t>() + offset, n, wide);
  } else {
    std::memcpy(wide, rows.as<const float>() + offset, n * sizeof(float));
  }
  convert(wide, n, format, to);
}

template <class Kind>
void pack_rows(const Tensor& rows, int64_t first, PackedMatrix& dst) {
  using T = typename Kind::B;
  constexpr int64_t kStep = Kind::kStep;
  T* panels = static_cast<T*>(dst.data);
  int64_t end = first + rows.shape[0];
  for (int64_t n = first; n < end; n += kNR - n % kNR) {
    T* panel = panels + n / kNR * panel_size<Kind>(dst.k);
    int64_t count = end - n < kNR - n % kNR ? end - n : kNR - n % kNR;
    for (int64_t k = 0; k < dst.k; k += kBlock) {
      int64_t width = dst.k - k < kBlock ? dst.k - k : kBlock;
      for (int64_t j = 0; j < count; j++) {
        T block[kBlock];
        read_block(rows, (n - first + j) * rows.stride[0] + k, width, dst.format, block);
        T* to = panel + k * kNR + (n % kNR + j) * kStep;
        for (int64_t i = 0; i < width; i++) to[i / kStep * kNR * kStep + i % kStep] = block[i];
      }
    }
  }
}

}  // namespace

size_t packed_bytes(DType format, int64_t n, int64_t k) {
  size_t bytes = 0;
  with_kind(format, [&](auto kind) {
    using Kind = decltype(kind);
    bytes = static_cast<size_t>(panels_of(n) * panel_size<Kind>(k)) * sizeof(typename Kind::B);
  });
  return bytes;
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  with_kind(dst.format, [&](auto kind) { pack_rows<decltype(kind)>(rows, row, dst); });
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
