// Dot products of bytes: four weights times four activations into each 32-bit lane, exactly.
#pragma once

#include "cpu/simd.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// Packed i8 weights are q + kWeightBias, as unsigned bytes. Where blocks of k are summed up, registers hold up to kSums
// sums, of blocks and of what blocks add up to; where nothing but dot products are kept, tiles have up to kDotRows rows.
#if defined(OCELLI_ISA_avx512)
constexpr int kWeightBias = 128;
constexpr int kGroupsUnrolled = 8;
constexpr int kSums = 27;     // of 32 registers
constexpr int kDotRows = 12;  // 24 sums of int32

inline Int load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Int broadcast4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
// gcc 12 keeps the accumulators of the intrinsic in memory.
inline void dot4(Int& sum, Int w, Int a) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(a)); }
// With the same four activations for all columns, from memory.
inline void dot4(Int& sum, Int w, const int8_t* four) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*reinterpret_cast<const int32_t(*)[1]>(four)));
}
inline Int low_nibbles(Int w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
inline Int high_nibbles(Int w) { return low_nibbles(_mm512_srli_epi16(w, 4)); }
inline Int load_i8(const int8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline void store_i8(int8_t* p, Int v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v)); }
inline Vec to_float(Int v) { return _mm512_cvtepi32_ps(v); }

#elif defined(OCELLI_ISA_avx2)
constexpr int kWeightBias = 0;
constexpr int kGroupsUnrolled = 1;  // more are loaded ahead of their use, into registers that are not there
constexpr int kSums = 8;
constexpr int kDotRows = 4;

inline Int load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Int broadcast4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
// |w| times a with w's sign: two products are at most 2 * 127 * 127, which 16 bits hold.
inline void dot4(Int& sum, Int w, Int a) {
  __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Int low_nibbles(Int w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
inline Int high_nibbles(Int w) { return low_nibbles(_mm256_srli_epi16(w, 4)); }
inline Int load_i8(const int8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
inline void store_i8(int8_t* p, Int v) {
  __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline Vec to_float(Int v) { return _mm256_cvtepi32_ps(v); }

#elif defined(OCELLI_ISA_baseline)
constexpr int kWeightBias = 0;
constexpr int kGroupsUnrolled = 1;  // more are loaded ahead of their use, into registers that are not there
constexpr int kSums = 8;
constexpr int kDotRows = 4;

inline Int load_bytes(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline Int broadcast4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm_set1_epi32(four);
}
inline void dot4(Int& sum, Int w, Int a) {
  __m128i pairs = _mm_maddubs_epi16(_mm_abs_epi8(w), _mm_sign_epi8(a, w));
  sum = _mm_add_epi32(sum, _mm_madd_epi16(pairs, _mm_set1_epi16(1)));
}
inline Int low_nibbles(Int w) { return _mm_and_si128(w, _mm_set1_epi8(15)); }
inline Int high_nibbles(Int w) { return low_nibbles(_mm_srli_epi16(w, 4)); }
inline Int load_i8(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm_cvtepi8_epi32(_mm_cvtsi32_si128(four));
}
inline void store_i8(int8_t* p, Int v) {
  __m128i words = _mm_packs_epi32(v, v);
  int32_t four = _mm_cvtsi128_si32(_mm_packs_epi16(words, words));
  std::memcpy(p, &four, 4);
}
inline Vec to_float(Int v) { return _mm_cvtepi32_ps(v); }

#else  // NEON with dotprod
constexpr int kWeightBias = 0;
constexpr int kGroupsUnrolled = 8;
constexpr int kSums = 27;
constexpr int kDotRows = 12;

inline Int load_bytes(const uint8_t* p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
inline Int broadcast4(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return vdupq_n_s32(four);
}
inline void dot4(Int& sum, Int w, Int a) { sum = vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(a)); }
inline Int low_nibbles(Int w) { return vandq_s32(w, vreinterpretq_s32_s8(vdupq_n_s8(15))); }
inline Int high_nibbles(Int w) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(w), 4)); }
inline Int load_i8(const int8_t* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)))));
}
inline void store_i8(int8_t* p, Int v) {
  int8x8_t bytes = vqmovn_s16(vcombine_s16(vqmovn_s32(v), vdup_n_s16(0)));
  int32_t four = vget_lane_s32(vreinterpret_s32_s8(bytes), 0);
  std::memcpy(p, &four, 4);
}
inline Vec to_float(Int v) { return vcvtq_f32_s32(v); }
#endif

#if !defined(OCELLI_ISA_avx512)
inline void dot4(Int& sum, Int w, const int8_t* four) { dot4(sum, w, broadcast4(four)); }
#endif

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
