// Attention of a block of (row, head) pairs that share keys and values, tile by tile of kKvTile positions.
//
// For each tile keys are packed as the columns of linear's micro-kernel and values as its rows. Then per sub-tile of
// kMR pairs: scores, softmax over the tile (m, l), the product with the values (o), and the merge of (m, l, o) into
// what earlier tiles left. A pair's chain runs over its own positions only, in ascending order, and its sum of weights
// over lanes by absolute position: which pairs are its neighbours, and how a prompt was cut, leaves no trace in its
// bits. Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
//
// Keys and values of f32 are multiplied in f32. Those of bf16, or rounded to it, are too, but where the set multiplies
// bf16 by bf16: there queries and weights are rounded to bf16, as linear rounds activations, and the weights' sum is that
// of the rounded ones.
#pragma once

#include "core/step.h"
#include "cpu/attention.h"
#include "cpu/dot.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t kTile = kKvTile;
constexpr float kLog2E = 1.44269504f;

// A worker's memory, cut from its scratch. Sizes are those of f32, whatever lies there.
struct Work {
  float* keys;     // [kTile / kNR][dk steps][kNR][kStep]
  float* values;   // [dv / kNR][kTile steps][kNR][kStep]
  float* queries;  // [sub-tile][dk steps][rows][kStep]
  float* scores;   // [kSubTile][kTile]
  float* weights;  // [kSubTile][kTile], of the multiplication's type
  float* sums;     // [kMR][kNR]
  float* widened;  // [2 kTile][dk or dv] of bf16: keys and values of a quantised cache
  size_t bytes = 0;

  // Without scratch only `bytes` is set.
  Work(int64_t dk, int64_t dv, void* scratch) {
    auto take = [&](int64_t n) {
      float* mine = scratch == nullptr ? nullptr : static_cast<float*>(scratch) + bytes / sizeof(float);
      bytes += align64(static_cast<size_t>(n) * sizeof(float));
      return mine;
    };
    keys = take(kTile * padded(dk, kNR));
    values = take(kTile * padded(dv, kNR));
    queries = take(kBlockRows * padded(dk, kNR));
    scores = take(kSubTile * (kTile + kLanes));
    weights = take(kSubTile * kTile);
    sums = take(kSubTile * padded(dv, kNR));
    widened = take(kTile * (padded(dk, kNR) + padded(dv, kNR)) / 2);
  }
};

// How keys, values, queries and weights are multiplied: packing for one kind of micro-kernel. D: what the cache holds.
template <class D>
struct Wide {
  using Kind = Widened<F32>;
  using Source = typename D::T;
  using Weight = float;

  static int64_t steps(int64_t dk) { return dk; }
  // Elements [at, at + kLanes) of a key; zeros behind dk.
  static Vec unit(const Source* key, int64_t at) { return D::load(key + at); }
  static Vec units(const Source* key, int64_t at, int64_t dk) {
    return dk - at >= kLanes ? D::load(key + at) : D::load(key + at, static_cast<int>(dk - at));
  }
  // Rows [j, j + kLanes) of a tile's values, where from `begin` to `end` they are there, into panels of kTile rows.
  static void values(const Source* const* rows, int64_t j, int64_t begin, int64_t end, int64_t dv, float* panels) {
    int64_t last = j + kLanes < end ? j + kLanes : end;
    for (j = j < begin ? begin : j; j < last; j++) {
      float* to = panels + j * kNR;
      for (int64_t d = 0; d < padded(dv, kNR); d += kLanes) {
        int64_t left = dv - d;
        const Source* from = rows[j] + d;
        Vec v = left >= kLanes ? D::load(from) : (left > 0 ? D::load(from, static_cast<int>(left)) : zero());
        store(to + d / kNR * kTile * kNR + d % kNR, v);
      }
    }
  }
  // Stores a weight as it will be multiplied and returns it as it was stored.
  static Vec weight(float* to, Vec p) {
    store(to, p);
    return p;
  }
  // Positions [lo, hi) of one pair against one panel of values; the chain goes on in `sums`.
  static void product(const float* weights, const float* panel, int64_t lo, int64_t hi, float* sums) {
    if (lo < hi) multiply_tile<Kind, 1, 1, 1, 1, kNR, true, false>(weights + lo, panel + lo * kNR, 0, hi - lo, 0, sums);
  }
};

