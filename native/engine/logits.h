// One row of logits and the passes that sampling makes over it. Plain arithmetic in a fixed order (16 lanes, chunks of
// 256, chunks in turn): the same bits whatever vectors the machine has.
#pragma once

#include <cstdint>
#include <vector>

namespace ocelli {

class LogitRow {
 public:
  static constexpr int32_t kLanes = 16;
  static constexpr int32_t kChunk = 256;

  // x: [n], read only, alive as long as this is used. Throws ERR_NUMERIC where x has a NaN or infinity;
  // -infinity is a token that cannot be.
  void look_at(const float* x, int32_t n);

  const float* x = nullptr;
  int32_t n = 0;
  float max = 0;

  int32_t argmax() const;  // the first of equals
  int32_t count_above(float value) const;
  // The `count` best, best first, the lower id first among equals; fewer where the others are -infinity.
  void best(int32_t count, std::vector<int32_t>* ids) const;
  bool before(int32_t a, int32_t b) const { return x[a] > x[b] || (x[a] == x[b] && a < b); }

  // p[i] = e^((x[i] - max) * scale) for all i; does nothing where that is done.
  void exponentiate(float scale);
  double total() const { return total_; }  // of p
  // One value of p; the others need not be there.
  float p(int32_t i, float scale) const;
  // The first i at which the sum of p up to and with i exceeds mass, at the latest the last one that is not 0.
  int32_t find(double mass) const;

 private:
  int32_t chunks() const { return (n + kChunk - 1) / kChunk; }
  std::vector<float> chunk_max_;
  std::vector<double> chunk_sum_;
  std::vector<float> p_;
  float scale_ = 0;  // of p_; 0: none
  double total_ = 0;
};

}  // namespace ocelli
