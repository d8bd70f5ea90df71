// One row of logits to one token. Nothing here depends on the batch: penalties come from the sequence, the draw from
// (seed, output index, token index).
#pragma once

#include <cstdint>
#include <vector>

#include "core/sample.h"
#include "engine/logits.h"
#include "engine/request.h"

namespace ocelli {

class Sampler {
 public:
  explicit Sampler(int32_t vocab);
  // logits: [vocab], read only. Throws ERR_NUMERIC when they hold a NaN.
  SampleResult sample(const float* logits, const Sequence& sequence);
  // The log-probability of `token` and the `top` best, from raw logits.
  SampleResult logprobs(const float* logits, int32_t token, int32_t top);

 private:
  SampleResult describe(int32_t token, int32_t top);
  // Whether penalties, biases or masks change this sequence's next row.
  static bool modifies(const Sequence& sequence);
  void apply_penalties(const Sequence& sequence);
  void apply_masks(const Sequence& sequence);
  int32_t draw(LogitRow& row, const Sequence& sequence);

  int32_t vocab_;
  LogitRow raw_, own_;  // as the model gave them; with penalties and masks
  std::vector<float> modified_;
  std::vector<int32_t> best_;
  std::vector<uint32_t> seen_;  // [vocab] once there are repetition penalties: which round saw the token last
  uint32_t round_ = 0;
};

// A uniform number in [0, 1) with 53 bits: Philox4x32-10 (Salmon et al., 2011) keyed by seed, counted by (stream,
// index).
double uniform(uint64_t seed, uint32_t stream, uint64_t index);

}  // namespace ocelli
