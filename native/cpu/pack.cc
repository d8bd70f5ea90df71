// Packs rows of a weight into panels of columns, as kinds of multiplication have them; zeros where n or k is padded.
#include "core/convert.h"
#include "cpu/linear.h"
#include "cpu/linear_quantized.h"
#include "cpu/linear_rows.h"

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

// Where element k of column `n` lies.
template <class Kind>
typename Kind::B* place(const PackedMatrix& dst, int64_t n, int64_t k) {
  return static_cast<typename Kind::B*>(dst.data) + n / kNR * panel_size<Kind>(dst.k) + Kind::place(n % kNR, k);
}

// `width` elements from k on of kLanes rows that fill half a panel, by transposing units of 32 bits: one f32, or two of
// 16 bits, which lie side by side in the panel (pairs) or one step apart. rows[i] may be read in whole vectors.
template <class Kind>
void pack_group(const typename Kind::B* const* rows, int64_t width, const PackedMatrix& dst, int64_t n, int64_t k) {
  using T = typename Kind::B;
  constexpr int64_t kUnit = 4 / sizeof(T);
  for (int64_t u = 0; u < width; u += kLanes * kUnit) {
    Vec block[kLanes];
    for (int i = 0; i < kLanes; i++) block[i] = load(reinterpret_cast<const float*>(rows[i] + u));
    transpose(block);
    for (int64_t i = 0; i < kLanes && u + i * kUnit < width; i++) {
      T* to = place<Kind>(dst, n, k + u + i * kUnit);
      if constexpr (kUnit == Kind::kStep) {
        store(reinterpret_cast<float*>(to), block[i]);
      } else {
        store_u16(to, bits(block[i]));
        if (u + 2 * i + 1 < width) store_u16(to + kNR, shift_right<16>(bits(block[i])));
      }
    }
  }
}

template <class Kind>
void pack_rows(const Tensor& rows, int64_t first, PackedMatrix& dst) {
  using T = typename Kind::B;
  DType format = plain_dtype(dst.format);
  int64_t count = rows.shape[0];
  for (int64_t r = 0; r < count;) {
    int64_t n = first + r;
    bool whole = n % kLanes == 0 && count - r >= kLanes;
    int64_t height = whole ? kLanes : 1;
    for (int64_t k = 0; k < dst.k; k += kBlock) {
      int64_t width = dst.k - k < kBlock ? dst.k - k : kBlock;
      T stage[kLanes][kBlock];
      if (width < kBlock) std::memset(stage, 0, sizeof(stage));
      const T* from[kLanes];
      for (int64_t i = 0; i < height; i++) {
        int64_t offset = (r + i) * rows.stride[0] + k;
        from[i] = stage[i];
        if (rows.dtype == format && width == kBlock) {
          from[i] = rows.as<const T>() + offset;
        } else {
          read_block(rows, offset, width, format, stage[i]);
        }
      }
      if (whole) {
        pack_group<Kind>(from, width, dst, n, k);
      } else {
        for (int64_t i = 0; i < width; i++) *place<Kind>(dst, n, k + i) = from[0][i];
      }
    }
    r += height;
  }
}

}  // namespace

size_t packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  if (format == WeightFormat::kI8Rows) return static_cast<size_t>(panels_of(n) * rows_panel_bytes(k));
  if (quantized(format)) return static_cast<size_t>(panels_of(n) * quantized_panel_bytes(format, k));
  size_t bytes = 0;
  with_kind(format, [&](auto kind) {
    using Kind = decltype(kind);
    bytes = static_cast<size_t>(panels_of(n) * panel_size<Kind>(k)) * sizeof(typename Kind::B);
  });
  return bytes;
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& dst) {
  if (quantized(dst.format)) return pack_quantized(rows, row, dst);
  with_kind(dst.format, [&](auto kind) { pack_rows<decltype(kind)>(rows, row, dst); });
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