#if defined(OCELLI_ISA_avx512)
// 32 numbers as bf16 holds them; of which `left` are there.
inline __m512i narrow(const uint16_t* from) { return _mm512_loadu_si512(from); }
inline __m512i narrow(const float* from) { return bits(Pairs::units(from, 32)); }
inline __m512i narrow(const uint16_t* from, int64_t left) {
  if (left >= 32) return _mm512_loadu_si512(from);
  return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ull << left) - 1), from);
}
inline __m512i narrow(const float* from, int64_t left) { return bits(Pairs::units(from, left)); }

// bf16 by pairs: of dimensions for scores, of positions for values.
template <class T>
struct Paired {
  using Kind = Pairs;
  using Source = T;
  using Weight = uint16_t;

  static int64_t steps(int64_t dk) { return (dk + 1) / 2; }
  static Vec unit(const T* key, int64_t at) { return from_bits(narrow(key + 2 * at, 32)); }
  static Vec units(const T* key, int64_t at, int64_t dk) { return from_bits(narrow(key + 2 * at, dk - 2 * at)); }
  // Rows side by side by twos; where one of two is not there, zeros.
  static void values(const T* const* rows, int64_t j, int64_t begin, int64_t end, int64_t dv, uint16_t* panels) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    const auto pair = [&](__m512i first, __m512i second, uint16_t* to) {
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(first, low, second));
      _mm512_storeu_si512(to + kNR, _mm512_permutex2var_epi16(first, high, second));
    };
    if (j >= begin && j + kLanes <= end && dv % kNR == 0) {
      for (int64_t d = 0; d < dv; d += kNR) {
        for (int64_t i = j; i < j + kLanes; i += 2)
          pair(narrow(rows[i] + d), narrow(rows[i + 1] + d), panels + d * kTile + i * kNR);
      }
      return;
    }
    int64_t last = j + kLanes < end ? j + kLanes : end;
    for (; j < last; j += 2) {
      if (j + 1 < begin) continue;
      for (int64_t d = 0; d < dv; d += kNR) {
        __m512i first = j >= begin ? narrow(rows[j] + d, dv - d) : _mm512_setzero_si512();
        __m512i second = j + 1 < end ? narrow(rows[j + 1] + d, dv - d) : _mm512_setzero_si512();
        pair(first, second, panels + d * kTile + j * kNR);
      }
    }
  }
  static Vec weight(uint16_t* to, Vec p) {
    __m256i half = (__m256i)_mm512_cvtneps_pbh(p);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), half);
    return from_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  // Half a pair: the other row may hold anything and takes no part.
  static void half(const uint16_t* weights, const uint16_t* panel, int64_t j, float* sums) {
    int32_t mask = j % 2 == 0 ? 0xffff : static_cast<int32_t>(0xffff0000);
    const uint16_t* at = panel + j / 2 * 2 * kNR;
    int32_t pair;
    std::memcpy(&pair, weights + j / 2 * 2, 4);
    __m512bh row = (__m512bh)_mm512_set1_epi32(pair & mask);
    for (int i = 0; i < 2; i++) {
      __m512i column = _mm512_and_si512(_mm512_loadu_si512(at + i * 32), _mm512_set1_epi32(mask));
      store(sums + i * kLanes, _mm512_dpbf16_ps(load(sums + i * kLanes), (__m512bh)column, row));
    }
  }
  static void product(const uint16_t* weights, const uint16_t* panel, int64_t lo, int64_t hi, float* sums) {
    if (lo >= hi) return;
    if (lo % 2 != 0) half(weights, panel, lo++, sums);
    int64_t whole = hi / 2 * 2;
    if (lo < whole)
      multiply_tile<Kind, 1, 1, 2, 2, kNR, true, false>(weights + lo, panel + lo * kNR, 0, (whole - lo) / 2, 0, sums);
    if (hi > whole && hi > lo) half(weights, panel, whole, sums);
  }
};
#endif

