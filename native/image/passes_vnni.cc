#include "image/passes_vnni.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

namespace ocelli {
namespace image {

#if defined(__x86_64__) && defined(__GNUC__)
#define OCELLI_TARGET_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define OCELLI_INLINE_VNNI OCELLI_TARGET_VNNI inline __attribute__((always_inline))
namespace {

constexpr int32_t kRound = 1 << (kPrecisionBits - 1);
constexpr int kBlockTaps = 16;
constexpr int kBlockBytes = 64;
constexpr int kRowsAtOnce =
    4;  // of the horizontal pass: a block of digits is loaded once for them; eight would not stay in registers

// Digit k of each of `count` weights, to out[0], out[1], ...: the lowest first, each rounded to where the rest divides
// by 256.
void split(const int32_t* weights, int count, int digit, int8_t* out) {
  for (int i = 0; i < count; ++i) {
    int32_t rest = weights[i];
    for (int k = 0; k < digit; ++k) rest = (rest - static_cast<int8_t>(rest)) >> 8;
    out[i] = static_cast<int8_t>(rest);
  }
}

// Written out, since gcc 12 copies the accumulators of the intrinsic to the stack.
OCELLI_INLINE_VNNI void multiply_add(__m512i* sum, __m512i pixels, __m512i digits) {
  asm("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(pixels), "v"(digits));
}

OCELLI_INLINE_VNNI __m512i joined(const __m512i* sums) {
  const __m512i high = _mm512_add_epi32(_mm512_slli_epi32(sums[2], 16), _mm512_slli_epi32(sums[1], 8));
  return _mm512_add_epi32(high, sums[0]);
}

// The lane sums of four accumulators, one to a lane.
OCELLI_INLINE_VNNI __m512i lane_sums(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));
  const __m512i cd = _mm512_add_epi32(_mm512_shuffle_i32x4(c, d, 0x44), _mm512_shuffle_i32x4(c, d, 0xee));
  return _mm512_add_epi32(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xdd));
}

// Writes a pixel of up to four rows from their sums.
OCELLI_INLINE_VNNI void finish(const __m512i (*sums)[kDigits], int rows, uint8_t* dst, size_t stride, bool last_pixel) {
  const __m512i first_of_lanes = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i total = lane_sums(joined(sums[0]), joined(sums[1]), joined(sums[2]), joined(sums[3]));
  const __m512i value = _mm512_srai_epi32(_mm512_add_epi32(total, _mm512_set1_epi32(kRound)), kPrecisionBits);
  const __m512i words = _mm512_packus_epi32(value, value);
  const __m512i bytes = _mm512_permutexvar_epi32(first_of_lanes, _mm512_packus_epi16(words, words));
  uint32_t pixels[4];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(pixels), _mm512_castsi512_si128(bytes));
  // A whole word is quicker than 3 bytes, and the next pixel overwrites its last; at the end of a row there is none.
  if (rows == 4 && !last_pixel) {
    for (int r = 0; r < 4; ++r) std::memcpy(dst + r * stride, &pixels[r], 4);
    return;
  }
  for (int r = 0; r < rows; ++r) std::memcpy(dst + r * stride, &pixels[r], last_pixel ? 3 : 4);
}

