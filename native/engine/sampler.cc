#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"

namespace ocelli {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

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

Sampler::Sampler(int32_t vocab) : vocab_(vocab) {}

SampleResult Sampler::logprobs(const float* logits, int32_t token, int32_t top) {
  raw_.look_at(logits, vocab_);
  return describe(token, top);
}

SampleResult Sampler::describe(int32_t token, int32_t top) {
  const double norm = raw_.max + std::log(raw_.sum());
  SampleResult result;
  result.token = token;
  result.logprob = static_cast<float>(raw_.x[token] - norm);
  result.rank = 0;
  if (top < 0) return result;
  result.rank = 1 + raw_.count_above(raw_.x[token]);
  if (top == 0) return result;
  raw_.best(top, &best_);
  for (size_t i = 0; i < best_.size(); i++) {
    const float logprob = static_cast<float>(raw_.x[best_[i]] - norm);
    result.top.push_back({best_[i], logprob, static_cast<int32_t>(i) + 1});
  }
  return result;
}

SampleResult Sampler::sample(const float* logits, const Sequence& sequence) {
  raw_.look_at(logits, vocab_);
  LogitRow* row = &raw_;
  if (modifies(sequence)) {
    modified_.assign(logits, logits + vocab_);
    apply_penalties(sequence);
    apply_masks(sequence);
    own_.look_at(modified_.data(), vocab_);
    row = &own_;
  }
  const SamplingParams& params = sequence.request->sampling;
  const int32_t token = params.temperature < 1e-5f || row->max == kMasked ? row->argmax() : draw(*row, sequence);
  return describe(token, params.logprobs);
}

bool Sampler::modifies(const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  return p.repetition_penalty != 1.f || p.frequency_penalty != 0.f || p.presence_penalty != 0.f ||
         !p.logit_bias.empty() || !p.allowed_token_ids.empty() || !p.bad_words_ids.empty() ||
         sequence.generated() < p.min_tokens;
}

void Sampler::apply_penalties(const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  if (p.repetition_penalty != 1.f) {
    auto penalise = [&](int32_t token) {
      float& x = modified_[token];
      x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    };
    // Prompt and answer count once together.
    round_++;
    seen_.resize(vocab_);
    for (int32_t token : sequence.tokens) {
      if (token < 0 || token >= vocab_ || seen_[token] == round_) continue;
      seen_[token] = round_;
      penalise(token);
    }
  }
  if (p.frequency_penalty != 0.f || p.presence_penalty != 0.f) {
    for (auto [token, count] : sequence.counts) modified_[token] -= p.frequency_penalty * count + p.presence_penalty;
  }
}

void Sampler::apply_masks(const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  for (auto [token, bias] : p.logit_bias) {
    if (token >= 0 && token < vocab_) modified_[token] += bias;
  }
  if (!p.allowed_token_ids.empty()) {
    std::vector<float> kept;
    for (int32_t token : p.allowed_token_ids) kept.push_back(token >= 0 && token < vocab_ ? modified_[token] : kMasked);
    std::fill(modified_.begin(), modified_.end(), kMasked);
    for (size_t i = 0; i < kept.size(); i++) {
      int32_t token = p.allowed_token_ids[i];
      if (token >= 0 && token < vocab_) modified_[token] = kept[i];
    }
  }
  for (const std::vector<int32_t>& word : p.bad_words_ids) {
    size_t prefix = word.size() - 1;
    if (word.empty() || static_cast<size_t>(sequence.generated()) < prefix) continue;
    if (std::equal(word.begin(), word.end() - 1, sequence.tokens.end() - prefix) && word.back() >= 0 &&
        word.back() < vocab_) {
      modified_[word.back()] = kMasked;
    }
  }
  if (sequence.generated() < p.min_tokens) {
    for (int32_t token : p.stop_token_ids) {
      if (token >= 0 && token < vocab_) modified_[token] = kMasked;
    }
    for (int32_t token : sequence.request->eos_token_ids) {
      if (token >= 0 && token < vocab_) modified_[token] = kMasked;
    }
  }
}

int32_t Sampler::draw(LogitRow& row, const Sequence& sequence) {
  const SamplingParams& p = sequence.request->sampling;
  const double u =
      uniform(p.seed + static_cast<uint64_t>(sequence.index), 0, static_cast<uint64_t>(sequence.generated()));
  row.exponentiate(1.f / p.temperature);
  if (p.top_k > 0 && p.top_k < vocab_) row.keep(row.last_of_best(p.top_k), 0.f);
  LogitBorder last = {kMasked, vocab_};
  if (p.top_p < 1.f) last = row.last_of_mass(static_cast<double>(p.top_p) * row.total());
  // min_p is relative to the best, whose p is 1.
  if (p.top_p < 1.f || p.min_p > 0.f) row.keep(last, p.min_p);
  return row.find(u * row.total());
}

}  // namespace ocelli
