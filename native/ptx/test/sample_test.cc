// Sampling on the device against the engine's sampler: tokens, ranks, and log-probabilities to the bit.
#include "cuda/sample.h"

#include <limits>

#include "engine/sampler.h"
#include "ptx/test/ops.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Ask {
  SamplingParams params;
  std::vector<int32_t> prompt = {0}, answer;
  int32_t output = 0;
  std::vector<int32_t> eos;
};

SampleResult expected_of(const std::vector<float>& row, const Ask& ask) {
  Sequence sequence;
  sequence.request = std::make_shared<Request>();
  sequence.request->prompt = ask.prompt;
  sequence.request->sampling = ask.params;
  sequence.request->eos_token_ids = ask.eos;
  sequence.index = ask.output;
  sequence.tokens = ask.prompt;
  sequence.tokens.insert(sequence.tokens.end(), ask.answer.begin(), ask.answer.end());
  for (int32_t token : ask.answer) sequence.counts[token]++;
  return Sampler(static_cast<int32_t>(row.size())).sample(row.data(), sequence);
}

// All rows in one launch.
struct Outcome {
  std::vector<cuda::SampleOutcome> outcomes;
  std::vector<cuda::SampleBest> best;
};
Outcome launch(const std::string& what, const std::vector<std::vector<float>>& rows, const std::vector<Ask>& asks) {
  const int32_t vocab = static_cast<int32_t>(rows[0].size()), stride = vocab + 3;
  cuda::SampleBatch batch(vocab);
  std::vector<float> logits;
  for (size_t i = 0; i < rows.size(); i++) {
    std::vector<int32_t> tokens = asks[i].prompt;
    tokens.insert(tokens.end(), asks[i].answer.begin(), asks[i].answer.end());
    batch.add(asks[i].params, tokens, static_cast<int32_t>(asks[i].answer.size()), asks[i].output, asks[i].eos);
    logits.insert(logits.end(), rows[i].begin(), rows[i].end());
    logits.insert(logits.end(), 3, 1e30f);
  }
  Bench bench(what);
  const ptx::Address outcomes = bench.arena.allocate(rows.size() * sizeof(cuda::SampleOutcome)),
                     best = bench.arena.allocate(rows.size() * cuda::kSampleBest * sizeof(cuda::SampleBest));
  cuda::sample({reinterpret_cast<const float*>(bench.arena.upload(logits)), stride, vocab,
                reinterpret_cast<const cuda::SampleRow*>(bench.arena.upload(batch.rows())),
                reinterpret_cast<const cuda::SampleEdit*>(bench.arena.upload(batch.edits())),
                reinterpret_cast<const int*>(bench.arena.upload(batch.allowed())),
                reinterpret_cast<float*>(bench.arena.allocate(rows.size() * static_cast<size_t>(vocab) * 4)),
                reinterpret_cast<cuda::SampleOutcome*>(outcomes), reinterpret_cast<cuda::SampleBest*>(best)},
               static_cast<int>(rows.size()));
  return {bench.arena.download<cuda::SampleOutcome>(outcomes, rows.size()),
          bench.arena.download<cuda::SampleBest>(best, rows.size() * cuda::kSampleBest)};
}

void compare(const std::string& what, const std::vector<std::vector<float>>& rows, const std::vector<Ask>& asks) {
  const Outcome made = launch(what, rows, asks);
  for (size_t i = 0; i < rows.size(); i++) {
    const SampleResult expected = expected_of(rows[i], asks[i]),
                       got = cuda::result_of(made.outcomes[i], made.best.data() + i * cuda::kSampleBest);
    const std::string which = what + ", row " + std::to_string(i);
    expect(got.token == expected.token,
           which + ": token " + std::to_string(got.token) + " for " + std::to_string(expected.token));
    expect(got.logprob == expected.logprob && got.rank == expected.rank, which + ": log-probability and rank");
    bool same = got.top.size() == expected.top.size();
    for (size_t j = 0; same && j < got.top.size(); j++)
      same = got.top[j].token == expected.top[j].token && got.top[j].logprob == expected.top[j].logprob &&
             got.top[j].rank == expected.top[j].rank;
    expect(same, which + ": the best");
  }
}

// Rows that a selection may stumble over.
std::vector<std::vector<float>> odd_rows(int32_t n) {
  Noise noise(static_cast<uint32_t>(n));
  std::vector<std::vector<float>> rows;
  const auto make = [&](const std::function<float(int32_t)>& value) {
    rows.emplace_back(n);
    for (int32_t i = 0; i < n; i++) rows.back()[i] = value(i);
  };
  make([&](int32_t) { return noise.value() * 3; });            // a few above all others
  make([&](int32_t) { return noise.below(64) * 0.125f - 3; });  // ties
  make([&](int32_t) { return 2.5f; });                          // all equal
  make([&](int32_t i) { return i % 2 == 0 ? 0.f : -0.f; });     // and by another spelling
  make([&](int32_t i) { return i == n / 2 ? -3.f : -kInfinity; });
  make([&](int32_t) { return 20 + noise.below(1024) * 1e-6f; });
  return rows;
}

