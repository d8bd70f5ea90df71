// The micro-kernels of linear and attention: MR rows of packed activations times NP panels of packed columns.
//
// Columns lie in panels of kNR = two vectors, [K][kNR]; rows in tiles of MR, [K][MR]. Each element of the result is one
// chain of multiply-adds over ascending k, whatever MR and NP are: a row's bits depend on its operands alone.
#pragma once

#include "cpu/simd.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int kNR = 2 * kLanes;
// Rows of the largest tile, whose accumulators fill the registers but for two columns and one broadcast; and how many
// accumulators several panels at once may have, since wider reads and conversions need registers too.
#if defined(OCELLI_ISA_avx2)
constexpr int kMR = 6;
constexpr int kAccumulators = 8;
#elif defined(OCELLI_ISA_baseline)
constexpr int kMR = 4;            // without a fused multiply-add each product needs a register of its own
constexpr int kAccumulators = 2;  // widening f16 without F16C needs most of them
#else
constexpr int kMR = 12;
constexpr int kAccumulators = 24;
#endif

// Panels that a tile of `mr` rows takes at once: few rows leave registers for independent chains, which hide the
// latency of the multiply-add, and read several sequential streams of weights.
constexpr int panels_at_once(int mr) {
  return kAccumulators / (2 * mr) >= 4 ? 4 : (kAccumulators / (2 * mr) >= 2 ? 2 : 1);
}

// Weights of f32, bf16 or f16 widened to f32 against activations of f32.
template <class D>
struct Widened {
  using A = float;
  using B = typename D::T;
  static constexpr int kStep = 1;   // k per step
  static constexpr int kDepth = 1;  // k that a panel is a multiple of
  static int64_t place(int64_t column, int64_t k) { return k * kNR + column; }  // in a panel
  static Vec column(const B* b) { return D::load(b); }
  static Vec row(const A* a) { return set1(*a); }
  static Vec multiply_add(Vec a, Vec b, Vec c) { return fma(a, b, c); }
#if defined(OCELLI_ISA_avx512)
  // kLanes units of 32 bits: the activations at `from`, of which `left` are there.
  static Vec units(const float* from, int64_t left) {
    return left >= kLanes ? load(from) : load_n(from, static_cast<int>(left));
  }
#endif
};