// Where a tile's keys and values lie: begin <= position < end within the tile.
struct Place {
  const void* k[kTile];
  const void* v[kTile];
  int64_t begin = 0;
  int64_t end = 0;
  int64_t fetched = 0;

  // Asks for positions up to `last`, while earlier ones are computed with: their reads then overlap with arithmetic.
  void fetch_to(int64_t last, int64_t bytes_k, int64_t bytes_v) {
    for (; fetched < last && fetched < end; fetched++) {
      for (int64_t at = 0; at < bytes_k; at += 64) __builtin_prefetch(static_cast<const char*>(k[fetched]) + at, 0, 2);
      for (int64_t at = 0; at < bytes_v; at += 64) __builtin_prefetch(static_cast<const char*>(v[fetched]) + at, 0, 2);
    }
  }
};

// What one pair has gathered so far, in powers of two.
struct State {
  float m = 0;
  float l = 0;
  bool empty = true;
};

// What the running state and a tile's are multiplied with to become one; the state's own m and l become those of
// both.
inline void join(State* running, const State& tile, float* keep, float* add) {
  if (running->empty) {
    *running = tile;
    *keep = 0;
    *add = 1;
    return;
  }
  float top = tile.m > running->m || tile.m != tile.m ? tile.m : running->m;
  alignas(64) float powers[2 * kLanes];
  store(powers, exp2_weight(set1(running->m - top)));
  store(powers + kLanes, exp2_weight(set1(tile.m - top)));
  *keep = powers[0];
  *add = powers[kLanes];
  running->l = running->l * *keep + tile.l * *add;
  running->m = top;
}

// The second half of a join: `width` numbers of o, of the running output and of the tile's.
inline void merge(float* to, const float* tile, int64_t width, float keep, float add, bool fresh) {
  for (int64_t j = 0; j < width; j += kLanes) {
    Vec o = load(tile + j);
    store(to + j, fresh ? o : fma(o, set1(add), load(to + j) * set1(keep)));
  }
}

// What a block's rows see between them.
struct Range {
  int64_t lo = INT64_MAX;
  int64_t hi = 0;
  int64_t first_tile() const { return lo < hi ? lo / kTile : 0; }
  int64_t last_tile() const { return lo < hi ? (hi + kTile - 1) / kTile : 0; }
};

inline Range range_of(const AttentionRow* rows, int64_t count) {
  Range range;
  for (int64_t r = 0; r < count; r++) {
    if (rows[r].lo >= rows[r].hi) continue;
    range.lo = rows[r].lo < range.lo ? rows[r].lo : range.lo;
    range.hi = rows[r].hi > range.hi ? rows[r].hi : range.hi;
  }
  return range;
}

// A position as one of the tile's, or its border.
inline int64_t clamp(int64_t position) { return position < 0 ? 0 : (position > kTile ? kTile : position); }

// A block's keys and values, tile by tile: where they lie, and how they are packed.
template <class Mode>
struct Packed {
  using Kind = typename Mode::Kind;
  using A = typename Kind::A;
  using B = typename Kind::B;
  using Source = typename Mode::Source;
  static constexpr int kStep = Kind::kStep;

  const AttentionShape& shape;
  const AttentionRow* rows;
  int64_t count;
  const Work& work;
  State* state;   // [count]
  float* output;  // [count][padded dv]
  size_t apart;   // bytes from one tile's state and output to those of the next; 0: tiles add up
  Place* next;    // the tile after the current one

