// Sampling: the passes over a row against plain double arithmetic, draws against the probabilities that the parameters
// stand for, penalties and masks, and that nothing but the sequence decides.
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>

#include "core/op.h"
#include "test/expect.h"

namespace {

using namespace ocelli;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> row_of(int32_t n, uint64_t seed, double spread) {
  Random random(seed);
  std::vector<float> row(n);
  // Few values, so that some are equal.
  for (float& x : row) x = static_cast<float>(std::floor(random.unit() * 64) / 64 * spread - spread / 3);
  return row;
}

struct Ask {
  explicit Ask(int32_t vocab) : sampler(vocab), request(std::make_shared<Request>()) {
    request->prompt = {0};
    sequence.request = request;
    sequence.tokens = request->prompt;
  }
  void generate(int32_t token) {
    sequence.tokens.push_back(token);
    sequence.counts[token]++;
  }
  int32_t token(const std::vector<float>& row) { return sampler.sample(row.data(), sequence).token; }
  SamplingParams& params() { return request->sampling; }

  Sampler sampler;
  std::shared_ptr<Request> request;
  Sequence sequence;
};

void exponentials_are_exact_to_two_units_in_the_last_place() {
  Random random(1);
  for (int32_t i = 0; i < 200000; i++) {
    const float pair[2] = {0.f, static_cast<float>(-90 * random.unit())};
    LogitRow row;
    row.look_at(pair, 2);
    row.exponentiate(1.f);
    const double exact = pair[1] < -87.f ? 0 : std::exp(static_cast<double>(pair[1]));
    if (!EXPECT(std::abs(row.p(1) - exact) <= exact * 2 * 0x1p-23) || !EXPECT(row.p(0) == 1.f)) return;
  }
}

void totals() {
  for (int32_t n : {1, 2, 15, 16, 17, 255, 256, 257, 1000, 4096, 32003}) {
    std::vector<float> x = row_of(n, n, 12);
    if (n > 100) x[7] = x[n / 2] = -kInfinity;
    LogitRow row;
    row.look_at(x.data(), n);
    EXPECT(row.max == *std::max_element(x.begin(), x.end()));
    EXPECT(row.argmax() == std::max_element(x.begin(), x.end()) - x.begin());
    EXPECT(row.count_above(1.f) == std::count_if(x.begin(), x.end(), [](float v) { return v > 1.f; }));
    for (float scale : {1.f, 0.3f, 7.f}) {
      double exact = 0;
      for (float v : x) exact += std::exp((static_cast<double>(v) - row.max) * scale);
      row.exponentiate(scale);
      // Each term within 2 ulp and sixteen float32 sums behind each other: well below 1e-6.
      EXPECT(std::abs(row.total() - exact) < 1e-6 * exact);
      if (scale == 1.f) EXPECT(row.sum() == row.total());
    }
    row.look_at(x.data(), n);
    const double alone = row.sum();
    row.exponentiate(1.f);
    EXPECT(alone == row.total());
  }
}

// Rows that a selection may stumble over, by what is odd about them.
std::vector<std::vector<float>> rows_to_select_from() {
  Random random(9);
  std::vector<std::vector<float>> rows;
  for (int32_t n : {1, 2, 255, 256, 257, 1000, 32003}) {
    const auto make = [&](const std::function<float(int32_t)>& value) {
      rows.emplace_back(n);
      for (int32_t i = 0; i < n; i++) rows.back()[i] = value(i);
    };
    make([&](int32_t) { return static_cast<float>(random.unit() * 8 - 4); });        // nearly flat
    make([&](int32_t) { return static_cast<float>(std::log(random.unit()) * 6); });  // a few above all others
    make([&](int32_t) { return 2.5f; });                                             // all equal
    make([&](int32_t i) { return i % 2 == 0 ? 0.f : -0.f; });                        // and by another spelling
    make([&](int32_t i) { return i == n / 2 ? -3.f : -kInfinity; });                 // one that can be
    make([&](int32_t i) { return i % 3 == 1 ? -kInfinity : static_cast<float>(random.below(3) - 1); });  // ties
    make([&](int32_t i) { return std::nextafter(1.f, i % 2 == 0 ? 0.f : 2.f); });  // neighbours around a power of two
    make([&](int32_t) { return static_cast<float>(random.unit() * 1e-3 + 20); });  // one bucket of coarse ones
    make([&](int32_t i) { return i == 0 ? 3e38f : static_cast<float>(random.unit() * 2e38 - 3e38); });  // huge
    make([&](int32_t i) { return static_cast<float>(i); });   // in order, one way
    make([&](int32_t i) { return static_cast<float>(-i); });  // and the other
    std::vector<float> spiked = rows[rows.size() - 11];
    spiked[n - 1] = 60;
    rows.push_back(spiked);
  }
  return rows;
}

// Against a plain sort: which are the best, and which make up a mass.
void selections_are_those_of_a_sort() {
  for (const std::vector<float>& x : rows_to_select_from()) {
    const int32_t n = static_cast<int32_t>(x.size());
    LogitRow row;
    row.look_at(x.data(), n);
    std::vector<int32_t> all(n), ids;
    std::iota(all.begin(), all.end(), 0);
    std::sort(all.begin(), all.end(), [&](int32_t a, int32_t b) { return x[a] > x[b] || (x[a] == x[b] && a < b); });
    while (x[all.back()] == -kInfinity) all.pop_back();
    for (int32_t count : {1, 2, 5, 40, 126, n / 2, n - 1, n, n + 1}) {
      if (count < 1) continue;
      row.best(count, &ids);
      const size_t kept = std::min<size_t>(count, all.size());
      EXPECT(ids == std::vector<int32_t>(all.begin(), all.begin() + kept));
      EXPECT(row.last_of_best(count).id == ids.back());
    }
    for (float scale : {1.f, 0.05f, 3.f}) {
      for (double share : {1e-9, 0.1, 0.5, 0.9, 0.999, 1.}) {
        row.exponentiate(scale);
        const double total = row.total(), goal = share * total;
        const LogitBorder last = row.last_of_mass(goal);
        // p is rounded down to multiples of at most total 2^-51, and the sums here are rounded: what is nearer to the
        // goal may be on either side.
        const double slack = (1e-12 + n * 0x1p-51) * total + (share < 1 ? 0 : 1e-6 * total);
        double mass = 0, without = 0;
        int32_t kept = 0;
        for (int32_t id : all) {
          if (!(x[id] > last.x || (x[id] == last.x && id <= last.id))) break;
          without = mass;
          mass += row.p(id);
          kept += row.p(id) > 0 ? 1 : 0;
        }
        if (!EXPECT(mass >= goal - slack && without < goal + slack)) return;
        std::vector<float> before(n);
        for (int32_t i = 0; i < n; i++) before[i] = row.p(i);
        row.keep(last, 0.f);
        for (int32_t i = 0; i < n; i++) {
          const bool in = x[i] > last.x || (x[i] == last.x && i <= last.id);
          if (!EXPECT(row.p(i) == (in ? before[i] : 0.f))) return;
          kept -= row.p(i) > 0 ? 1 : 0;
        }
        EXPECT(kept == 0 && std::abs(row.total() - mass) <= 1e-6 * mass);
        row.keep(last, 0.5f);
        for (int32_t i = 0; i < n; i++) {
          if (!EXPECT(row.p(i) == 0.f || row.p(i) >= 0.5f)) return;
        }
      }
    }
  }
}

// Every width of vectors that this machine runs against the narrowest.
void vectors_of_any_width_give_the_same_bits() {
  for (const std::string& isa : cpu_isas()) {
    for (const std::vector<float>& x : rows_to_select_from()) {
      const int32_t n = static_cast<int32_t>(x.size());
      LogitRow narrow, wide;
      narrow.look_at(x.data(), n, logit_passes("baseline"));
      wide.look_at(x.data(), n, logit_passes(isa));
      bool same = narrow.max == wide.max && narrow.argmax() == wide.argmax() && narrow.sum() == wide.sum();
      const auto compare = [&] {
        for (int32_t i = 0; i < n; i++) same = same && narrow.p(i) == wide.p(i);
        same = same && narrow.total() == wide.total();
      };
      narrow.exponentiate(0.7f);
      wide.exponentiate(0.7f);
      compare();
      const LogitBorder last = narrow.last_of_mass(0.8 * narrow.total());
      narrow.keep(last, 1e-3f);
      wide.keep(last, 1e-3f);
      compare();
      if (!EXPECT(same)) return;
    }
  }
}

void a_number_that_is_none_is_found_anywhere() {
  for (int32_t n : {1, 16, 300}) {
    for (int32_t at = 0; at<n; at += n> 16 ? 7 : 1) {
      std::vector<float> x(n, 1.f);
      LogitRow row;
      x[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT(test::code_of([&] { row.look_at(x.data(), n); }) == "ERR_NUMERIC");
      x[at] = kInfinity;
      EXPECT(test::code_of([&] { row.look_at(x.data(), n); }) == "ERR_NUMERIC");
    }
  }
}

void random_numbers_are_philox() {
  // The first two words of Philox4x32-10 for key and counter 0 (Random123's known answers).
  EXPECT(uniform(0, 0, 0) == static_cast<double>(0x6627e8d5e169c58dull >> 11) * 0x1p-53);
  EXPECT(uniform(1, 0, 0) != uniform(0, 0, 0) && uniform(0, 1, 0) != uniform(0, 0, 0) &&
         uniform(0, 0, 1) != uniform(0, 0, 0));
  double sum = 0;
  for (int32_t i = 0; i < 100000; i++) sum += uniform(7, 0, i);
  EXPECT(std::abs(sum / 100000 - 0.5) < 0.005);
}

// What the parameters stand for, spelled out.
std::vector<double> probabilities(const std::vector<float>& row, const SamplingParams& p) {
  const int32_t n = static_cast<int32_t>(row.size());
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](int32_t a, int32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
  if (p.top_k > 0 && p.top_k < n) order.resize(p.top_k);
  std::vector<double> probability(n, 0.);
  double total = 0, mass = 0, kept = 0;
  for (int32_t t : order) total += std::exp((static_cast<double>(row[t]) - row[order[0]]) / p.temperature);
  for (int32_t t : order) {
    const double own = std::exp((static_cast<double>(row[t]) - row[order[0]]) / p.temperature);
    if (p.top_p < 1.f && mass > 0 && mass >= p.top_p * total) break;
    mass += own;
    if (own >= p.min_p) kept += probability[t] = own;
  }
  for (double& x : probability) x /= kept;
  return probability;
}

void draws_have_their_probabilities() {
  struct Setting {
    float temperature, top_p, min_p;
    int32_t top_k;
  };
  const Setting settings[] = {{1, 1, 0, -1},      {0.5f, 1, 0, -1},      {2, 1, 0, 5},        {1, 0.6f, 0, -1},
                              {1.5f, 0.9f, 0, 7}, {1, 1, 0.2f, -1},      {1, 0.8f, 0.1f, -1}, {1, 0.95f, 0.3f, 9},
                              {1, 0.001f, 0, -1}, {100, 0.5f, 0, -1},    {1, 1, 1, -1},       {1, 0.999999f, 0, -1},
                              {1, 1, 0, 1},       {0.01f, 0.5f, 0, 100}, {3, 0.7f, 0.5f, 300}};
  for (int32_t vocab : {24, 700}) {
    const std::vector<float> row = row_of(vocab, 3, 6);
    for (const Setting& s : settings) {
      Ask ask(vocab);
      ask.params().temperature = s.temperature;
      ask.params().top_p = s.top_p;
      ask.params().min_p = s.min_p;
      ask.params().top_k = s.top_k;
      const std::vector<double> expected = probabilities(row, ask.params());
      constexpr int32_t kDraws = 20000;
      std::vector<int32_t> drawn(vocab, 0);
      for (int32_t i = 0; i < kDraws; i++) {
        ask.params().seed = static_cast<uint64_t>(i);
        drawn[ask.token(row)]++;
      }
      // Chi-squared of the tokens that are likely enough; six deviations from its mean are never seen by chance.
      double chi = 0, cells = 0;
      for (int32_t t = 0; t < vocab; t++) {
        if (expected[t] == 0) {
          if (!EXPECT(drawn[t] == 0)) return;
        } else if (expected[t] * kDraws >= 5) {
          chi += std::pow(drawn[t] - expected[t] * kDraws, 2) / (expected[t] * kDraws);
          cells++;
        }
      }
      EXPECT(cells > 0 && chi < cells + 6 * std::sqrt(2 * cells) + 6);
    }
  }
}

void only_the_sequence_decides() {
  const std::vector<float> row = row_of(5000, 5, 4), other = row_of(5000, 6, 9);
  Ask a(5000), b(5000);
  a.params().seed = b.params().seed = 11;
  b.params().top_p = 0.9f;
  std::vector<int32_t> alone;
  for (int32_t i = 0; i < 50; i++) {
    alone.push_back(a.token(row));
    a.generate(1);
  }
  a.sequence.tokens.resize(1);
  std::set<int32_t> different;
  for (int32_t i = 0; i < 50; i++) {
    b.token(other);
    EXPECT(a.sampler.sample(row.data(), a.sequence).token == alone[i]);
    different.insert(alone[i]);
    a.generate(1);
  }
  EXPECT(different.size() > 20);  // each index has its own number
  // The outputs of one request have their own.
  int32_t same = 0;
  a.sequence.index = 1;
  for (int32_t i = 0; i < 50; i++) {
    a.sequence.tokens.resize(1 + i);
    same += a.token(row) == alone[i] ? 1 : 0;
  }
  EXPECT(same < 10);
}

void penalties() {
  std::vector<float> row = {1.f, 2.f, 3.f, -1.f};
  Ask ask(4);
  ask.params().temperature = 0;
  EXPECT(ask.token(row) == 2);
  ask.params().repetition_penalty = 2.f;
  ask.request->prompt = {2, 2};
  ask.sequence.tokens = {2, 2};
  EXPECT(ask.token(row) == 1);  // 3 / 2, once for all its occurrences
  ask.generate(1);
  EXPECT(ask.token(row) == 2);  // 1.5 against 2 / 2
  row = {-3.f, -2.f, -1.9f, -4.f};
  EXPECT(ask.token(row) == 0);  // what is negative is multiplied
  ask.params().repetition_penalty = 1.f;
  row = {1.f, 2.f, 3.f, -1.f};
  ask.params().presence_penalty = 1.5f;
  EXPECT(ask.token(row) == 2);  // the prompt does not count
  ask.generate(2);
  EXPECT(ask.token(row) == 2 && ask.sequence.counts[2] == 1);  // 1.5 against 0.5 and 1
  ask.params().presence_penalty = 0.f;
  ask.params().frequency_penalty = 0.75f;
  EXPECT(ask.token(row) == 2);
  ask.generate(2);
  ask.generate(2);
  EXPECT(ask.token(row) == 1);  // 3 - 3 * 0.75 against 2 - 0.75
}

void masks() {
  const std::vector<float> row = {1.f, 2.f, 3.f, 4.f, 5.f};
  Ask ask(5);
  ask.params().temperature = 0;
  ask.params().logit_bias = {{0, 10.f}, {4, -10.f}, {7, 1.f}};
  EXPECT(ask.token(row) == 0);
  ask.params().allowed_token_ids = {1, 2, 2, 9};
  EXPECT(ask.token(row) == 2);
  ask.params().bad_words_ids = {{2}, {3, 1}};
  EXPECT(ask.token(row) == 1);
  ask.params().allowed_token_ids.clear();
  ask.params().logit_bias.clear();
  EXPECT(ask.token(row) == 4);
  ask.params().bad_words_ids = {{3, 4}, {1, 3, 4}, {1, 2, 4, 3}};
  ask.generate(1);
  EXPECT(ask.token(row) == 4);
  ask.generate(3);
  EXPECT(ask.token(row) == 3);  // 1 3 may not be followed by 4
  ask.params().bad_words_ids.clear();
  ask.params().min_tokens = 3;
  ask.params().stop_token_ids = {4, 99};
  ask.request->eos_token_ids = {3};
  EXPECT(ask.token(row) == 2);
  ask.generate(0);
  EXPECT(ask.token(row) == 4);
  // Sampling sees the same masks.
  ask.params().temperature = 5;
  ask.params().allowed_token_ids = {0, 3};
  for (uint64_t seed = 0; seed < 100; seed++) {
    ask.params().seed = seed;
    const int32_t token = ask.token(row);
    EXPECT(token == 0 || token == 3);
  }
}

void log_probabilities_are_the_models_own() {
  const std::vector<float> row = {1.f, 3.f, 2.f, 3.f, 0.f};
  double sum = 0;
  for (float x : row) sum += std::exp(static_cast<double>(x));
  Ask ask(5);
  ask.params().temperature = 0;
  SampleResult result = ask.sampler.sample(row.data(), ask.sequence);
  EXPECT(result.token == 1 && result.rank == 0 && result.top.empty());
  EXPECT(std::abs(result.logprob - (3 - std::log(sum))) < 1e-6);
  ask.params().logit_bias = {{0, 50.f}};
  ask.params().logprobs = 3;
  result = ask.sampler.sample(row.data(), ask.sequence);
  EXPECT(result.token == 0 && result.rank == 4);
  EXPECT(std::abs(result.logprob - (1 - std::log(sum))) < 1e-6);
  EXPECT(result.top.size() == 3 && result.top[0].token == 1 && result.top[1].token == 3 && result.top[2].token == 2);
  EXPECT(result.top[0].rank == 1 && result.top[2].rank == 3 && result.top[0].logprob == result.top[1].logprob);
  result = ask.sampler.logprobs(row.data(), 4, 0);
  EXPECT(result.rank == 5 && result.top.empty() && std::abs(result.logprob + std::log(sum)) < 1e-6);
  EXPECT(ask.sampler.logprobs(row.data(), 4, 10).top.size() == 5);
}

}  // namespace

int main() {
  exponentials_are_exact_to_two_units_in_the_last_place();
  totals();
  selections_are_those_of_a_sort();
  vectors_of_any_width_give_the_same_bits();
  a_number_that_is_none_is_found_anywhere();
  random_numbers_are_philox();
  draws_have_their_probabilities();
  only_the_sequence_decides();
  penalties();
  masks();
  log_probabilities_are_the_models_own();
  return ocelli::test::report("sampler");
}
