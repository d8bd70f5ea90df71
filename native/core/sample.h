// Sampling: one row of logits, one parameter set, one draw keyed by (seed, output index). Deterministic: no state.
#pragma once

#include <cstdint>
#include <vector>

namespace ocelli {

struct SamplingParams {
  float temperature = 1.f;  // 0: greedy
  float top_p = 1.f;
  int32_t top_k = -1;
  float min_p = 0.f;
  uint64_t seed = 0;
  float presence_penalty = 0.f, frequency_penalty = 0.f, repetition_penalty = 1.f;
  int32_t logprobs = -1;  // -1: none; n: the n best beside the sampled one
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::vector<int32_t> allowed_token_ids;           // empty: all
  std::vector<std::vector<int32_t>> bad_words_ids;  // token sequences that must not be completed
  int32_t min_tokens = 0;
  std::vector<int32_t> stop_token_ids;  // incl. eos ids unless ignore_eos; masked until min_tokens
};

struct TokenLogprob {
  int32_t token;
  float logprob;  // the model's own: before penalties and temperature
  int32_t rank;   // 1-based
};

struct SampleResult {
  int32_t token;
  float logprob;
  int32_t rank;
  std::vector<TokenLogprob> top;
};

}  // namespace ocelli
