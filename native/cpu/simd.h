// One vector of f32 per instruction set, and what the kernels do with it. Every kernel is written once against this
// file and compiled once per set (CMakeLists.txt), each into its own namespace, so that no symbol is shared between
// sets.
// + - * / are the compiler's own on these types.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

#if defined(OCELLI_ISA_avx512)

using Vec = __m512;
using Int = __m512i;
using Mask = __mmask16;
constexpr int kLanes = 16;

inline Vec set1(float x) { return _mm512_set1_ps(x); }
inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Mask first(int n) { return static_cast<Mask>((1u << n) - 1); }
inline Vec load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
inline void store_n(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, first(n), v); }
inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec abs(Vec a) { return _mm512_abs_ps(a); }
inline Vec round(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
inline Mask is_nan(Vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
inline Vec select(Mask m, Vec yes, Vec no) { return _mm512_mask_blend_ps(m, no, yes); }
inline Int to_int(Vec a) { return _mm512_cvtps_epi32(a); }
inline Int bits(Vec a) { return _mm512_castps_si512(a); }
inline Vec from_bits(Int a) { return _mm512_castsi512_ps(a); }
inline Int add_int(Int a, Int b) { return _mm512_add_epi32(a, b); }
inline Int set1_int(int32_t x) { return _mm512_set1_epi32(x); }
inline Int and_int(Int a, Int b) { return _mm512_and_si512(a, b); }
inline Int or_int(Int a, Int b) { return _mm512_or_si512(a, b); }
template <int N>
inline Int shift_left(Int a) {
  return _mm512_slli_epi32(a, N);
}
template <int N>
inline Int shift_right(Int a) {
  return _mm512_srli_epi32(a, N);
}
inline Int load_u16(const uint16_t* p) {
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// The low halves of 32-bit lanes.
inline void store_u16(uint16_t* p, Int v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v));
}
inline Vec load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline float sum(Vec v) { return _mm512_reduce_add_ps(v); }
inline float largest(Vec v) { return _mm512_reduce_max_ps(v); }

// Rows become columns, of kLanes vectors.
inline void transpose(Vec* r) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  // Columns c, c + 4, c + 8, c + 12 of four rows each.
  for (int i = 0; i < 16; i += 4) {
    __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
    __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  for (int i = 0; i < 4; i++) {
    __m512 low = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x44), high = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xee);
    __m512 low2 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x44),
           high2 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xee);
    t[i] = _mm512_shuffle_f32x4(low, low2, 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(low, low2, 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(high, high2, 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(high, high2, 0xdd);
  }
  for (int i = 0; i < 16; i++) r[i] = t[i];
}

#elif defined(OCELLI_ISA_avx2)

using Vec = __m256;
using Int = __m256i;
using Mask = __m256;
constexpr int kLanes = 8;

inline Vec set1(float x) { return _mm256_set1_ps(x); }
inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline Int first(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
inline Vec load_n(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
// Not vmaskmovps, which takes dozens of operations on some processors.
inline void store_n(float* p, Vec v, int n) {
  float lanes[8];
  store(lanes, v);
  for (int i = 0; i < n && i < 8; i++) p[i] = lanes[i];
}
inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a); }
inline Vec round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Mask less(Vec a, Vec b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
inline Mask is_nan(Vec a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
inline Vec select(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, m); }
inline Int to_int(Vec a) { return _mm256_cvtps_epi32(a); }
inline Int bits(Vec a) { return _mm256_castps_si256(a); }
inline Vec from_bits(Int a) { return _mm256_castsi256_ps(a); }
inline Int add_int(Int a, Int b) { return _mm256_add_epi32(a, b); }
inline Int set1_int(int32_t x) { return _mm256_set1_epi32(x); }
inline Int and_int(Int a, Int b) { return _mm256_and_si256(a, b); }
inline Int or_int(Int a, Int b) { return _mm256_or_si256(a, b); }
template <int N>
inline Int shift_left(Int a) {
  return _mm256_slli_epi32(a, N);
}
template <int N>
inline Int shift_right(Int a) {
  return _mm256_srli_epi32(a, N);
}
inline Int load_u16(const uint16_t* p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store_u16(uint16_t* p, Int v) {
  __m256i low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
  __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
}
inline Vec load_f16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline float sum(Vec v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float largest(Vec v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

inline void transpose(Vec* r) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
  for (int i = 0; i < 8; i++) r[i] = t[i];
}

#elif defined(OCELLI_ISA_baseline)

using Vec = __m128;
using Int = __m128i;
using Mask = __m128;
constexpr int kLanes = 4;

inline Vec set1(float x) { return _mm_set1_ps(x); }
inline Vec load(const float* p) { return _mm_loadu_ps(p); }
inline void store(float* p, Vec v) { _mm_storeu_ps(p, v); }
inline Vec load_n(const float* p, int n) {
  float lanes[4] = {};
  for (int i = 0; i < n && i < 4; i++) lanes[i] = p[i];
  return load(lanes);
}
inline void store_n(float* p, Vec v, int n) {
  float lanes[4];
  store(lanes, v);
  for (int i = 0; i < n && i < 4; i++) p[i] = lanes[i];
}
// x86-64-v2 has no fused multiply-add: two roundings, the same everywhere on this set.
inline Vec fma(Vec a, Vec b, Vec c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
inline Vec max(Vec a, Vec b) { return _mm_max_ps(a, b); }
inline Vec abs(Vec a) { return _mm_andnot_ps(_mm_set1_ps(-0.f), a); }
inline Vec round(Vec a) { return _mm_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Mask less(Vec a, Vec b) { return _mm_cmplt_ps(a, b); }
inline Mask is_nan(Vec a) { return _mm_cmpunord_ps(a, a); }
inline Vec select(Mask m, Vec yes, Vec no) { return _mm_blendv_ps(no, yes, m); }
inline Int to_int(Vec a) { return _mm_cvtps_epi32(a); }
inline Int bits(Vec a) { return _mm_castps_si128(a); }
inline Vec from_bits(Int a) { return _mm_castsi128_ps(a); }
inline Int add_int(Int a, Int b) { return _mm_add_epi32(a, b); }
inline Int set1_int(int32_t x) { return _mm_set1_epi32(x); }
inline Int and_int(Int a, Int b) { return _mm_and_si128(a, b); }
inline Int or_int(Int a, Int b) { return _mm_or_si128(a, b); }
template <int N>
inline Int shift_left(Int a) {
  return _mm_slli_epi32(a, N);
}
template <int N>
inline Int shift_right(Int a) {
  return _mm_srli_epi32(a, N);
}
inline Int load_u16(const uint16_t* p) {
  return _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline void store_u16(uint16_t* p, Int v) {
  __m128i low = _mm_and_si128(v, _mm_set1_epi32(0xffff));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, low));
}
// Without F16C: the half's exponent and fraction in a float's place, rebiased by a multiplication, which normalises
// denormals too; they are normal as floats, so that flush-to-zero would lose them: integers are subtracted instead.
inline Vec load_f16(const uint16_t* p) {
  __m128i half = load_u16(p);
  __m128i sign = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x8000)), 16);
  __m128i magnitude = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x7fff)), 13);
  __m128i normal = _mm_add_epi32(magnitude, _mm_set1_epi32(112 << 23));
  // Zero and denormals: 2^-14 * (1 + fraction) - 2^-14.
  __m128 least = _mm_castsi128_ps(_mm_set1_epi32(113 << 23));
  __m128i tiny =
      _mm_castps_si128(_mm_sub_ps(_mm_castsi128_ps(_mm_add_epi32(magnitude, _mm_set1_epi32(113 << 23))), least));
  __m128i is_tiny = _mm_cmplt_epi32(magnitude, _mm_set1_epi32(1 << 23));
  // Infinity and NaN (which comes out quiet).
  __m128i is_last = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32((31 << 23) - 1));
  __m128i is_nan = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(31 << 23));
  normal = _mm_add_epi32(normal, _mm_and_si128(is_last, _mm_set1_epi32(112 << 23)));
  normal = _mm_or_si128(normal, _mm_and_si128(is_nan, _mm_set1_epi32(1 << 22)));
  return _mm_castsi128_ps(_mm_or_si128(sign, _mm_blendv_epi8(normal, tiny, is_tiny)));
}
inline float sum(Vec v) {
  Vec x = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline float largest(Vec v) {
  Vec x = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

inline void transpose(Vec* r) { _MM_TRANSPOSE4_PS(r[0], r[1], r[2], r[3]); }

#else  // NEON

using Vec = float32x4_t;
using Int = int32x4_t;
using Mask = uint32x4_t;
constexpr int kLanes = 4;

inline Vec set1(float x) { return vdupq_n_f32(x); }
inline Vec load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, Vec v) { vst1q_f32(p, v); }
inline Vec load_n(const float* p, int n) {
  float lanes[4] = {};
  for (int i = 0; i < n && i < 4; i++) lanes[i] = p[i];
  return load(lanes);
}
inline void store_n(float* p, Vec v, int n) {
  float lanes[4];
  store(lanes, v);
  for (int i = 0; i < n && i < 4; i++) p[i] = lanes[i];
}
inline Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
inline Vec max(Vec a, Vec b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
inline Vec abs(Vec a) { return vabsq_f32(a); }
inline Vec round(Vec a) { return vrndnq_f32(a); }
inline Mask less(Vec a, Vec b) { return vcltq_f32(a, b); }
inline Mask is_nan(Vec a) { return vmvnq_u32(vceqq_f32(a, a)); }
inline Vec select(Mask m, Vec yes, Vec no) { return vbslq_f32(m, yes, no); }
inline Int to_int(Vec a) { return vcvtnq_s32_f32(a); }
inline Int bits(Vec a) { return vreinterpretq_s32_f32(a); }
inline Vec from_bits(Int a) { return vreinterpretq_f32_s32(a); }
inline Int add_int(Int a, Int b) { return vaddq_s32(a, b); }
inline Int set1_int(int32_t x) { return vdupq_n_s32(x); }
inline Int and_int(Int a, Int b) { return vandq_s32(a, b); }
inline Int or_int(Int a, Int b) { return vorrq_s32(a, b); }
template <int N>
inline Int shift_left(Int a) {
  return vshlq_n_s32(a, N);
}
template <int N>
inline Int shift_right(Int a) {
  return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a), N));
}
inline Int load_u16(const uint16_t* p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
inline void store_u16(uint16_t* p, Int v) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(v))); }
inline Vec load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
inline void transpose(Vec* r) {
  float32x4x2_t a = vzipq_f32(r[0], r[2]);
  float32x4x2_t b = vzipq_f32(r[1], r[3]);
  float32x4x2_t low = vzipq_f32(a.val[0], b.val[0]);
  float32x4x2_t high = vzipq_f32(a.val[1], b.val[1]);
  r[0] = low.val[0];
  r[1] = low.val[1];
  r[2] = high.val[0];
  r[3] = high.val[1];
}
inline float sum(Vec v) { return vaddvq_f32(v); }
inline float largest(Vec v) { return vmaxvq_f32(v); }