  int64_t key_panel() const { return Mode::steps(shape.dk) * kStep * kNR; }
  const B* keys_of(int64_t panel) const { return reinterpret_cast<const B*>(work.keys) + panel * key_panel(); }
  B* values_of(int64_t panel) const { return reinterpret_cast<B*>(work.values) + panel * kTile * kNR; }
  A* weights_of(int64_t i) const { return reinterpret_cast<A*>(work.weights) + i * kTile; }
  float* output_of(int64_t row) const { return output + row * padded(shape.dv, kNR); }

  // Positions of the next tile that are asked for as kLanes keys or values are packed: most of them, since few rows leave
  // little else to do, and the rest beside arithmetic.
  static constexpr int64_t kFetched = kLanes * 2 / 5;
  void fetch_to(Place* place, int64_t last) const {
    place->fetch_to(last, shape.dk * sizeof(Source), shape.dv * sizeof(Source));
  }
  // Asks for `n` positions of the next tile.
  void fetch(int64_t n) const { fetch_to(next, next->fetched + n); }

  static const Source* const* sources(const void* const* rows) { return reinterpret_cast<const Source* const*>(rows); }

  void pack_keys(const Place& place) const {
    const Source* const* keys = sources(place.k);
    const int64_t begin = place.begin, end = place.end;
    int64_t steps = Mode::steps(shape.dk);
    for (int64_t j = begin / kLanes * kLanes; j < end; j += kLanes) {
      fetch(kFetched);
      bool whole = j >= begin && j + kLanes <= end;
      B* to = reinterpret_cast<B*>(work.keys) + j / kNR * key_panel() + j % kNR * kStep;
      for (int64_t u = 0; u < steps; u += kLanes) {
        Vec block[kLanes];
        if (whole && (u + kLanes) * kStep <= shape.dk) {
          for (int i = 0; i < kLanes; i++) block[i] = Mode::unit(keys[j + i], u);
          transpose(block);
          for (int i = 0; i < kLanes; i++) store(reinterpret_cast<float*>(to + (u + i) * kNR * kStep), block[i]);
          continue;
        }
        for (int i = 0; i < kLanes; i++) {
          bool there = j + i >= begin && j + i < end;
          block[i] = there ? Mode::units(keys[j + i], u, shape.dk) : zero();
        }
        transpose(block);
        for (int64_t i = 0; i < kLanes && u + i < steps; i++)
          store(reinterpret_cast<float*>(to + (u + i) * kNR * kStep), block[i]);
      }
    }
  }

  // kLanes of them from position j on.
  void pack_values(const Place& place, int64_t j) const {
    Mode::values(sources(place.v), j, place.begin, place.end, shape.dv, values_of(0));
  }
  void pack_values(const Place& place) const {
    for (int64_t j = place.begin / kLanes * kLanes; j < place.end; j += kLanes) {
      fetch(kFetched);
      pack_values(place, j);
    }
  }

  // Rows [begin, end) of a quantised cache as bf16 in `to`, which they are found at from then on.
  void widen(const void** rows, int64_t begin, int64_t end, int64_t width, uint16_t* to) const {
    for (int64_t j = begin; j < end; j++, to += padded(width, kNR)) {
      float scale;
      std::memcpy(&scale, rows[j], kKvScaleBytes);
      const int8_t* q = static_cast<const int8_t*>(rows[j]) + kKvScaleBytes;
      int64_t d = 0;
      for (; d + kLanes <= width; d += kLanes) store_bf16(to + d, to_float(load_i8(q + d)) * set1(scale));
      if (d < width) {
        int8_t rest[kLanes] = {};
        std::memcpy(rest, q + d, static_cast<size_t>(width - d));
        store_bf16(to + d, to_float(load_i8(rest)) * set1(scale));
      }
      rows[j] = to;
    }
  }

