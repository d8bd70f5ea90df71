#include "engine/logits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "core/check.h"

namespace ocelli {
namespace {

constexpr int32_t kChunk = LogitRow::kChunk;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Bits of a key that one round of `border` tells apart: a histogram stays in the first cache.
constexpr int kDigit = 11;
constexpr int32_t kBuckets = 1 << kDigit;

// Descends as the logit rises; 0 and -0 are equal.
uint32_t key_of(float x) {
  x += 0.f;
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  // Of negative numbers all bits but the sign already descend.
  return static_cast<uint32_t>(bits < 0 ? bits : ~bits & INT32_MAX);
}

}  // namespace

void LogitRow::look_at(const float* row, int32_t count, const LogitPasses& passes) {
  passes_ = &passes;
  x = row;
  n = count;
  sum_ = 0;
  chunk_max_.resize(chunks());
  const int32_t whole = n / kChunk;
  bool nan = passes_->maxima(x, whole, chunk_max_.data());
  if (whole < chunks()) {
    std::copy(x + whole * kChunk, x + n, tail_);
    std::fill(tail_ + (n - whole * kChunk), tail_ + kChunk, kLowest);
    nan = passes_->maxima(tail_, 1, chunk_max_.data() + whole) || nan;
  }
  max = *std::max_element(chunk_max_.begin(), chunk_max_.end());
  if (nan || max == -kLowest) {
    throw Error("ERR_NUMERIC",
                std::string("Expected finite logits but the model produced ") + (nan ? "NaN" : "infinity"),
                "Load it with dtype 'float32'.");
  }
}

int32_t LogitRow::argmax() const {
  const int32_t chunk = static_cast<int32_t>(std::find(chunk_max_.begin(), chunk_max_.end(), max) - chunk_max_.begin());
  return static_cast<int32_t>(std::find(x + chunk * kChunk, x + n, max) - x);
}

int32_t LogitRow::count_above(float value) const {
  int32_t count = 0;
  for (int32_t i = 0; i < n; i++) count += x[i] > value ? 1 : 0;
  return count;
}

// Leaves in ids_ those at which the sum of weights, from the smallest value of the keys' bits from `shift` on, reaches
// `goal`; returns the sum of those before. Weights are whole numbers.
template <class Weight>
double LogitRow::narrow(int shift, double goal, const Weight& weight) {
  auto bucket = [&](int32_t id) { return static_cast<int32_t>(key_of(x[id]) >> shift) & (kBuckets - 1); };
  histogram_.assign(kBuckets, 0.);
  for (int32_t id : ids_) histogram_[bucket(id)] += weight(id);
  // Where rounding leaves the goal out of reach, it is the last bucket that has any.
  double before = 0, mass = 0;
  int32_t last = 0;
  for (int32_t b = 0; b < kBuckets && (mass == 0 || mass < goal); b++) {
    if (histogram_[b] == 0) continue;
    before = mass;
    mass += histogram_[b];
    last = b;
  }
  ids_.erase(std::remove_if(ids_.begin(), ids_.end(), [&](int32_t id) { return bucket(id) != last; }), ids_.end());
  return before;
}

// A radix select of three digits over keys that have the order of the logits. ids_ holds who takes part, ascending.
template <class Weight>
LogitBorder LogitRow::border(double goal, const Weight& weight) {
  for (int shift : {32 - kDigit, 32 - 2 * kDigit, 0}) {
    if (ids_.size() > 1) goal -= narrow(shift, goal, weight);
  }
  // Equal logits: the lower id is the better one.
  size_t last = 0;
  for (double mass = weight(ids_[0]); mass < goal && last + 1 < ids_.size(); mass += weight(ids_[last])) last++;
  return {x[ids_[last]], ids_[last]};
}

LogitBorder LogitRow::last_of_best(int32_t count) {
  // At least `count` are not below the count-th best chunk's best.
  float least = kLowest;
  if (count < chunks()) {
    order_ = chunk_max_;
    std::nth_element(order_.begin(), order_.begin() + count - 1, order_.end(), std::greater<float>());
    least = order_[count - 1];
  }
  ids_.clear();
  for (int32_t c = 0; c < chunks(); c++) {
    if (chunk_max_[c] < least || chunk_max_[c] == kLowest) continue;
    for (int32_t i = c * kChunk; i < std::min(n, (c + 1) * kChunk); i++) {
      if (x[i] >= least && x[i] != kLowest) ids_.push_back(i);
    }
  }
  if (ids_.empty()) return {kLowest, -1};
  return border(count, [](int32_t) { return 1.; });
}

void LogitRow::best(int32_t count, std::vector<int32_t>* ids) {
  const LogitBorder last = last_of_best(count);
  ids->clear();
  for (int32_t c = 0; c < chunks(); c++) {
    if (chunk_max_[c] < last.x || chunk_max_[c] == kLowest) continue;
    for (int32_t i = c * kChunk; i < std::min(n, (c + 1) * kChunk); i++) {
      if (x[i] > last.x || (x[i] == last.x && i <= last.id)) ids->push_back(i);
    }
  }
  std::sort(ids->begin(), ids->end(), [this](int32_t a, int32_t b) { return before(a, b); });
}

double LogitRow::sum() {
  if (sum_ > 0) return sum_;
  const int32_t whole = n / kChunk;
  chunk_sum_.resize(chunks());
  passes_->exponentials(x, whole, max, 1.f, nullptr, chunk_sum_.data());
  if (whole < chunks()) passes_->exponentials(tail_, 1, max, 1.f, nullptr, chunk_sum_.data() + whole);
  for (double chunk : chunk_sum_) sum_ += chunk;
  return sum_;
}

void LogitRow::add_up() {
  total_ = 0;
  for (double chunk : chunk_sum_) total_ += chunk;
}

void LogitRow::exponentiate(float scale) {
  const int32_t whole = n / kChunk;
  p_.resize(static_cast<size_t>(chunks()) * kChunk);
  chunk_sum_.resize(chunks());
  passes_->exponentials(x, whole, max, scale, p_.data(), chunk_sum_.data());
  if (whole < chunks())
    passes_->exponentials(tail_, 1, max, scale, p_.data() + whole * kChunk, chunk_sum_.data() + whole);
  add_up();
  if (scale == 1.f) sum_ = total_;
}

LogitBorder LogitRow::last_of_mass(double goal) {
  // All tokens below this together are less than half of what may be left out.
  const float least = static_cast<float>(std::max(0., (total_ - goal) / n) * 0.5);
  ids_.clear();
  for (int32_t c = 0; c < chunks(); c++) {
    if (chunk_sum_[c] < least || chunk_sum_[c] == 0) continue;
    for (int32_t i = c * kChunk; i < std::min(n, (c + 1) * kChunk); i++) {
      if (p_[i] >= least && p_[i] > 0.f) ids_.push_back(i);
    }
  }
  // Whole numbers that together are below 2^53: their sums are exact, and so the same in any order, on any device.
  const double unit = std::ldexp(1., 51 - std::ilogb(total_));
  return border(goal * unit,
                [this, unit](int32_t id) { return static_cast<double>(static_cast<int64_t>(p_[id] * unit)); });
}

void LogitRow::keep(LogitBorder last, float least) {
  const int32_t whole = n / kChunk;
  passes_->keep(x, whole, 0, last, least, p_.data(), chunk_sum_.data());
  if (whole < chunks()) {
    const int32_t first = whole * kChunk;
    passes_->keep(tail_, 1, first, last, least, p_.data() + first, chunk_sum_.data() + whole);
  }
  add_up();
}

int32_t LogitRow::find(double mass) const {
  double sum = 0;
  int32_t c = 0;
  while (c + 1 < chunks() && sum + chunk_sum_[c] <= mass) sum += chunk_sum_[c++];
  // Rounded otherwise than the chunk's sum: the chunk may end before the mass is reached.
  int32_t last = -1;
  for (int32_t i = c * kChunk; i < std::min(n, (c + 1) * kChunk); i++) {
    if (p_[i] == 0.f) continue;
    last = i;
    sum += p_[i];
    if (sum > mass) return i;
  }
  if (last >= 0) return last;
  for (int32_t i = c * kChunk; i-- > 0;) {
    if (p_[i] != 0.f) return i;
  }
  return argmax();
}

}  // namespace ocelli
