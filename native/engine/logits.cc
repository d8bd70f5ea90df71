#include "engine/logits.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "core/check.h"

namespace ocelli {
namespace {

constexpr int32_t kLanes = LogitRow::kLanes;
constexpr int32_t kChunk = LogitRow::kChunk;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Four floats, native to every machine that this is built for, so that lanes are vectors without the compiler's guess.
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t Mask __attribute__((vector_size(16)));
constexpr int32_t kVec = 4;
constexpr int32_t kVecs = kLanes / kVec;

inline Vec spread(float v) { return Vec{v, v, v, v}; }
inline Vec select(Mask mask, Vec yes, Vec no) {
  return reinterpret_cast<Vec>((reinterpret_cast<Mask>(yes) & mask) | (reinterpret_cast<Mask>(no) & ~mask));
}
inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// e^y for y <= 0 within 2 ulp, 0 below -87: y = k ln 2 + r, and a polynomial of r. No operations are fused: not every
// machine can.
inline Vec exp_of(Vec y) {
  const Mask below = y < spread(-87.f);
  const Vec bounded = select(below, spread(-87.f), y);
  const Vec shifted = bounded * spread(1.44269504f) + spread(12582912.f);  // 1.5 * 2^23 rounds to whole numbers
  const Vec k = shifted - spread(12582912.f);
  // ln 2 in two parts: k times the first is exact.
  const Vec r = (bounded - k * spread(0.693359375f)) + k * spread(2.12194440e-4f);
  Vec poly = spread(0.001381455920636654f);
  poly = poly * r + spread(0.008368735201656818f);
  poly = poly * r + spread(0.04166838899254799f);
  poly = poly * r + spread(0.1666652113199234f);
  poly = poly * r + spread(0.4999999403953552f);
  poly = (poly * (r * r) + r) + spread(1.f);
  // The low bits of `shifted` are k.
  const Mask bits = reinterpret_cast<Mask>(poly) + (reinterpret_cast<Mask>(shifted) << 23);
  return select(below, spread(0.f), reinterpret_cast<Vec>(bits));
}

// Lanes to one, in pairs of distance 8, 4, 2, 1.
template <class Join>
float fold(const Vec* vecs, Join join) {
  float lane[kLanes];
  std::memcpy(lane, vecs, sizeof lane);
  for (int32_t half = kLanes / 2; half > 0; half /= 2) {
    for (int32_t i = 0; i < half; i++) lane[i] = join(lane[i], lane[i + half]);
  }
  return lane[0];
}

// `value` for what lies behind the row's end in its last chunk.
const float* padded(const float* x, int32_t count, float value, float* buffer) {
  if (count == kChunk) return x;
  std::copy(x, x + count, buffer);
  std::fill(buffer + count, buffer + kChunk, value);
  return buffer;
}

float max_of_chunk(const float* x, bool* nan) {
  Vec lane[kVecs];
  Mask odd = {0, 0, 0, 0};
  for (Vec& v : lane) v = spread(kLowest);
  for (int32_t at = 0; at < kChunk; at += kLanes) {
    for (int32_t i = 0; i < kVecs; i++) {
      const Vec value = load(x + at + i * kVec);
      lane[i] = select(value > lane[i], value, lane[i]);
      odd |= value != value;
    }
  }
  *nan = *nan || (odd[0] | odd[1] | odd[2] | odd[3]) != 0;
  return fold(lane, [](float a, float b) { return b > a ? b : a; });
}

// Sixteen terms to a lane: float32 carries them as well as its rounding of each term.
double exp_chunk(const float* x, float max, float scale, float* p) {
  Vec lane[kVecs] = {};
  for (int32_t at = 0; at < kChunk; at += kLanes) {
    for (int32_t i = 0; i < kVecs; i++) {
      const Vec value = exp_of((load(x + at + i * kVec) - spread(max)) * spread(scale));
      std::memcpy(p + at + i * kVec, &value, sizeof value);
      lane[i] += value;
    }
  }
  return static_cast<double>(fold(lane, [](float a, float b) { return a + b; }));
}

}  // namespace

void LogitRow::look_at(const float* row, int32_t count) {
  x = row;
  n = count;
  scale_ = 0;
  chunk_max_.resize(chunks());
  bool nan = false;
  float buffer[kChunk];
  max = kLowest;
  for (int32_t c = 0; c < chunks(); c++) {
    const float* chunk = padded(x + c * kChunk, std::min(kChunk, n - c * kChunk), kLowest, buffer);
    chunk_max_[c] = max_of_chunk(chunk, &nan);
    max = std::max(max, chunk_max_[c]);
  }
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

void LogitRow::best(int32_t count, std::vector<int32_t>* ids) const {
  ids->clear();
  // At least `count` are not below the count-th best chunk's best.
  float least = kLowest;
  if (count < chunks()) {
    std::vector<float> order(chunk_max_);
    std::nth_element(order.begin(), order.begin() + count - 1, order.end(), std::greater<float>());
    least = order[count - 1];
  }
  for (int32_t c = 0; c < chunks(); c++) {
    if (chunk_max_[c] < least) continue;
    for (int32_t i = c * kChunk; i < std::min(n, (c + 1) * kChunk); i++) {
      if (x[i] >= least && x[i] != kLowest) ids->push_back(i);
    }
  }
  auto order = [this](int32_t a, int32_t b) { return before(a, b); };
  if (count < static_cast<int32_t>(ids->size())) {
    std::nth_element(ids->begin(), ids->begin() + count, ids->end(), order);
    ids->resize(count);
  }
  std::sort(ids->begin(), ids->end(), order);
}

void LogitRow::exponentiate(float scale) {
  if (scale == scale_) return;
  scale_ = scale;
  p_.resize(static_cast<size_t>(chunks()) * kChunk);
  chunk_sum_.resize(chunks());
  total_ = 0;
  float buffer[kChunk];
  for (int32_t c = 0; c < chunks(); c++) {
    const float* chunk = padded(x + c * kChunk, std::min(kChunk, n - c * kChunk), kLowest, buffer);
    total_ += chunk_sum_[c] = exp_chunk(chunk, max, scale, p_.data() + c * kChunk);
  }
}

float LogitRow::p(int32_t i, float scale) const {
  return scale == scale_ ? p_[i] : exp_of(spread((x[i] - max) * scale))[0];
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
