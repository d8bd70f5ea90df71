// Passes over whole chunks of a row of logits, compiled for several widths of vectors that all give the same bits.
#pragma once

#include <cstdint>
#include <string>

namespace ocelli {

constexpr int32_t kLogitLanes = 16;
constexpr int32_t kLogitChunk = 256;

// A token and its logit: tokens before it, from the best on, have a larger logit, or the same and a lower id.
struct LogitBorder {
  float x;
  int32_t id;
};

// x: [chunks, kLogitChunk].
struct LogitPasses {
  // The largest of each chunk; true where x has a NaN.
  bool (*maxima)(const float* x, int32_t chunks, float* max);
  // e^((x - max) * scale), to p unless that is null, and the sum of each chunk.
  void (*exponentials)(const float* x, int32_t chunks, float max, float scale, float* p, double* sums);
  // p becomes 0 where it is below `least` and for tokens behind `last`; x[0] is token `first`. The sums of what is
  // left.
  void (*keep)(const float* x, int32_t chunks, int32_t first, LogitBorder last, float least, float* p, double* sums);
};

// For an instruction set that this CPU runs (core/op.h, cpu_isas).
const LogitPasses& logit_passes(const std::string& isa);
// For the best of them.
const LogitPasses& logit_passes();

}  // namespace ocelli
