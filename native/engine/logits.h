// One row of logits and the passes that sampling makes over it. Plain arithmetic in a fixed order (16 lanes, chunks of
// 256, chunks in turn): the same bits whatever vectors the machine has.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/logit_passes.h"

namespace ocelli {

class LogitRow {
 public:
  static constexpr int32_t kChunk = kLogitChunk;

  // x: [n], read only, alive as long as this is used. Throws ERR_NUMERIC where x has a NaN or infinity;
  // -infinity is a token that cannot be.
  void look_at(const float* x, int32_t n, const LogitPasses& passes = logit_passes());

  const float* x = nullptr;
  int32_t n = 0;
  float max = 0;

  int32_t argmax() const;  // the first of equals
  int32_t count_above(float value) const;
  // The `count` best, best first, the lower id first among equals; fewer where the others are -infinity.
  void best(int32_t count, std::vector<int32_t>* ids);
  // The last of them.
  LogitBorder last_of_best(int32_t count);
  bool before(int32_t a, int32_t b) const { return x[a] > x[b] || (x[a] == x[b] && a < b); }

  // The sum of e^(x[i] - max).
  double sum();

  // p[i] = e^((x[i] - max) * scale) for all i.
  void exponentiate(float scale);
  double total() const { return total_; }  // of p
  float p(int32_t i) const { return p_[i]; }
  // The last token of the smallest set of the best whose p make up `goal`; at the latest the last one whose p is not 0.
  LogitBorder last_of_mass(double goal);
  // What is behind `last` or has less than `least` is left out: its p becomes 0.
  void keep(LogitBorder last, float least);
  // The first i at which the sum of p up to and with i exceeds mass, at the latest the last one that is not 0.
  int32_t find(double mass) const;

 private:
  int32_t chunks() const { return (n + kChunk - 1) / kChunk; }
  template <class Weight>
  LogitBorder border(double goal, const Weight& weight);
  template <class Weight>
  double narrow(int shift, double goal, const Weight& weight);
  void add_up();

  const LogitPasses* passes_ = nullptr;
  std::vector<float> chunk_max_;
  std::vector<double> chunk_sum_;  // of p
  std::vector<float> p_;           // whole chunks
  float tail_[kChunk];             // the last chunk where it is not whole, -infinity behind the end
  double sum_ = 0;                 // 0: not known
  double total_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> order_;
  std::vector<double> histogram_;
};

}  // namespace ocelli