#if defined(OCELLI_ISA_avx512)
// bf16 against bf16 by pairs of k: columns [K / 2][kNR][2], rows [K / 2][MR][2]. vdpbf16ps adds the second of a pair
// first and flushes denormals.
struct Pairs {
  using A = uint16_t;
  using B = uint16_t;
  static constexpr int kStep = 2;
  static constexpr int kDepth = 2;
  static int64_t place(int64_t column, int64_t k) { return k / 2 * kNR * 2 + column * 2 + k % 2; }
  static __m512bh column(const B* b) { return (__m512bh)_mm512_loadu_si512(b); }
  static __m512bh row(const A* a) {
    int32_t pair;
    std::memcpy(&pair, a, 4);
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static Vec multiply_add(__m512bh a, __m512bh b, Vec c) { return _mm512_dpbf16_ps(c, b, a); }
  static Vec units(const float* from, int64_t left) {
    Vec low = left >= 16 ? load(from) : load_n(from, static_cast<int>(left));
    Vec high = left >= 32 ? load(from + 16) : (left > 16 ? load_n(from + 16, static_cast<int>(left - 16)) : zero());
    return from_bits((__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
};
#endif

#if defined(OCELLI_ISA_amx)
// The same in the tiles of AMX, one behind the other: columns [K / 32][2][16][kLanes][2].
struct Tiled : Pairs {
  static constexpr int kDepth = 32;
  static int64_t place(int64_t column, int64_t k) {
    int64_t tile = k / kDepth * 2 + column / kLanes;
    return (tile * kDepth + k % kDepth / 2 * 2) * kLanes + column % kLanes * 2 + k % 2;
  }
};
#endif

// Rows row(0) to row(mr - 1) of k activations as a tile, [k / kStep][mr][kStep], rounded as the kind has them.
#if defined(OCELLI_ISA_avx512)
template <class Kind, class Row>
void pack_tile(int mr, int64_t k, const Row& row, typename Kind::A* out) {
  int64_t steps = (k + Kind::kStep - 1) / Kind::kStep;
  float* units = reinterpret_cast<float*>(out);  // 32 bits: one f32 or one pair
  for (int64_t s = 0; s < steps; s += kLanes) {
    Vec block[kLanes];
    for (int i = 0; i < kLanes; i++)
      block[i] = i < mr ? Kind::units(row(i) + s * Kind::kStep, k - s * Kind::kStep) : zero();
    transpose(block);
    for (int64_t i = 0; i < kLanes && s + i < steps; i++) store_n(units + (s + i) * mr, block[i], mr);
  }
}
#else
// Without masks for stores of `mr` numbers, numbers one by one are as fast as transposed vectors.
template <class Kind, class Row>
void pack_tile(int mr, int64_t k, const Row& row, float* out) {
  constexpr int64_t kBlock = 64;
  for (int64_t at = 0; at < k; at += kBlock) {
    int64_t end = k < at + kBlock ? k : at + kBlock;
    for (int i = 0; i < mr; i++) {
      const float* from = row(i);
      for (int64_t j = at; j < end; j++) out[j * mr + i] = from[j];
    }
  }
}
#endif

// c (rows CS apart) = rows x columns over `steps` steps of k; with kResume the chains go on from what c holds. Row i's
// part of step s is a[s * AS + i * AR]; panel p begins at b + p * panel. With kFetch the cache lines `ahead` bytes
// behind those read now are prefetched. Not inlined: beside other code the compiler would spill accumulators.
template <class Kind, int MR, int NP, int AS, int AR, int CS, bool kResume, bool kFetch>
__attribute__((noinline)) void multiply_tile(const typename Kind::A* a, const typename Kind::B* b, int64_t panel,
                                             int64_t steps, int64_t ahead, float* c) {
  Vec sum[MR][2 * NP];
  for (int i = 0; i < MR; i++) {
    for (int j = 0; j < 2 * NP; j++) sum[i][j] = kResume ? load(c + i * CS + j * kLanes) : zero();
  }
  for (int64_t s = 0; s < steps; s++) {
#pragma GCC unroll 4
    for (int p = 0; p < NP; p++) {
      const typename Kind::B* at = b + p * panel;
      auto left = Kind::column(at);
      auto right = Kind::column(at + kLanes * Kind::kStep);
      if constexpr (kFetch) {
        for (int64_t line = 0; line < static_cast<int64_t>(kNR * Kind::kStep * sizeof(*at)); line += 64)
          __builtin_prefetch(reinterpret_cast<const char*>(at) + ahead + line);
      }
#pragma GCC unroll 12
      for (int i = 0; i < MR; i++) {
        auto row = Kind::row(a + i * AR);
        sum[i][2 * p] = Kind::multiply_add(row, left, sum[i][2 * p]);
        sum[i][2 * p + 1] = Kind::multiply_add(row, right, sum[i][2 * p + 1]);
      }
    }
    a += AS;
    b += kNR * Kind::kStep;
  }
#pragma GCC unroll 12
  for (int i = 0; i < MR; i++) {
#pragma GCC unroll 8
    for (int j = 0; j < 2 * NP; j++) store(c + i * CS + j * kLanes, sum[i][j]);
  }
}

// Calls f(std::integral_constant<int, rows>) for 1 <= rows <= kMR.
template <int MR = kMR, class F>
inline void with_rows(int rows, const F& f) {
  if constexpr (MR > 1) {
    if (rows < MR) return with_rows<MR - 1>(rows, f);
  }
  f(std::integral_constant<int, MR>());
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
