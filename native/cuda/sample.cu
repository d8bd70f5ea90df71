// A row of logits to a token, without a sort. A block a row; what native/engine/logits.h has (16 lanes, chunks of 256,
// chunks in turn, nothing fused) is a half-warp a chunk here, so that every bit is the CPU's. Nothing but edited logits
// is stored: e^x is made anew in each pass. Passes over the row are reads of 4 bytes a token by one multiprocessor,
// from the L2 cache (64 bytes a clock, 10,000 clocks for 152,000 tokens): two for a greedy token, another for its rank.
// A border (the last of the best, or of those that make up a mass) is found by halving the range of keys: some 25
// passes of which all but the first few skip the chunks whose largest is below the range. Sums that select are whole
// numbers (engine/logits.h), so that their order is nobody's.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"
#include "cuda/sample.h"

namespace ocelli {
namespace cuda {

constexpr int kChunk = 256, kLane = 16;
constexpr int kWarps = kSampleThreads / 32;
typedef unsigned long long Mass;
// Everything is inlined: what is called would keep registers in memory.

// A token and its logit: tokens before it, from the best on, have a larger logit, or the same and a lower id.
struct Border {
  float x;
  int id;
};

// A row and what is known of it, in shared memory.
struct Logits {
  const float* x;
  int n, chunks;
  float* chunk_max;
  float max;
};

// Which tokens may still be drawn.
struct Kept {
  float max, scale;
  Border k, p;
  float least;
};

__device__ __forceinline__ float exp_of(float y) {
  const bool below = y < -87.f;
  const float bounded = below ? -87.f : y;
  const float shifted = __fadd_rn(__fmul_rn(bounded, 1.44269504f), 12582912.f);
  const float k = __fsub_rn(shifted, 12582912.f);
  const float r = __fadd_rn(__fsub_rn(bounded, __fmul_rn(k, 0.693359375f)), __fmul_rn(k, 2.12194440e-4f));
  float poly = __fadd_rn(__fmul_rn(r, 0.001381455920636654f), 0.008368735201656818f);
  poly = __fadd_rn(__fmul_rn(poly, r), 0.04166838899254799f);
  poly = __fadd_rn(__fmul_rn(poly, r), 0.1666652113199234f);
  poly = __fadd_rn(__fmul_rn(poly, r), 0.4999999403953552f);
  poly = __fadd_rn(__fadd_rn(__fmul_rn(poly, __fmul_rn(r, r)), r), 1.f);
  return below ? 0.f : __int_as_float(__float_as_int(poly) + (__float_as_int(shifted) << 23));
}

__device__ __forceinline__ bool within(const Border& last, float x, int id) {
  return x > last.x || (x == last.x && id <= last.id);
}

__device__ __forceinline__ float weight_of(const Kept& kept, float x, int id) {
  const float p = exp_of(__fmul_rn(__fsub_rn(x, kept.max), kept.scale));
  return within(kept.k, x, id) && within(kept.p, x, id) && p >= kept.least ? p : 0.f;
}

// Ascends as the logit falls; 0 and -0 are equal.
__device__ __forceinline__ uint32_t key_of(float x) {
  const int bits = __float_as_int(__fadd_rn(x, 0.f));
  return static_cast<uint32_t>(bits < 0 ? bits : ~bits & INT_MAX);
}

// Joins the values of all threads, in every thread. `join` is one whose order does not matter.
template <class T, class Join>
__device__ __forceinline__ T across_block(T value, Join join) {
  __shared__ T parts[kWarps];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = join(value, __shfl_xor_sync(~0u, value, step));
  __syncthreads();  // an earlier one's readers are done
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; warp++) value = join(value, parts[warp]);
  return value;
}
__device__ __forceinline__ Mass sum_of(Mass value) {
  return across_block(value, [](Mass a, Mass b) { return a + b; });
}
__device__ __forceinline__ uint32_t least_of(uint32_t value) {
  return across_block(value, [](uint32_t a, uint32_t b) { return min(a, b); });
}

// f(logit, token) for this lane's sixteen tokens of a chunk, -infinity behind the end.
template <class F>
__device__ __forceinline__ void each_of(const Logits& row, int chunk, F f) {
#pragma unroll 8
  for (int at = threadIdx.x % kLane; at < kChunk; at += kLane) {
    const int token = chunk * kChunk + at;
    f(token < row.n ? row.x[token] : -INFINITY, token);
  }
}

// f(logit, token) for the tokens of chunks whose largest is at least `least`, in no order.
template <class F>
__device__ __forceinline__ void each_above(const Logits& row, float least, F f) {
  for (int chunk = threadIdx.x / kLane; chunk < row.chunks; chunk += kSampleThreads / kLane) {
    if (row.chunk_max[chunk] >= least) each_of(row, chunk, f);
  }
}

// Sixteen lanes to the first of them, in pairs of distance 8, 4, 2, 1.
template <class Join>
__device__ __forceinline__ float fold(float value, Join join) {
  const unsigned lanes = 0xffffu << (threadIdx.x & kLane);
#pragma unroll
  for (int half = kLane / 2; half > 0; half /= 2) value = join(value, __shfl_down_sync(lanes, value, half, kLane));
  return value;
}

// The largest of each chunk and of all; where there is a NaN or infinity, says so.
__device__ __forceinline__ int look_at(Logits& row) {
  bool nan = false;
  float most = -INFINITY;
  for (int chunk = threadIdx.x / kLane; chunk < row.chunks; chunk += kSampleThreads / kLane) {
    float max = -INFINITY;
    each_of(row, chunk, [&](float x, int) { max = fmaxf(max, x), nan = nan || x != x; });
    max = fold(max, [](float a, float b) { return fmaxf(a, b); });
    if (threadIdx.x % kLane == 0) row.chunk_max[chunk] = max, most = fmaxf(most, max);
  }
  row.max = across_block(most, [](float a, float b) { return fmaxf(a, b); });
  const bool any = sum_of(nan ? 1 : 0) > 0;
  return any ? SampleOutcome::kNan : row.max == INFINITY ? SampleOutcome::kInfinity : SampleOutcome::kNone;
}

// The sum of what is kept, of each chunk and of all.
__device__ __forceinline__ double sum_up(const Logits& row, const Kept& kept, double* chunk_sum) {
  __shared__ double total;
  const float least = fmaxf(kept.k.x, kept.p.x);
  for (int chunk = threadIdx.x / kLane; chunk < row.chunks; chunk += kSampleThreads / kLane) {
    float sum = 0;
    if (row.chunk_max[chunk] >= least)
      each_of(row, chunk, [&](float x, int token) { sum = __fadd_rn(sum, weight_of(kept, x, token)); });
    sum = fold(sum, [](float a, float b) { return __fadd_rn(a, b); });
    if (threadIdx.x % kLane == 0) chunk_sum[chunk] = sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double sum = 0;
#pragma unroll 8
    for (int chunk = 0; chunk < row.chunks; chunk++) sum = __dadd_rn(sum, chunk_sum[chunk]);
    total = sum;
  }
  __syncthreads();
  return total;
}

// The first token with the largest logit.
__device__ __forceinline__ int argmax(const Logits& row) {
  uint32_t first = UINT32_MAX;
  each_above(row, row.max, [&](float x, int token) {
    if (x == row.max && token < row.n) first = min(first, static_cast<uint32_t>(token));
  });
  return static_cast<int>(least_of(first));
}

// The last token of the smallest set of the best whose weights make up `goal`, at the latest the last one that has a
// weight. There has to be one.
template <class Weight>
__device__ __forceinline__ Border border(const Logits& row, double goal, Weight weight) {
  Mass range = 0, before = 0;  // the weight of keys from lo to hi, and of those before
  uint32_t lo = UINT32_MAX, hi = 0;
  each_above(row, -INFINITY, [&](float x, int token) {
    const Mass mass = weight(x, token);
    if (mass > 0) range += mass, lo = min(lo, key_of(x)), hi = max(hi, key_of(x));
  });
  range = sum_of(range), lo = least_of(lo), hi = ~least_of(~hi);
  const auto sum_to = [&](uint32_t last) {
    Mass mass = 0;
    for (int chunk = threadIdx.x / kLane; chunk < row.chunks; chunk += kSampleThreads / kLane) {
      if (key_of(row.chunk_max[chunk]) > last) continue;
      each_of(row, chunk, [&](float x, int token) {
        if (key_of(x) >= lo && key_of(x) <= last) mass += weight(x, token);
      });
    }
    return sum_of(mass);
  };
  while (lo < hi) {
    const uint32_t middle = lo + (hi - lo) / 2;
    const Mass mass = sum_to(middle);
    if (mass == range || (before + mass > 0 && static_cast<double>(before + mass) >= goal)) {
      hi = middle, range = mass;
    } else {
      before += mass, range -= mass, lo = middle + 1;
    }
  }
  // Equal logits: the lower id is the better one. Halving again, among ids.
  const auto equals = [&](auto f) {
    for (int chunk = threadIdx.x / kLane; chunk < row.chunks; chunk += kSampleThreads / kLane) {
      if (key_of(row.chunk_max[chunk]) > lo) continue;
      each_of(row, chunk, [&](float x, int token) {
        const Mass mass = key_of(x) == lo ? weight(x, token) : 0;
        if (mass > 0) f(static_cast<uint32_t>(token), mass);
      });
    }
  };
  uint32_t first = UINT32_MAX, last = 0;
  equals([&](uint32_t token, Mass) { first = min(first, token), last = max(last, token); });
  first = least_of(first), last = ~least_of(~last);
  while (first < last) {
    const uint32_t middle = first + (last - first) / 2;
    Mass mass = 0;
    equals([&](uint32_t token, Mass own) { mass += token >= first && token <= middle ? own : 0; });
    mass = sum_of(mass);
    if (mass == range || (before + mass > 0 && static_cast<double>(before + mass) >= goal)) {
      last = middle, range = mass;
    } else {
      before += mass, range -= mass, first = middle + 1;
    }
  }
  return {row.x[first], static_cast<int>(first)};
}

// The last of the `count` best.
__device__ __forceinline__ Border last_of_best(const Logits& row, int count) {
  return border(row, count, [](float x, int) { return Mass{x > -INFINITY}; });
}

// Doubles of `total` 2^shift are below 2^53: sums of such whole numbers are exact.
__device__ __forceinline__ int mass_shift(double total) { return 51 - ((__double2hiint(total) >> 20) - 1023); }

// The last token of the smallest set of the best whose p make up the share `top_p` of `total`.
__device__ __forceinline__ Border last_of_mass(const Logits& row, Kept kept, double top_p, double total) {
  const double goal = __dmul_rn(top_p, total);
  kept.least = static_cast<float>(__dmul_rn(fmax(0., __ddiv_rn(__dsub_rn(total, goal), row.n)), 0.5));
  const int shift = mass_shift(total);
  return border(row, __dmul_rn(goal, __hiloint2double((1023 + shift) << 20, 0)), [&](float x, int token) -> Mass {
    const float p = weight_of(kept, x, token);
    if (p == 0) return 0;
    // p 2^shift, rounded down, without a double: they are slow on many GPUs.
    const int bits = __float_as_int(p), places = (bits >> 23) - 150 + shift;
    const Mass mantissa = (bits & 0x7fffff) | 0x800000;
    return places >= 0 ? mantissa << places : places > -24 ? mantissa >> -places : 0;
  });
}

// The first token at which the sum of what is kept, up to and with it, exceeds `goal`.
__device__ __forceinline__ int find(const Logits& row, const Kept& kept, const double* chunk_sum, double goal) {
  __shared__ float p[kChunk];
  __shared__ int chunk, token;
  __shared__ double sum;
  if (threadIdx.x == 0) {
    sum = 0, chunk = 0;
    while (chunk + 1 < row.chunks && __dadd_rn(sum, chunk_sum[chunk]) <= goal)
      sum = __dadd_rn(sum, chunk_sum[chunk++]);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kChunk; i += kSampleThreads) {
    const int id = chunk * kChunk + i;
    p[i] = id < row.n ? weight_of(kept, row.x[id], id) : 0.f;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    token = -1;
    for (int i = 0; i < kChunk && sum <= goal; i++) {
      if (p[i] == 0) continue;
      sum = __dadd_rn(sum, p[i]);
      token = chunk * kChunk + i;
    }
    // Rounded otherwise than the chunk's sum, its values may not reach the goal; then it is the last that can be.
    for (int id = chunk * kChunk; token < 0 && id-- > 0;) {
      if (weight_of(kept, row.x[id], id) != 0) token = id;
    }
  }
  __syncthreads();
  return token;
}

// Philox4x32-10 (Salmon et al., 2011): a number in [0, 1) with 53 bits.
__device__ __forceinline__ double uniform(Mass seed, Mass index) {
  uint32_t c[4] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const Mass p0 = Mass{0xD2511F53u} * c[0], p1 = Mass{0xCD9E8D57u} * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1, c[3] = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return static_cast<double>((Mass{c[0]} << 32 | c[1]) >> 11) * 0x1p-53;
}

__device__ __forceinline__ int draw(const Logits& row, const SampleRow& how, double* chunk_sum) {
  Kept kept{row.max, how.scale, {-INFINITY, row.n}, {-INFINITY, row.n}, 0.f};
  double total = sum_up(row, kept, chunk_sum);
  if (how.top_k > 0 && how.top_k < row.n) {
    kept.k = last_of_best(row, how.top_k);
    total = sum_up(row, kept, chunk_sum);
  }
  if (how.top_p < 1) kept.p = last_of_mass(row, kept, how.top_p, total);
  kept.least = how.min_p;  // relative to the best, whose p is 1
  if (how.top_p < 1 || how.min_p > 0) total = sum_up(row, kept, chunk_sum);
  const int token = find(row, kept, chunk_sum, __dmul_rn(uniform(how.seed, how.index), total));
  return token >= 0 ? token : argmax(row);
}

// The row's logits with penalties, biases and masks.
__device__ __forceinline__ void edit(const Sample& s, const SampleRow& how, const float* x, float* edited) {
  for (int i = threadIdx.x; i < s.vocab; i += kSampleThreads) edited[i] = how.restricted ? -INFINITY : x[i];
  __syncthreads();
  for (int i = how.allowed[0] + threadIdx.x; i < how.allowed[1]; i += kSampleThreads)
    edited[s.allowed[i]] = x[s.allowed[i]];
  __syncthreads();
  for (int i = how.edits[0] + threadIdx.x; i < how.edits[1]; i += kSampleThreads) {
    const int token = s.edits[i].token;
    if (i > how.edits[0] && s.edits[i - 1].token == token) continue;  // another thread's
    float value = edited[token];
    for (int j = i; j < how.edits[1] && s.edits[j].token == token; j++) {
      const SampleEdit by = s.edits[j];
      if (by.kind == SampleEdit::kRepetition)
        value = value > 0 ? __fdiv_rn(value, by.value) : __fmul_rn(value, by.value);
      if (by.kind == SampleEdit::kMinus) value = __fsub_rn(value, by.value);
      if (by.kind == SampleEdit::kPlus) value = __fadd_rn(value, by.value);
      if (by.kind == SampleEdit::kMask) value = -INFINITY;
    }
    edited[token] = value;
  }
  __syncthreads();
}

// Rank of the token, and the best, best first.
__device__ __forceinline__ void describe(const Logits& row, int top, float logit, SampleOutcome& outcome,
                                         SampleBest* best) {
  Mass above = 0;
  each_above(row, logit, [&](float x, int) { above += x > logit ? 1 : 0; });
  outcome.rank = 1 + static_cast<int>(sum_of(above));
  if (top == 0 || row.max == -INFINITY) return;
  __shared__ SampleBest found[kSampleBest];
  __shared__ int count;
  const Border last = last_of_best(row, top);
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  each_above(row, last.x, [&](float x, int token) {
    if (token < row.n && within(last, x, token)) found[atomicAdd(&count, 1)] = {token, x};
  });
  __syncthreads();
  outcome.best = count;
  for (int i = threadIdx.x; i < count; i += kSampleThreads) {
    int before = 0;
    const Border better{found[i].logit, found[i].token - 1};
    for (int j = 0; j < count; j++) before += within(better, found[j].logit, found[j].token) ? 1 : 0;
    best[before] = found[i];
  }
}

extern "C" __global__ void __launch_bounds__(kSampleThreads, 1) sample(const __grid_constant__ Sample s) {
  extern __shared__ __align__(16) unsigned char shared[];
  const SampleRow how = s.rows[blockIdx.x];
  const int chunks = (s.vocab + kChunk - 1) / kChunk;
  double* const chunk_sum = reinterpret_cast<double*>(shared);
  float* const maxima = reinterpret_cast<float*>(chunk_sum + chunks);
  Logits raw{s.logits + blockIdx.x * s.stride, s.vocab, chunks, maxima, 0.f};
  float* const edited = s.edited + static_cast<long long>(blockIdx.x) * s.vocab;
  Logits own{edited, s.vocab, chunks, maxima + chunks, 0.f};
  SampleOutcome outcome{};
  outcome.fault = look_at(raw);
  if (outcome.fault == SampleOutcome::kNone) {
    outcome.max = raw.max;
    const Kept all{raw.max, 1.f, {-INFINITY, s.vocab}, {-INFINITY, s.vocab}, 0.f};
    outcome.sum = sum_up(raw, all, chunk_sum);
    if (how.restricted || how.edits[0] < how.edits[1]) {
      edit(s, how, raw.x, edited);
      outcome.fault = look_at(own);
    } else {
      own = raw;
    }
  }
  if (outcome.fault == SampleOutcome::kNone) {
    outcome.token = how.scale == 0 || own.max == -INFINITY ? argmax(own) : draw(own, how, chunk_sum);
    outcome.logit = raw.x[outcome.token];
    if (how.top >= 0) describe(raw, how.top, outcome.logit, outcome, s.best + blockIdx.x * kSampleBest);
  }
  if (threadIdx.x == 0) s.outcomes[blockIdx.x] = outcome;
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/sample.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>

#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

void SampleBatch::add(const SamplingParams& p, const std::vector<int32_t>& tokens, int32_t generated, int32_t output,
                      const std::vector<int32_t>& eos_token_ids) {
  const auto known = [&](int32_t token) { return token >= 0 && token < vocab_; };
  SampleRow row{};
  row.seed = p.seed + static_cast<uint64_t>(output);
  row.index = static_cast<uint64_t>(generated);
  row.top_p = static_cast<double>(p.top_p);
  row.scale = p.temperature < 1e-5f ? 0.f : 1.f / p.temperature;
  row.min_p = p.min_p;
  row.top_k = std::max(p.top_k, 0);
  row.top = std::min(p.logprobs, kSampleBest);
  row.edits[0] = static_cast<int>(edits_.size());
  row.allowed[0] = static_cast<int>(allowed_.size());
  row.restricted = p.allowed_token_ids.empty() ? 0 : 1;
  const auto edit = [&](int32_t token, SampleEdit::Kind kind, float value) {
    if (known(token)) edits_.push_back({token, kind, value});
  };
  if (p.repetition_penalty != 1.f) {
    std::vector<int32_t> once = tokens;  // prompt and answer count once together
    std::sort(once.begin(), once.end());
    once.erase(std::unique(once.begin(), once.end()), once.end());
    for (int32_t token : once) edit(token, SampleEdit::kRepetition, p.repetition_penalty);
  }
  if (p.frequency_penalty != 0.f || p.presence_penalty != 0.f) {
    std::map<int32_t, int32_t> counts;
    for (auto token = tokens.end() - generated; token != tokens.end(); ++token) counts[*token]++;
    for (auto [token, count] : counts)
      edit(token, SampleEdit::kMinus, p.frequency_penalty * count + p.presence_penalty);
  }
  for (auto [token, bias] : p.logit_bias) edit(token, SampleEdit::kPlus, bias);
  for (const std::vector<int32_t>& word : p.bad_words_ids) {
    const auto prefix = static_cast<std::ptrdiff_t>(word.size()) - 1;
    if (prefix >= 0 && generated >= prefix && std::equal(word.begin(), word.end() - 1, tokens.end() - prefix))
      edit(word.back(), SampleEdit::kMask, 0);
  }
  if (generated < p.min_tokens) {
    for (int32_t token : p.stop_token_ids) edit(token, SampleEdit::kMask, 0);
    for (int32_t token : eos_token_ids) edit(token, SampleEdit::kMask, 0);
  }
  std::stable_sort(edits_.begin() + row.edits[0], edits_.end(),
                   [](const SampleEdit& a, const SampleEdit& b) { return a.token < b.token; });
  std::copy_if(p.allowed_token_ids.begin(), p.allowed_token_ids.end(), std::back_inserter(allowed_), known);
  std::sort(allowed_.begin() + row.allowed[0], allowed_.end());
  allowed_.erase(std::unique(allowed_.begin() + row.allowed[0], allowed_.end()), allowed_.end());
  row.edits[1] = static_cast<int>(edits_.size());
  row.allowed[1] = static_cast<int>(allowed_.size());
  rows_.push_back(row);
}

void sample(const Sample& sample, int rows) {
  constexpr int kChunk = 256, kMostShared = 96 * 1024;  // an RTX 4090 has 99 KiB for a block
  const int bytes = (sample.vocab + kChunk - 1) / kChunk * 16;
  if (bytes > kMostShared)
    throw Error("ERR_SHAPE", "Expected at most " + std::to_string(kMostShared / 16 * kChunk) +
                                 " tokens for sampling on CUDA but received " + std::to_string(sample.vocab));
  launch("sample", "sample", {static_cast<uint32_t>(rows)}, {kSampleThreads}, static_cast<size_t>(bytes), sample);
}

SampleResult result_of(const SampleOutcome& outcome, const SampleBest* best) {
  if (outcome.fault != SampleOutcome::kNone)
    throw Error("ERR_NUMERIC",
                std::string("Expected finite logits but the model produced ") +
                    (outcome.fault == SampleOutcome::kNan ? "NaN" : "infinity"),
                "Load it with dtype 'float32'.");
  const double norm = outcome.max + std::log(outcome.sum);
  SampleResult result{outcome.token, static_cast<float>(outcome.logit - norm), outcome.rank, {}};
  for (int i = 0; i < outcome.best; i++)
    result.top.push_back({best[i].token, static_cast<float>(best[i].logit - norm), i + 1});
  return result;
}

}  // namespace cuda
}  // namespace ocelli
#endif