// Rows at src, src + stride, ...; `rows` of the four count. The others repeat the first, so that nothing is read
// outside.
OCELLI_TARGET_VNNI void four_rows(const uint8_t* src, size_t stride, int rows, const Weights& weights, int column,
                                  int blocks, const int8_t* digits, uint8_t* dst, size_t dst_stride) {
  // 16 pixels of 3 bytes to four lanes of 4 pixels, then each lane's bytes by channel.
  const __m512i spread = _mm512_setr_epi32(0, 1, 2, 0, 3, 4, 5, 0, 6, 7, 8, 0, 9, 10, 11, 0);
  const __m512i by_channel =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
  const uint8_t* row[kRowsAtOnce];
  for (int r = 0; r < kRowsAtOnce; ++r) row[r] = src + (r < rows ? r * stride : 0);
  const int count = static_cast<int>(weights.lo.size());
  const int last_bytes = (weights.taps - (blocks - 1) * kBlockTaps) * 3;
  const __mmask64 whole = (__mmask64{1} << (kBlockTaps * 3)) - 1;
  const __mmask64 last = (__mmask64{1} << last_bytes) - 1;
  for (int i = 0; i < count; ++i) {
    size_t at = static_cast<size_t>(weights.lo[i] - column) * 3;
    __m512i sums[kRowsAtOnce][kDigits];
    for (auto& each : sums) {
      for (__m512i& sum : each) sum = _mm512_setzero_si512();
    }
    for (int block = 0; block < blocks; ++block, at += kBlockTaps * 3) {
      const __m512i low = _mm512_loadu_si512(digits);
      const __m512i middle = _mm512_loadu_si512(digits + kBlockBytes);
      const __m512i high = _mm512_loadu_si512(digits + 2 * kBlockBytes);
      digits += kDigits * kBlockBytes;
      const __mmask64 mask = block + 1 < blocks ? whole : last;
      for (int r = 0; r < kRowsAtOnce; ++r) {
        const __m512i pixels = _mm512_shuffle_epi8(
            _mm512_permutexvar_epi32(spread, _mm512_maskz_loadu_epi8(mask, row[r] + at)), by_channel);
        multiply_add(&sums[r][0], pixels, low);
        multiply_add(&sums[r][1], pixels, middle);
        multiply_add(&sums[r][2], pixels, high);
      }
    }
    finish(sums, rows, dst + i * 3, dst_stride, i + 1 == count);
  }
}

// 64 columns of four rows, interleaved: part p has the columns 4p .. 4p+3 of each 16, a column's four rows side by
// side.
OCELLI_INLINE_VNNI void interleave(const __m512i* rows, __m512i* parts) {
  const __m512i low01 = _mm512_unpacklo_epi8(rows[0], rows[1]), high01 = _mm512_unpackhi_epi8(rows[0], rows[1]);
  const __m512i low23 = _mm512_unpacklo_epi8(rows[2], rows[3]), high23 = _mm512_unpackhi_epi8(rows[2], rows[3]);
  parts[0] = _mm512_unpacklo_epi16(low01, low23);
  parts[1] = _mm512_unpackhi_epi16(low01, low23);
  parts[2] = _mm512_unpacklo_epi16(high01, high23);
  parts[3] = _mm512_unpackhi_epi16(high01, high23);
}

// `digits`: [four, digit].
OCELLI_TARGET_VNNI void vertical_vnni(const uint8_t* src, size_t stride, size_t bytes, const int32_t* digits, int fours,
                                      uint8_t* dst) {
  const __m512i round = _mm512_set1_epi32(kRound);
  for (size_t at = 0; at < bytes; at += kBlockBytes) {
    const size_t left = bytes - at;
    const __mmask64 mask = left >= kBlockBytes ? ~__mmask64{0} : (__mmask64{1} << left) - 1;
    __m512i sums[4][kDigits];
    for (auto& each : sums) {
      for (__m512i& sum : each) sum = _mm512_setzero_si512();
    }
    const uint8_t* p = src + at;
    for (int four = 0; four < fours; ++four) {
      __m512i rows[4], parts[4];
      for (__m512i& row : rows) {
        row = _mm512_maskz_loadu_epi8(mask, p);
        p += stride;
      }
      interleave(rows, parts);
      for (int digit = 0; digit < kDigits; ++digit) {
        const __m512i each = _mm512_set1_epi32(digits[four * kDigits + digit]);
        for (int part = 0; part < 4; ++part) multiply_add(&sums[part][digit], parts[part], each);
      }
    }
    __m512i values[4];
    for (int part = 0; part < 4; ++part) {
      values[part] = _mm512_srai_epi32(_mm512_add_epi32(joined(sums[part]), round), kPrecisionBits);
    }
    const __m512i out =
        _mm512_packus_epi16(_mm512_packus_epi32(values[0], values[1]), _mm512_packus_epi32(values[2], values[3]));
    _mm512_mask_storeu_epi8(dst + at, mask, out);
  }
}

}  // namespace

