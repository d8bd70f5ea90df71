#include "core/block_format.h"

#include <cstring>

#include "core/convert.h"

namespace ocelli {

namespace {

// A product of quant and scales has at most 24 significant bits in every format below, so it is exact, and adding the
// minimum is the only rounding: whether a compiler fuses the two changes nothing.

float half_at(const uint8_t* bytes) {
  uint16_t bits;
  std::memcpy(&bits, bytes, 2);
  return widen_f16(bits);
}

// 32 elements: the low nibbles are the first half, the high ones the second.
int nibble_at(const uint8_t* nibbles, int i) { return i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4; }

// The same with a fifth bit each, from 32 bits.
int five_bits_at(const uint8_t* high, const uint8_t* nibbles, int i) {
  return nibble_at(nibbles, i) | (high[i / 8] >> (i % 8) & 1) << 4;
}

void decode_f32(const uint8_t* block, float* out) { std::memcpy(out, block, 4); }

void decode_f16(const uint8_t* block, float* out) { *out = half_at(block); }

void decode_bf16(const uint8_t* block, float* out) {
  uint16_t bits;
  std::memcpy(&bits, block, 2);
  *out = widen_bf16(bits);
}

void decode_q4_0(const uint8_t* block, float* out) {
  float scale = half_at(block);
  for (int i = 0; i < 32; i++) out[i] = static_cast<float>(nibble_at(block + 2, i) - 8) * scale;
}

void decode_q4_1(const uint8_t* block, float* out) {
  float scale = half_at(block);
  float least = half_at(block + 2);
  for (int i = 0; i < 32; i++) out[i] = static_cast<float>(nibble_at(block + 4, i)) * scale + least;
}

void decode_q5_0(const uint8_t* block, float* out) {
  float scale = half_at(block);
  for (int i = 0; i < 32; i++) out[i] = static_cast<float>(five_bits_at(block + 2, block + 6, i) - 16) * scale;
}

void decode_q5_1(const uint8_t* block, float* out) {
  float scale = half_at(block);
  float least = half_at(block + 2);
  for (int i = 0; i < 32; i++) out[i] = static_cast<float>(five_bits_at(block + 4, block + 8, i)) * scale + least;
}

void decode_q8_0(const uint8_t* block, float* out) {
  float scale = half_at(block);
  for (int i = 0; i < 32; i++) out[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * scale;
}

// Scale and minimum of each of 8 groups of 32, six bits each: the last four groups' upper two bits lie above the first
// four groups' six.
struct GroupScales {
  float scale[8];
  float least[8];

  explicit GroupScales(const uint8_t* block) {
    float d = half_at(block);
    float dmin = half_at(block + 2);
    const uint8_t* packed = block + 4;
    for (int g = 0; g < 8; g++) {
      int s = g < 4 ? packed[g] & 63 : (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
      int m = g < 4 ? packed[g + 4] & 63 : packed[g + 4] >> 4 | packed[g] >> 6 << 4;
      scale[g] = d * static_cast<float>(s);
      least[g] = dmin * static_cast<float>(m);
    }
  }
};

// Groups 2k and 2k + 1 share 32 bytes: low nibbles, then high ones.
int group_nibble_at(const uint8_t* nibbles, int group, int i) {
  return nibbles[group / 2 * 32 + i] >> (group % 2 * 4) & 15;
}

void decode_q4_k(const uint8_t* block, float* out) {
  GroupScales scales(block);
  for (int g = 0; g < 8; g++) {
    for (int i = 0; i < 32; i++) {
      out[g * 32 + i] = scales.scale[g] * static_cast<float>(group_nibble_at(block + 16, g, i)) - scales.least[g];
    }
  }
}

void decode_q5_k(const uint8_t* block, float* out) {
  GroupScales scales(block);
  for (int g = 0; g < 8; g++) {
    for (int i = 0; i < 32; i++) {
      int value = group_nibble_at(block + 48, g, i) | (block[16 + i] >> g & 1) << 4;
      out[g * 32 + i] = scales.scale[g] * static_cast<float>(value) - scales.least[g];
    }
  }
}

// Two halves of 128: 64 bytes of nibbles and 32 of upper bits each; element i has its nibble in byte i % 64 and its two
// upper bits in byte i % 32, and 16 elements share a scale.
void decode_q6_k(const uint8_t* block, float* out) {
  const uint8_t* scales = block + 192;
  float d = half_at(block + 208);
  for (int half = 0; half < 2; half++) {
    const uint8_t* nibbles = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    for (int i = 0; i < 128; i++) {
      int value = (nibbles[i % 64] >> (i / 64 * 4) & 15) | (high[i % 32] >> (i / 32 * 2) & 3) << 4;
      float scale = d * static_cast<float>(static_cast<int8_t>(scales[half * 8 + i / 16]));
      out[half * 128 + i] = scale * static_cast<float>(value - 32);
    }
  }
}

const BlockFormat kFormats[] = {
    {0, "f32", 1, 4, decode_f32},        {1, "f16", 1, 2, decode_f16},        {2, "q4_0", 32, 18, decode_q4_0},
    {3, "q4_1", 32, 20, decode_q4_1},    {6, "q5_0", 32, 22, decode_q5_0},    {7, "q5_1", 32, 24, decode_q5_1},
    {8, "q8_0", 32, 34, decode_q8_0},    {9, "q8_1", 32, 36, nullptr},        {10, "q2_k", 256, 84, nullptr},
    {11, "q3_k", 256, 110, nullptr},     {12, "q4_k", 256, 144, decode_q4_k}, {13, "q5_k", 256, 176, decode_q5_k},
    {14, "q6_k", 256, 210, decode_q6_k}, {15, "q8_k", 256, 292, nullptr},     {16, "iq2_xxs", 256, 66, nullptr},
    {17, "iq2_xs", 256, 74, nullptr},    {18, "iq3_xxs", 256, 98, nullptr},   {19, "iq1_s", 256, 50, nullptr},
    {20, "iq4_nl", 32, 18, nullptr},     {21, "iq3_s", 256, 110, nullptr},    {22, "iq2_s", 256, 82, nullptr},
    {23, "iq4_xs", 256, 136, nullptr},   {24, "i8", 1, 1, nullptr},           {25, "i16", 1, 2, nullptr},
    {26, "i32", 1, 4, nullptr},          {27, "i64", 1, 8, nullptr},          {28, "f64", 1, 8, nullptr},
    {29, "iq1_m", 256, 56, nullptr},     {30, "bf16", 1, 2, decode_bf16},     {34, "tq1_0", 256, 54, nullptr},
    {35, "tq2_0", 256, 66, nullptr},     {39, "mxfp4", 32, 17, nullptr},
};

}  // namespace

const BlockFormat* block_format(uint32_t id) {
  for (const BlockFormat& format : kFormats) {
    if (format.id == id) return &format;
  }
  return nullptr;
}

void decode_blocks(const BlockFormat& format, const void* data, int64_t first, int64_t count, float* out) {
  const uint8_t* block = static_cast<const uint8_t*>(data) + first / format.elements * format.bytes;
  for (int64_t i = 0; i < count; i += format.elements, block += format.bytes) format.decode(block, out + i);
}

}  // namespace ocelli
