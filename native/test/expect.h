// What the native tests share: expectations that are counted, and random numbers that repeat.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "core/check.h"

namespace ocelli {
namespace test {

inline int failures = 0;

inline bool expect(bool ok, const std::string& what) {
  if (ok) return true;
  failures++;
  std::printf("FAILED %s\n", what.c_str());
  return false;
}

#define EXPECT(condition) \
  ::ocelli::test::expect((condition), std::string(__func__) + ", line " + std::to_string(__LINE__) + ": " #condition)

// The code of the error that `body` throws; empty when it throws none.
inline std::string code_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.code();
  }
  return "";
}

// SplitMix64 (Steele, Lea and Flood, 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  int32_t below(int32_t n) { return static_cast<int32_t>(next() % static_cast<uint64_t>(n)); }
  bool one_in(int32_t n) { return below(n) == 0; }
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

// How often to repeat: `--long` (npm run long) or a number as the argument.
inline int64_t repeats(int argc, char** argv, int64_t usual, int64_t many) {
  if (argc < 2) return usual;
  return std::strcmp(argv[1], "--long") == 0 ? many : std::strtoll(argv[1], nullptr, 10);
}

// The seed, as the second argument: other inputs than the usual ones.
inline uint64_t seed(int argc, char** argv, uint64_t usual) {
  return argc < 3 ? usual : std::strtoull(argv[2], nullptr, 10);
}

inline int report(const char* name) {
  if (failures == 0) std::printf("%s: passed\n", name);
  return failures == 0 ? 0 : 1;
}

}  // namespace test
}  // namespace ocelli