bool has_vnni(const Weights& weights) {
  static const bool supported = [] {
    const char* wanted = std::getenv("OCELLI_ISA");
    const bool allowed = wanted == nullptr || *wanted == 0 || std::strcmp(wanted, "avx512") == 0 ||
                         std::strcmp(wanted, "amx") == 0;
    return allowed && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
  }();
  // The highest digit is what is left: -128 to 127 of 2^16, less what the lower ones may carry.
  constexpr int32_t kMost = 127 << 16;
  return supported && weights.taps % 4 == 0 &&
         std::all_of(weights.weights.begin(), weights.weights.end(), [](int32_t w) { return w > -kMost && w < kMost; });
}

HorizontalVnni::HorizontalVnni(const Weights& weights, int column)
    : weights_(weights), column_(column), blocks_((weights.taps + kBlockTaps - 1) / kBlockTaps) {
  const size_t count = weights.lo.size();
  // Room to begin at a line of the cache: a load that crosses one takes two.
  digits_.assign((count * blocks_ * kDigits + 1) * kBlockBytes, 0);
  const size_t beyond = reinterpret_cast<uintptr_t>(digits_.data()) % kBlockBytes;
  begin_ = beyond == 0 ? 0 : kBlockBytes - beyond;
  int8_t* out = digits_.data() + begin_;
  for (size_t i = 0; i < count; ++i) {
    const int32_t* line = weights.weights.data() + i * weights.taps;
    for (int block = 0; block < blocks_; ++block) {
      for (int digit = 0; digit < kDigits; ++digit, out += kBlockBytes) {
        for (int lane = 0; lane < 4; ++lane) {
          const int first = block * kBlockTaps + lane * 4;
          const int taps = std::min(4, weights.taps - first);
          if (taps <= 0) break;
          for (int channel = 0; channel < 3; ++channel) split(line + first, taps, digit, out + lane * 16 + channel * 4);
        }
      }
    }
  }
}

void HorizontalVnni::run(const uint8_t* src, size_t src_stride, int rows, uint8_t* dst, size_t dst_stride) const {
  for (int y = 0; y < rows; y += kRowsAtOnce) {
    four_rows(src + static_cast<size_t>(y) * src_stride, src_stride, std::min(kRowsAtOnce, rows - y), weights_, column_,
              blocks_, digits_.data() + begin_, dst + static_cast<size_t>(y) * dst_stride, dst_stride);
  }
}

VerticalVnni::VerticalVnni(const Weights& weights)
    : fours_(weights.taps / 4), digits_(weights.lo.size() * fours_ * kDigits) {
  int32_t* out = digits_.data();
  for (size_t at = 0; at < weights.weights.size(); at += 4) {
    for (int digit = 0; digit < kDigits; ++digit) {
      split(weights.weights.data() + at, 4, digit, reinterpret_cast<int8_t*>(out++));
    }
  }
}

void VerticalVnni::row(int index, const uint8_t* src, size_t src_stride, size_t bytes, uint8_t* dst) const {
  vertical_vnni(src, src_stride, bytes, digits_.data() + static_cast<size_t>(index) * fours_ * kDigits, fours_, dst);
}
#else
bool has_vnni(const Weights&) { return false; }
HorizontalVnni::HorizontalVnni(const Weights& weights, int column) : weights_(weights), column_(column), blocks_(0) {}
void HorizontalVnni::run(const uint8_t*, size_t, int, uint8_t*, size_t) const {}
VerticalVnni::VerticalVnni(const Weights&) : fours_(0) {}
void VerticalVnni::row(int, const uint8_t*, size_t, size_t, uint8_t*) const {}
#endif

}  // namespace image
}  // namespace ocelli
