#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"

namespace ocelli {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// log(sum(exp(x))) in double: the same whatever the vector width.
double log_sum_exp(const float* x, int32_t n, float max) {
  double sum = 0;
  for (int32_t i = 0; i < n; i++) sum += std::exp(static_cast<double>(x[i]) - max);
  return std::log(sum) + max;
}

float max_of(const float* x, int32_t n) {
  float max = kMasked;
  for (int32_t i = 0; i < n; i++) {
    if (std::isnan(x[i]))
      throw Error("ERR_NUMERIC", "Expected finite logits but the model produced NaN", "Load it with dtype 'float32'.");
    max = std::max(max, x[i]);
  }
  return max;
}

}  // namespace

double uniform(uint64_t seed, uint32_t stream, uint64_t index) {
  uint32_t c[4] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), stream, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
    uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
                        static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    std::copy(next, next + 4, c);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  uint64_t bits = (static_cast<uint64_t>(c[0]) << 32 | c[1]) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

Sampler::Sampler(int32_t vocab) : vocab_(vocab), row_(vocab) {}

SampleResult Sampler::logprobs(const float* logits, int32_t token, int32_t top) {
  float max = max_of(logits, vocab_);
  double norm = log_sum_exp(logits, vocab_, max);
  SampleResult result;
  result.token = token;
  result.logprob = static_cast<float>(logits[token] - norm);
  result.rank = 1;
  for (int32_t i = 0; i < vocab_; i++) result.rank += logits[i] > logits[token] ? 1 : 0;
  if (top <= 0) return result;
  // Equal logits rank by token id, so that the list is one list.
  auto before = [&](int32_t a, int32_t b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); };
  order_.resize(vocab_);
  for (int32_t i = 0; i < vocab_; i++) order_[i] = i;
  top = std::min(top, vocab_);
  std::partial_sort(order_.begin(), order_.begin() + top, order_.end(), before);
  for (int32_t i = 0; i < top; i++)
    result.top.push_back({order_[i], static_cast<float>(logits[order_[i]] - norm), i + 1});
  return result;
}

SampleResult Sampler::sample(const float* logits, const Sequence& sequence) {
  const SamplingParams& params = sequence.request->sampling;
  std::copy(logits, logits + vocab_, row_.begin());
  max_of(row_.data(), vocab_);
  apply_penalties(sequence);
  apply_masks(sequence);
  int32_t token = params.temperature < 1e-5f ? greedy() : draw(sequence);
  if (params.logprobs < 0) {
    // The cumulative log-probability is always reported.
    SampleResult result;
    result.token = token;
    float max = max_of(logits, vocab_);
    result.logprob = static_cast<float>(logits[token] - log_sum_exp(logits, vocab_, max));
    result.rank = 0;
    return result;
  }
  return logprobs(logits, token, params.logprobs);
}

void Sampler::apply_penalties(const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  if (p.repetition_penalty != 1.f) {
    auto penalise = [&](int32_t token) {
      float& x = row_[token];
      x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    };
    // Prompt and answer count once together.
    std::vector<int32_t> seen(sequence.tokens);
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    for (int32_t token : seen) {
      if (token >= 0 && token < vocab_) penalise(token);
    }
  }
  if (p.frequency_penalty != 0.f || p.presence_penalty != 0.f) {
    for (auto [token, count] : sequence.counts) row_[token] -= p.frequency_penalty * count + p.presence_penalty;
  }
}

void Sampler::apply_masks(const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  for (auto [token, bias] : p.logit_bias) {
    if (token >= 0 && token < vocab_) row_[token] += bias;
  }
  if (!p.allowed_token_ids.empty()) {
    std::vector<float> kept;
    for (int32_t token : p.allowed_token_ids) kept.push_back(token >= 0 && token < vocab_ ? row_[token] : kMasked);
    std::fill(row_.begin(), row_.end(), kMasked);
    for (size_t i = 0; i < kept.size(); i++) {
      int32_t token = p.allowed_token_ids[i];
      if (token >= 0 && token < vocab_) row_[token] = kept[i];
    }
  }
  for (const std::vector<int32_t>& word : p.bad_words_ids) {
    size_t prefix = word.size() - 1;
    if (word.empty() || static_cast<size_t>(sequence.generated()) < prefix) continue;
    if (std::equal(word.begin(), word.end() - 1, sequence.tokens.end() - prefix) && word.back() >= 0 &&
        word.back() < vocab_) {
      row_[word.back()] = kMasked;
    }
  }
  if (sequence.generated() < p.min_tokens) {
    for (int32_t token : p.stop_token_ids) {
      if (token >= 0 && token < vocab_) row_[token] = kMasked;
    }
    for (int32_t token : sequence.request->eos_token_ids) {
      if (token >= 0 && token < vocab_) row_[token] = kMasked;
    }
  }
}

int32_t Sampler::greedy() const {
  return static_cast<int32_t>(std::max_element(row_.begin(), row_.end()) - row_.begin());
}

int32_t Sampler::draw(const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  for (float& x : row_) x /= p.temperature;
  float max = *std::max_element(row_.begin(), row_.end());
  if (max == kMasked) return greedy();
  auto before = [&](int32_t a, int32_t b) { return row_[a] > row_[b] || (row_[a] == row_[b] && a < b); };
  order_.clear();
  for (int32_t i = 0; i < vocab_; i++) {
    if (row_[i] != kMasked) order_.push_back(i);
  }
  int32_t kept = static_cast<int32_t>(order_.size());
  if (p.top_k > 0 && p.top_k < kept) {
    std::nth_element(order_.begin(), order_.begin() + p.top_k, order_.end(), before);
    kept = p.top_k;
  }
  order_.resize(kept);
  if (p.top_p < 1.f) {
    std::sort(order_.begin(), order_.end(), before);
  } else {
    std::sort(order_.begin(), order_.end());
  }
  probability_.resize(kept);
  double sum = 0;
  for (int32_t i = 0; i < kept; i++) sum += probability_[i] = std::exp(row_[order_[i]] - max);
  if (p.top_p < 1.f) {
    // The smallest set whose mass reaches top_p; the best token always stays.
    double mass = 0;
    int32_t n = 0;
    while (n < kept && (n == 0 || mass < static_cast<double>(p.top_p) * sum)) mass += probability_[n++];
    kept = n;
  }
  float floor = p.min_p > 0.f ? p.min_p : 0.f;  // relative to the best, whose probability is exp(0) = 1
  double total = 0;
  for (int32_t i = 0; i < kept; i++) {
    if (probability_[i] < floor) probability_[i] = 0.f;
    total += probability_[i];
  }
  double target =
      uniform(p.seed + static_cast<uint64_t>(sequence.index), 0, static_cast<uint64_t>(sequence.generated())) * total;
  double mass = 0;
  int32_t last = order_[0];
  for (int32_t i = 0; i < kept; i++) {
    if (probability_[i] == 0.f) continue;
    last = order_[i];
    mass += probability_[i];
    if (mass > target) return last;
  }
  return last;
}

}  // namespace ocelli
