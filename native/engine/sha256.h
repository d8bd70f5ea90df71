// SHA-256 (FIPS 180-4): the keys of cached blocks and pictures. A full digest, so that no two contents share a key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ocelli {

using Digest = std::array<uint8_t, 32>;

struct DigestHash {
  size_t operator()(const Digest& d) const {
    size_t h;
    std::memcpy(&h, d.data(), sizeof h);
    return h;
  }
};

class Sha256 {
 public:
  Sha256();
  Sha256& update(const void* data, size_t bytes);
  template <class T>
  Sha256& number(T value) {
    return update(&value, sizeof value);
  }
  Digest digest();

 private:
  void block(const uint8_t* p);
  uint32_t state_[8];
  uint64_t length_ = 0;
  uint8_t buffer_[64];
  size_t used_ = 0;
};

}  // namespace ocelli