Ask drawn(float temperature, int32_t top_k, float top_p, float min_p, uint64_t seed, int32_t logprobs) {
  Ask ask;
  ask.params.temperature = temperature;
  ask.params.top_k = top_k;
  ask.params.top_p = top_p;
  ask.params.min_p = min_p;
  ask.params.seed = seed;
  ask.params.logprobs = logprobs;
  return ask;
}

void draws() {
  uint64_t seed = 0x123456789abcdefull;
  for (int32_t n : {1, 257, 700}) {
    const std::vector<std::vector<float>> rows = odd_rows(n);
    for (const Ask& one :
         {drawn(0, -1, 1, 0, 0, 3), drawn(1, -1, 1, 0, 0, -1), drawn(0.7f, 5, 0.9f, 0, 0, 0),
          drawn(1.5f, -1, 0.6f, 0.02f, 0, 20)}) {
      std::vector<Ask> asks(rows.size(), one);
      for (Ask& ask : asks) ask.params.seed = seed++ * 0x9E3779B97F4A7C15ull, ask.output = 2, ask.answer = {0, 0};
      compare("sample of " + std::to_string(n), rows, asks);
    }
  }
  // Many draws from a row of a language model's size and shape, chunks to spare.
  Noise noise(5);
  std::vector<float> row(2500);
  for (float& x : row) x = noise.value() * 2.5f;
  std::vector<Ask> asks = {drawn(1, 40, 1, 0, 1, -1),     drawn(1, -1, 0.95f, 0, 2, -1),
                           drawn(0.8f, 2499, 0.99f, 0, 3, -1), drawn(1, -1, 1e-9f, 0, 4, -1),
                           drawn(1, -1, 1, 0.1f, 5, 1),   drawn(2, 3, 0.5f, 0.5f, 6, 5),
                           drawn(1, -1, 0.999f, 0, 7, -1), drawn(1e-4f, -1, 1, 0, 8, -1)};
  compare("sample of 2500", std::vector<std::vector<float>>(asks.size(), row), asks);
}

void edits() {
  Noise noise(11);
  std::vector<float> row(600);
  for (float& x : row) x = noise.value() * 2;
  std::vector<Ask> asks;
  const auto ask = [&](const std::function<void(Ask&)>& change) {
    asks.push_back(drawn(asks.size() % 2 == 0 ? 0.f : 1.2f, -1, 0.98f, 0, asks.size(), 2));
    asks.back().prompt = {5, 17, 17, 300, 599};
    asks.back().answer = {17, 8, 8, 8, 421};
    change(asks.back());
  };
  for (int i = 0; i < 2; i++) {
    ask([](Ask& a) { a.params.repetition_penalty = 1.7f; });
    ask([](Ask& a) { a.params.frequency_penalty = 0.3f, a.params.presence_penalty = -0.7f; });
    ask([](Ask& a) { a.params.logit_bias = {{3, 4.5f}, {599, 6.f}, {3, 0.1f}, {700, 9.f}, {-1, 9.f}}; });
    ask([](Ask& a) { a.params.allowed_token_ids = {9, 4, 4, 800, 512}; });
    ask([](Ask& a) { a.params.allowed_token_ids = {800}; });
    ask([](Ask& a) { a.params.bad_words_ids = {{8, 421, 30}, {8, 8, 31}, {32}, {}}; });
    ask([&](Ask& a) {
      a.params.min_tokens = 6;
      for (int32_t id = 0; id < 300; id++) a.params.stop_token_ids.push_back(id);
      a.eos = {300, 301, 700};
    });
    ask([](Ask& a) {
      a.params.repetition_penalty = 0.6f, a.params.frequency_penalty = 1.1f;
      a.params.logit_bias = {{8, -2.f}, {17, 3.f}};
      a.params.allowed_token_ids = {8, 17, 421}, a.params.bad_words_ids = {{17}};
    });
    ask([](Ask&) {});
  }
  compare("sample with edits", std::vector<std::vector<float>>(asks.size(), row), asks);
}

void faults() {
  std::vector<std::vector<float>> rows(3, std::vector<float>(300, 1.f));
  rows[0][299] = std::numeric_limits<float>::quiet_NaN();
  rows[1][256] = kInfinity;
  const Outcome made = launch("sample of numbers that are none", rows, std::vector<Ask>(3, drawn(1, -1, 1, 0, 0, 1)));
  for (size_t i = 0; i < 3; i++) {
    std::string code;
    try {
      cuda::result_of(made.outcomes[i], made.best.data());
    } catch (const Error& error) {
      code = error.code();
    }
    expect(code == (i < 2 ? "ERR_NUMERIC" : ""), "sample: row " + std::to_string(i) + " ended with '" + code + "'");
  }
}

void body() {
  draws();
  edits();
  faults();
}

}  // namespace

int main(int argc, char** argv) { return run_test("sample", argc, argv, body); }