  // body(place, origin) for each of the tiles from `first` to `last`, of which rows see something.
  template <class Body>
  void each_tile(const AttentionTasks& tasks, int64_t task, int64_t first, int64_t last, const Body& body) {
    Range seen = range_of(rows, count);
    Place places[2];
    auto locate = [&](Place* place, int64_t tile) {
      int64_t origin = tile * kTile;
      place->begin = place->fetched = clamp(seen.lo - origin);
      place->end = tile < last ? clamp(seen.hi - origin) : 0;
      if (place->begin < place->end)
        tasks.locate(task, origin + place->begin, origin + place->end, place->k + place->begin,
                     place->v + place->begin);
    };
    locate(&places[0], first);
    for (int64_t tile = first; tile < last; tile++) {
      if (tile > first) {
        state = reinterpret_cast<State*>(reinterpret_cast<char*>(state) + apart);
        output = reinterpret_cast<float*>(reinterpret_cast<char*>(output) + apart);
      }
      if (tile == first || apart > 0) {
        for (int64_t r = 0; r < count; r++) state[r] = State();
      }
      Place& now = places[(tile - first) % 2];
      next = &places[(tile - first + 1) % 2];
      locate(next, tile + 1);
      if (shape.quantized) {
        uint16_t* const keys = reinterpret_cast<uint16_t*>(work.widened);
        widen(now.k, now.begin, now.end, shape.dk, keys);
        widen(now.v, now.begin, now.end, shape.dv, keys + kTile * padded(shape.dk, kNR));
      }
      if (now.begin < now.end) body(now, tile * kTile);
    }
  }
};

// By linear's micro-kernel: sub-tiles of kMR pairs.
template <class Mode>
struct Block : Packed<Mode> {
  using Base = Packed<Mode>;
  using typename Base::A;
  using typename Base::B;
  using typename Base::Kind;
  using Base::count;
  using Base::kStep;
  using Base::rows;
  using Base::shape;
  using Base::state;
  using Base::work;

  int64_t tiles() const { return (count + kMR - 1) / kMR; }
  int64_t begin_of(int64_t tile) const {
    int64_t extra = count % tiles();
    return tile * (count / tiles()) + (tile < extra ? tile : extra);
  }
  A* queries_of(int64_t begin) const {
    return reinterpret_cast<A*>(work.queries) + begin * Mode::steps(shape.dk) * kStep;
  }

  void pack_queries() const {
    for (int64_t t = 0; t < tiles(); t++) {
      int64_t begin = begin_of(t);
      int mr = static_cast<int>(begin_of(t + 1) - begin);
      pack_tile<Kind>(
          mr, shape.dk, [&](int i) { return rows[begin + i].q; }, queries_of(begin));
    }
  }

  // An equal share of the next tile for each piece of work that a sub-tile is.
  template <int MR>
  void fetch_piece() const {
    int64_t pieces = kTile / kNR + MR + padded(shape.dv, kNR) / kNR;
    this->fetch(kTile / pieces + 1);
  }

  // Scores of `MR` pairs against the panels that hold positions [first, last) of the tile, into work.scores.
  template <int MR>
  void score(int64_t begin, int64_t first, int64_t last) const {
    for (int64_t panel = first / kNR; panel * kNR < last; panel++) {
      multiply_tile<Kind, MR, 1, MR * kStep, kStep, kTile, false, false>(
          queries_of(begin), this->keys_of(panel), 0, Mode::steps(shape.dk), 0,
          work.scores + panel * kNR);
      fetch_piece<MR>();
    }
    if (shape.softcap <= 0) return;
    Vec factor = set1(shape.scale / shape.softcap);
    for (int i = 0; i < MR; i++) {
      for (int64_t j = first / kNR * kNR; j < last; j += kLanes) {
        float* at = work.scores + i * kTile + j;
        store(at, tanh(load(at) * factor) * set1(shape.softcap));
      }
    }
  }