#endif

// x 2^n for whole n in [-126, 127] and a result that is not denormal.
inline Vec scale_by_power(Vec x, Vec n) { return from_bits(add_int(bits(x), shift_left<23>(to_int(n)))); }

inline Vec zero() { return set1(0.f); }
// The same for n <= 0, 0 where n < -126. x in [0.5, 2].
inline Vec scale_down(Vec x, Vec n) {
#if defined(OCELLI_ISA_avx512)
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(n, _mm512_set1_ps(-126.f), _CMP_NLT_UQ), x, n);
#else
  return select(less(n, set1(-126.f)), zero(), scale_by_power(x, n));
#endif
}

inline Vec load_bf16(const uint16_t* p) { return from_bits(shift_left<16>(load_u16(p))); }

// Round to nearest even; NaN stays NaN. Integers, so that denormals survive flush-to-zero as the reference keeps them.
inline Vec round_bf16(Vec v) {
  Int wide = bits(v);
  Int odd = and_int(shift_right<16>(wide), set1_int(1));
  Int rounded = add_int(add_int(wide, set1_int(0x7fff)), odd);
  Int quiet = or_int(wide, set1_int(0x400000));
  Int exact = bits(select(is_nan(v), from_bits(quiet), from_bits(rounded)));
  return from_bits(and_int(exact, set1_int(static_cast<int32_t>(0xffff0000))));
}
inline void store_bf16(uint16_t* p, Vec v) { store_u16(p, shift_right<16>(bits(round_bf16(v)))); }

// The three dtypes of stored numbers, read as vectors; load(p, n) reads n < kLanes elements and zeros behind them.
struct F32 {
  using T = float;
  static Vec load(const T* p) { return OCELLI_ISA_NS::load(p); }
  static Vec load(const T* p, int n) { return load_n(p, n); }
};
// f32 as bf16 would hold it.
struct RoundedF32 {
  using T = float;
  static Vec load(const T* p) { return round_bf16(OCELLI_ISA_NS::load(p)); }
  static Vec load(const T* p, int n) { return round_bf16(load_n(p, n)); }
};
struct BF16 {
  using T = uint16_t;
  static Vec load(const T* p) { return load_bf16(p); }
  static Vec load(const T* p, int n) {
    uint16_t lanes[kLanes] = {};
    for (int i = 0; i < n; i++) lanes[i] = p[i];
    return load_bf16(lanes);
  }
};
struct F16 {
  using T = uint16_t;
  static Vec load(const T* p) { return load_f16(p); }
  static Vec load(const T* p, int n) {
    uint16_t lanes[kLanes] = {};
    for (int i = 0; i < n; i++) lanes[i] = p[i];
    return load_f16(lanes);
  }
};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
