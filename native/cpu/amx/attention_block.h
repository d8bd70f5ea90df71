// Attention of a block of pairs in bf16 on AMX: sub-tiles of 16 pairs, whose scores and sums are products of tiles, two
// of them at once: keys and values of a tile come from the second-level cache, for each of them.
//
// Up to 16 pairs are too few to pack keys for: these are the rows of a product then, as they lie in the cache, and
// queries its columns. Each score is the same sum in the same order.
//
// A product's chains go by 32 of k: the sums of its even and of its odd products, added, then added to what earlier
// ones left. What a pair does not see has the weight 0, which changes no chain but the sign of a zero. Where a sum is
// not finite, 0 may have met an infinity: such pairs are taken one by one, with what they do not see cleared.
#pragma once

#include <cmath>

#include "cpu/amx/tiles.h"
#include "cpu/attention_tile.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileK = 32;               // bf16 of k in a tile
constexpr int64_t kScores = kTile + kLanes;  // rows of scores lie in different cache sets
constexpr int64_t kFewAhead = 64;            // positions that are asked for ahead, where pairs are few
constexpr int64_t kAhead = 8;                // rows of queries that are asked for before they are packed

// c [16 R][16 N] = a [16 R][32 steps] times columns [16 column, 16 (column + N)) of `b`: panels of kNR columns by pairs
// of k. Strides in elements. R N is at most 4.
template <int R, int N>
inline void multiply_tiles(const uint16_t* a, int64_t a_stride, const uint16_t* b, int64_t panel, int64_t column,
                           int64_t steps, float* c, int64_t c_stride) {
  const uint16_t* from[N];
  for (int j = 0; j < N; j++) from[j] = b + (column + j) / 2 * panel + (column + j) % 2 * 2 * kLanes;
  before_tile_loads();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; s++) {
    int64_t at = s * kTileK * kNR;
    _tile_loadd(4, a + s * kTileK, a_stride * 2);
    if constexpr (R == 2) {
      _tile_loadd(6, from[0] + at, kNR * 4);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(5, a + kTileRows * a_stride + s * kTileK, a_stride * 2);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (N > 1) {
        _tile_loadd(7, from[1] + at, kNR * 4);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
      }
      continue;
    }
    _tile_loadd(5, from[0] + at, kNR * 4);
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (N > 1) {
      _tile_loadd(6, from[1] + at, kNR * 4);
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (N > 2) {
      _tile_loadd(7, from[2] + at, kNR * 4);
      _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (N > 3) {
      _tile_loadd(5, from[3] + at, kNR * 4);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  _tile_stored(0, c, c_stride * 4);
  if constexpr (N > 1) _tile_stored(1, c + 16, c_stride * 4);
  if constexpr (R == 2) _tile_stored(2, c + kTileRows * c_stride, c_stride * 4);
  if constexpr (R == 2 && N > 1) _tile_stored(3, c + kTileRows * c_stride + 16, c_stride * 4);
  if constexpr (N > 2) _tile_stored(2, c + 32, c_stride * 4);
  if constexpr (N > 3) _tile_stored(3, c + 48, c_stride * 4);
}

// R tiles of rows times any number of tiles of columns from `column` on, four products at once.
template <int R>
inline void multiply_columns(const uint16_t* a, int64_t a_stride, const uint16_t* b, int64_t panel, int64_t column,
                             int64_t columns, int64_t steps, float* c, int64_t c_stride) {
  for (int64_t j = 0; j < columns;) {
    constexpr int kMost = 4 / R;
    int64_t groups = (columns - j + kMost - 1) / kMost;
    int64_t n = (columns - j + groups - 1) / groups;
    with_rows<kMost>(static_cast<int>(n), [&](auto tiles) {
      multiply_tiles<R, decltype(tiles)::value>(a, a_stride, b, panel, column + j, steps, c + j * kLanes, c_stride);
    });
    j += n;
  }
}

// 2^x for x <= 0 within 2^-13.7, which rounding to bf16 hides; 0 for -infinity.
inline Vec rough_exp2(Vec x) {
  Vec r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec p = set1(0.07802452266443369f);
  p = fma(p, r, set1(0.2260671553931279f));
  p = fma(p, r, set1(0.6958335405064483f));
  p = fma(p, r, set1(0.99992521856401f));
  return _mm512_scalef_ps(p, x);
}

// Lane i is what `reduce` makes of vector i.
template <class Reduce>
inline Vec reduce_each(Vec* rows, const Reduce& reduce) {
  transpose(rows);
  for (int n = kLanes / 2; n > 0; n /= 2) {
    for (int i = 0; i < n; i++) rows[i] = reduce(rows[i], rows[i + n]);
  }
  return rows[0];
}

// Element i of vector v comes from element i W + v of W vectors, one behind the other.
template <int W>
inline void take_apart(Vec (&vectors)[W]) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  for (int round = 1; round < W; round *= 2) {
    Vec from[W];
    for (int i = 0; i < W; i++) from[i] = vectors[i];
    for (int i = 0; i < W / 2; i++) {
      vectors[i] = _mm512_permutex2var_ps(from[2 * i], even, from[2 * i + 1]);
      vectors[W / 2 + i] = _mm512_permutex2var_ps(from[2 * i], odd, from[2 * i + 1]);
    }
  }
}

// Keys packed to whole tiles of k.
template <class T>
struct InTiles : Paired<T> {
  static int64_t steps(int64_t dk) { return padded(dk, kTileK) / 2; }
};

template <class T>
struct TileBlock : Packed<InTiles<T>> {
  using Base = Packed<InTiles<T>>;
  using typename Base::Source;
  using Base::count;
  using Base::rows;
  using Base::shape;
  using Base::state;
  using Base::work;

  int64_t width() const { return padded(shape.dk, kTileK); }
  uint16_t* queries_of(int64_t begin) const { return reinterpret_cast<uint16_t*>(work.queries) + begin * width(); }
  uint16_t* weights() const { return this->weights_of(0); }

  // Whether keys are multiplied as they lie: where these are whole tiles of bf16.
  bool few() const {
    return std::is_same_v<Source, uint16_t> && count <= kTileRows && shape.dk % kTileK == 0;
  }

  // Dimensions [d, d + kTileK) of query r, its sign that of the scale; zeros where there are none.
  __m512i query(int64_t r, int64_t d) const {
    Vec sign = set1(shape.scale < 0 ? -1.f : 1.f);
    Vec q[2] = {zero(), zero()};
    for (int64_t i = 0; i < 2 && r < count; i++) {
      int64_t at = d + i * kLanes;
      int64_t left = shape.dk - at < kLanes ? shape.dk - at : kLanes;
      if (left > 0) q[i] = load_n(rows[r].q + at, static_cast<int>(left)) * sign;
    }
    return (__m512i)_mm512_cvtne2ps_pbh(q[1], q[0]);
  }

  // Rows of queries, up to a whole tile.
  void pack_queries() const {
    for (int64_t r = 0; r < padded(count, kTileRows); r++) {
      for (int64_t d = 0; d < shape.dk && r + kAhead < count; d += kLanes) __builtin_prefetch(rows[r + kAhead].q + d);
      for (int64_t d = 0; d < width(); d += kTileK) _mm512_storeu_si512(queries_of(r) + d, query(r, d));
    }
  }

  // Columns of queries: [width / 2][kTileRows] pairs of dimensions.
  void pack_query_columns() const {
    for (int64_t d = 0; d < width(); d += kTileK) {
      Vec block[kLanes];
      for (int64_t r = 0; r < kLanes; r++) block[r] = from_bits(query(r, d));
      transpose(block);
      for (int64_t i = 0; i < kLanes; i++)
        _mm512_storeu_si512(queries_of(0) + (d / 2 + i) * 2 * kTileRows, bits(block[i]));
    }
  }

  // What `n` pairs from `begin` on see of the tile: positions [lo, hi).
  struct Seen {
    int64_t lo[kSubTile];
    int64_t hi[kSubTile];
    int64_t first = kTile;  // whole steps of k that hold all of it
    int64_t last = 0;
  };

  Seen seen_of(int64_t begin, int64_t n, int64_t origin) const {
    Seen seen;
    for (int64_t i = 0; i < n; i++) {
      seen.lo[i] = clamp(rows[begin + i].lo - origin);
      seen.hi[i] = clamp(rows[begin + i].hi - origin);
      if (seen.lo[i] >= seen.hi[i]) seen.lo[i] = seen.hi[i] = 0;
      if (seen.lo[i] >= seen.hi[i]) continue;
      seen.first = seen.lo[i] < seen.first ? seen.lo[i] : seen.first;
      seen.last = seen.hi[i] > seen.last ? seen.hi[i] : seen.last;
    }
    seen.first = seen.first / kTileK * kTileK;
    seen.last = padded(seen.last, kTileK);
    return seen;
  }

  // kTileRows keys from position j of the tile on: where they lie, or a copy, with zeros for those that are not there.
  struct KeyRows {
    const uint16_t* from;
    int64_t stride;
  };
  KeyRows key_rows(const Place& place, int64_t j) const {
    const Source* const* keys = Base::sources(place.k) + j;
    if (j >= place.begin && j + kTileRows <= place.end) {
      const auto distance = [&](int64_t i) {
        return static_cast<const char*>(place.k[j + i]) - static_cast<const char*>(place.k[j]);
      };
      bool even = true;
      for (int64_t i = 2; i < kTileRows; i++) even = even && distance(i) == i * distance(1);
      if (even) return {reinterpret_cast<const uint16_t*>(keys[0]), distance(1) / 2};
    }
    uint16_t* copy = reinterpret_cast<uint16_t*>(work.keys) + j * width();
    for (int64_t i = 0; i < kTileRows; i++) {
      if (j + i >= place.begin && j + i < place.end) {
        std::memcpy(copy + i * width(), keys[i], static_cast<size_t>(width() * 2));
      } else {
        std::memset(copy + i * width(), 0, static_cast<size_t>(width() * 2));
      }
    }
    return {copy, width()};
  }

  // Asks for what comes `kFewAhead` positions behind j, of this tile or the next.
  void fetch_behind(Place* place, int64_t j) const {
    if (shape.quantized) return this->fetch(kLanes);  // this tile has been read
    const int64_t at = j + kFewAhead;
    this->fetch_to(place, at);
    if (at > place->end) this->fetch_to(this->next, this->next->begin + at - place->end);
  }

  // Packs values; scores of all pairs, W >= count of them for a position, then turned into rows.
  template <int W>
  void score_by_position(Place* place, const Seen& seen) const {
    for (int64_t j = seen.first; j < seen.last; j += 2 * kTileRows) {
      for (int64_t i = 0; i < 2; i++) {
        fetch_behind(place, j + (i + 1) * kTileRows);
        this->pack_values(*place, j + i * kTileRows);
      }
      const KeyRows low = key_rows(*place, j), high = key_rows(*place, j + kTileRows);
      alignas(64) float scores[2][kTileRows * W];
      before_tile_loads();
      _tile_zero(0);
      _tile_zero(1);
      for (int64_t d = 0; d < width(); d += kTileK) {
        _tile_loadd(7, queries_of(0) + d * kTileRows, kTileRows * 4);
        _tile_loadd(5, low.from + d, low.stride * 2);
        _tile_dpbf16ps(0, 5, 7);
        _tile_loadd(6, high.from + d, high.stride * 2);
        _tile_dpbf16ps(1, 6, 7);
      }
      _tile_stored(0, scores[0], W * 4);
      _tile_stored(1, scores[1], W * 4);
      for (int64_t i = 0; i < 2; i++) {
        Vec pairs[W];
        for (int64_t w = 0; w < W; w++) pairs[w] = load(scores[i] + w * kLanes);
        take_apart(pairs);
        for (int64_t w = 0; w < count; w++) store(work.scores + w * kScores + j + i * kTileRows, pairs[w]);
      }
    }
  }

  void score_by_position(TileRegisters& registers, Place* place, const Seen& seen) const {
    const int bytes = count > 8 ? 64 : count > 4 ? 32 : count > 2 ? 16 : static_cast<int>(count) * 4;
    for (int tile : {0, 1}) registers.size(tile, kTileRows, bytes);
    for (int tile : {5, 6}) registers.size(tile, kTileRows, kTileK * 2);
    registers.size(7, kTileRows, bytes).apply();
    if (bytes == 4) score_by_position<1>(place, seen);
    if (bytes == 8) score_by_position<2>(place, seen);
    if (bytes == 16) score_by_position<4>(place, seen);
    if (bytes == 32) score_by_position<8>(place, seen);
    if (bytes == 64) score_by_position<16>(place, seen);
    complete_values(place->begin, place->end);
    size_tiles(registers);
  }

  // Zeros in values beside those of [begin, end) up to whole steps of k.
  void complete_values(int64_t begin, int64_t end) const {
    for (int64_t panel = 0; panel * kNR < shape.dv; panel++) {
      uint16_t* values = this->values_of(panel);
      int64_t from = begin / kTileK * kTileK;
      int64_t last = padded(end, 2);
      std::memset(values + from * kNR, 0, (begin / 2 * 2 - from) * kNR * 2);
      std::memset(values + last * kNR, 0, (padded(end, kTileK) - last) * kNR * 2);
    }
  }

  // multiply_columns() for `n` pairs.
  template <class... Arguments>
  static void multiply(int64_t n, Arguments... arguments) {
    if (n > kTileRows) return multiply_columns<2>(arguments...);
    multiply_columns<1>(arguments...);
  }

  void score(int64_t begin, int64_t n, const Seen& seen) const {
    multiply(n, queries_of(begin), width(), this->keys_of(0), this->key_panel(), seen.first / kLanes,
             (seen.last - seen.first) / kLanes, width() / kTileK, work.scores + seen.first, kScores);
  }

  // Caps the scores of `n` pairs, and takes out those that a pair does not see.
  void hide(int64_t n, const Seen& seen) const {
    Vec factor = set1(std::fabs(shape.scale) / shape.softcap);
    for (int64_t i = 0; i < n; i++) {
      float* scores = work.scores + i * kScores;
      if (shape.softcap > 0) {
        for (int64_t j = seen.first; j < seen.last; j += kLanes)
          store(scores + j, tanh(load(scores + j) * factor) * set1(shape.softcap));
      }
      for (int64_t j = seen.first; j < seen.lo[i]; j++) scores[j] = -__builtin_inff();
      for (int64_t j = seen.hi[i]; j < seen.last; j++) scores[j] = -__builtin_inff();
    }
  }

  // Scores of pairs [begin, begin + n), n <= kTileRows, become weights 2^(factor s - m) in bf16; m and l of the tile for
  // each pair.
  void soften(int64_t begin, int64_t n, const Seen& seen, Vec* m, Vec* l) const {
    Vec rows[kTileRows];
    for (int64_t i = 0; i < n; i++) {
      const float* scores = work.scores + (begin + i) * kScores;
      Vec most[2] = {load(scores + seen.first), load(scores + seen.first + kLanes)};
      for (int64_t j = seen.first + kTileK; j < seen.last; j += kTileK) {
        most[0] = max(most[0], load(scores + j));
        most[1] = max(most[1], load(scores + j + kLanes));
      }
      rows[i] = max(most[0], most[1]);
    }
    for (int64_t i = n; i < kTileRows; i++) rows[i] = zero();
    Vec factor = set1((shape.softcap > 0 ? 1.f : std::fabs(shape.scale)) * kLog2E);
    *m = reduce_each(rows, [](Vec a, Vec b) { return max(a, b); }) * factor;
    // Where there is nothing to weigh, scores are -infinity, and nothing may be taken from them.
    float least[kTileRows];
    store(least, max(*m, set1(-3e38f)));
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int64_t i = 0; i < n; i++) {
      const float* scores = work.scores + (begin + i) * kScores;
      uint16_t* to = this->weights_of(begin + i);
      Vec less = set1(0.f - least[i]);
      Vec sums = zero();
      for (int64_t j = seen.first; j < seen.last; j += kTileK) {
        Vec low = rough_exp2(fma(load(scores + j), factor, less));
        Vec high = rough_exp2(fma(load(scores + j + kLanes), factor, less));
        __m512bh pairs = _mm512_cvtne2ps_pbh(high, low);
        _mm512_storeu_si512(to + j, (__m512i)pairs);
        sums = _mm512_dpbf16_ps(sums, pairs, ones);
      }
      rows[i] = sums;
      if (!few()) this->fetch(1);
    }
    for (int64_t i = n; i < kTileRows; i++) rows[i] = zero();
    *l = reduce_each(rows, [](Vec a, Vec b) { return a + b; });
  }

  // Sums of all pairs.
  void weigh(int64_t n, const uint16_t* values, const Seen& seen) const {
    multiply(n, weights() + seen.first, kTile, values + seen.first * kNR, kTile * kNR, 0,
             padded(shape.dv, kLanes) / kLanes, (seen.last - seen.first) / kTileK, work.sums, padded(shape.dv, kNR));
  }

  void step(TileRegisters& registers, Place* place, int64_t begin, int64_t n, int64_t origin) const {
    Seen seen = seen_of(begin, n, origin);
    if (seen.first >= seen.last) return;
    if (few()) {
      score_by_position(registers, place, seen);
    } else {
      score(begin, n, seen);
    }
    hide(n, seen);
    float most[kSubTile], sum[kSubTile];
    for (int64_t i = 0; i < n; i += kTileRows) {
      Vec m, l;
      soften(i, n - i < kTileRows ? n - i : kTileRows, seen, &m, &l);
      store(most + i, m);
      store(sum + i, l);
    }
    weigh(n, this->values_of(0), seen);
    bool alone = false;  // from the first pair on that took up a number that is not finite
    for (int64_t i = 0; i < n; i++) {
      if (seen.lo[i] >= seen.hi[i]) continue;
      alone = alone || !finite(i);
      if (alone) weigh_alone(i, n, seen);
      float keep, add;
      bool fresh = state[begin + i].empty;
      join(&state[begin + i], {most[i], sum[i], false}, &keep, &add);
      int64_t width = padded(shape.dv, kNR);
      merge(this->output_of(begin + i), work.sums + i * width, padded(shape.dv, kLanes), keep, add, fresh);
    }
  }

  // Whether pair i's sums are.
  bool finite(int64_t i) const {
    const float* sums = work.sums + i * padded(shape.dv, kNR);
    Vec differences = zero();  // NaN as soon as one is not
    for (int64_t d = 0; d < padded(shape.dv, kLanes); d += kLanes) {
      Vec v = load(sums + d);
      differences = differences + (v - v);
    }
    return is_nan(differences) == 0;
  }

  // Sums of pair i (in its row), what it does not see cleared in a copy of the values behind them.
  void weigh_alone(int64_t i, int64_t n, const Seen& seen) const {
    uint16_t* copy = this->values_of(padded(shape.dv, kNR) / kNR);
    for (int64_t panel = 0; panel * kNR < shape.dv; panel++) {
      uint16_t* to = copy + panel * kTile * kNR;
      std::memcpy(to, this->values_of(panel), kTile * kNR * 2);
      for (int64_t j = seen.first; j < seen.last; j++) {
        if (j >= seen.lo[i] && j < seen.hi[i]) continue;
        for (int64_t column = 0; column < kNR; column++) to[(j / 2 * kNR + column) * 2 + j % 2] = 0;
      }
    }
    weigh(n, copy, seen);
  }

  // Sums and one factor of as many rows as there are pairs: the fewer, the sooner a product is done.
  void size_tiles(TileRegisters& registers) const {
    const int64_t height = count < kTileRows ? count : kTileRows;
    for (int tile = 0; tile < 5; tile++) registers.size(tile, static_cast<int>(height), kTileK * 2);
    for (int tile = 5; tile < 8; tile++) registers.size(tile, kTileRows, kTileK * 2);
    registers.apply();
  }

  void run(const AttentionTasks& tasks, int64_t task, int64_t first, int64_t last) {
    TileRegisters registers;
    size_tiles(registers);
    if (few()) {
      pack_query_columns();
    } else {
      pack_queries();
    }
    this->each_tile(tasks, task, first, last, [&](Place& place, int64_t origin) {
      if (!few()) {
        this->pack_keys(place);
        this->pack_values(place);
        complete_values(place.begin, place.end);
      }
      for (int64_t begin = 0; begin < count; begin += kSubTile)
        step(registers, &place, begin, count - begin < kSubTile ? count - begin : kSubTile, origin);
    });
  }
};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