  // Scores of positions [lo, hi) of pair i become weights 2^(factor s - m); sets m and l of the tile.
  void soften(int64_t i, int64_t lo, int64_t hi, State* tile) const {
    float* scores = work.scores + i * kTile;
    A* weights = this->weights_of(i);
    int64_t first = lo / kLanes * kLanes;
    int64_t last = padded(hi, kLanes);
    float scale = (shape.softcap > 0 ? 1.f : shape.scale) * kLog2E;
    // What lies outside never weighs anything: it is the least of all numbers under a scale of either sign.
    float least = scale < 0 ? __builtin_inff() : -__builtin_inff();
    for (int64_t j = first; j < lo; j++) scores[j] = least;
    for (int64_t j = hi; j < last; j++) scores[j] = least;
    Vec factor = set1(scale);
    Vec most = load(scores + first) * factor;
    for (int64_t j = first + kLanes; j < last; j += kLanes) most = max(most, load(scores + j) * factor);
    tile->m = largest(most);
    Vec m = set1(0.f - tile->m);
    Vec sums = zero();
    for (int64_t j = first; j < last; j += kLanes) {
      sums = sums + Mode::weight(weights + j, exp2_weight(fma(load(scores + j), factor, m)));
    }
    tile->l = sum(sums);
    tile->empty = false;
  }

  // One sub-tile of pairs against the tile of positions [origin, origin + kTile).
  template <int MR>
  __attribute__((noinline)) void step(int64_t begin, int64_t origin) {
    int64_t lo[MR];
    int64_t hi[MR];
    int64_t first = kTile;
    int64_t last = 0;
    int64_t common_lo = 0;
    int64_t common_hi = kTile;
    for (int i = 0; i < MR; i++) {
      lo[i] = clamp(rows[begin + i].lo - origin);
      hi[i] = clamp(rows[begin + i].hi - origin);
      common_lo = lo[i] > common_lo ? lo[i] : common_lo;
      common_hi = hi[i] < common_hi ? hi[i] : common_hi;
      if (lo[i] >= hi[i]) continue;
      first = lo[i] < first ? lo[i] : first;
      last = hi[i] > last ? hi[i] : last;
    }
    if (first >= last) return;
    score<MR>(begin, first, last);
    float keep[MR];
    float add[MR];
    bool fresh[MR];
    for (int i = 0; i < MR; i++) {
      if (lo[i] >= hi[i]) continue;
      State tile;
      soften(i, lo[i], hi[i], &tile);
      fetch_piece<MR>();
      fresh[i] = state[begin + i].empty;
      join(&state[begin + i], tile, &keep[i], &add[i]);
    }
    // Whole steps that all pairs take together.
    common_lo = padded(common_lo, kStep);
    common_hi = common_hi / kStep * kStep;
    bool shared = common_lo < common_hi;
    for (int64_t panel = 0; panel * kNR < shape.dv; panel++) {
      const B* values = this->values_of(panel);
      for (int i = 0; i < MR * kNR; i += kLanes) store(work.sums + i, zero());
      for (int i = 0; i < MR; i++)
        Mode::product(this->weights_of(i), values, lo[i], shared ? common_lo : hi[i], work.sums + i * kNR);
      if (shared) {
        multiply_tile<Kind, MR, 1, kStep, kTile, kNR, true, false>(this->weights_of(0) + common_lo,
                                                                   values + common_lo * kNR, 0,
                                                                   (common_hi - common_lo) / kStep, 0, work.sums);
        for (int i = 0; i < MR; i++) Mode::product(this->weights_of(i), values, common_hi, hi[i], work.sums + i * kNR);
      }
      fetch_piece<MR>();
      for (int i = 0; i < MR; i++) {
        if (lo[i] < hi[i])
          merge(this->output_of(begin + i) + panel * kNR, work.sums + i * kNR, kNR, keep[i], add[i], fresh[i]);
      }
    }
  }

  void run(const AttentionTasks& tasks, int64_t task, int64_t first, int64_t last) {
    pack_queries();
    this->each_tile(tasks, task, first, last, [&](const Place& place, int64_t origin) {
      this->pack_keys(place);
      this->pack_values(place);
      for (int64_t t = 0; t < tiles(); t++) {
        with_rows(static_cast<int>(begin_of(t + 1) - begin_of(t)),
                  [&](auto mr) { step<decltype(mr)::value>(begin_of(t), origin); });
      }
    });
  }
};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
