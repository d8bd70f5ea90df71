#include "core/weights_dummy.h"

#include <cstring>

namespace ocelli {

namespace {

// SplitMix64 (Steele, Lea, Flood 2014): a counter in, 64 good bits out, so any element is reached without those before
// it.
uint64_t mix(uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

uint64_t dummy_key(uint64_t seed, const std::string& name) {
  uint64_t key = mix(seed);
  for (unsigned char c : name) key = mix(key ^ c);
  return key;
}

void fill_dummy(uint64_t key, int64_t first, int64_t count, float* out) {
  // Four 16-bit uniforms have variance 4 / 12 * 2^32.
  constexpr float kScale = 0.02f * 1.7320508f / 65536.f;
  for (int64_t i = 0; i < count; i++) {
    uint64_t bits = mix(key + static_cast<uint64_t>(first + i));
    int32_t sum = static_cast<int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
    float value = static_cast<float>(sum - 131070) * kScale;
    uint32_t wide;
    std::memcpy(&wide, &value, 4);
    wide = (wide + 0x7fff + (wide >> 16 & 1)) & 0xffff0000u;
    std::memcpy(&out[i], &wide, 4);
  }
}

}  // namespace ocelli
