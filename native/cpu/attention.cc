// Attention of a block of (row, head) pairs that share keys and values, tile by tile of kKvTile positions.
//
// For each tile keys are packed as the columns of linear's micro-kernel and values as its rows, both widened to f32.
// Then per sub-tile of kMR pairs: scores, softmax over the tile (m, l), the product with the values (o), and the merge
// of (m, l, o) into what earlier tiles left. A pair's chain runs over its own positions only, in ascending order, and
// its sum of weights over lanes by absolute position: which pairs are its neighbours, and how a prompt was cut, leaves
// no trace in its bits. Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
#include "cpu/attention.h"

#include "core/step.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

constexpr int64_t kTile = kKvTile;
constexpr int64_t kPanels = kTile / kNR;
constexpr int64_t kAhead = 512;  // packed tiles lie in the second-level cache

int64_t padded(int64_t width) { return (width + kNR - 1) / kNR * kNR; }

// A worker's memory, cut from its scratch.
struct Work {
  float* keys;     // [kPanels][dk][kNR]
  float* values;   // [dv panels][kTile][kNR]
  float* queries;  // [sub-tile][dk][rows]
  float* output;   // [rows][padded dv]
  float* scores;   // [kMR][kTile]
  float* sums;     // [kMR][kNR]

  Work(const AttentionShape& shape, void* scratch) {
    float* at = static_cast<float*>(scratch);
    auto take = [&](int64_t n) {
      float* mine = at;
      at += (n + 15) / 16 * 16;
      return mine;
    };
    keys = take(kTile * shape.dk);
    values = take(kTile * padded(shape.dv));
    queries = take(kBlockRows * shape.dk);
    output = take(kBlockRows * padded(shape.dv));
    scores = take(kMR * kTile);
    sums = take(kMR * kNR);
  }
};

template <class D>
void pack_keys(const void* const* rows, int64_t begin, int64_t end, int64_t dk, float* out) {
  for (int64_t j = begin; j < end; j++) {
    const typename D::T* from = static_cast<const typename D::T*>(rows[j - begin]);
    float* to = out + j / kNR * dk * kNR + j % kNR;
    for_vectors<D>(from, dk, [&](int64_t d, Vec v, int lanes) {
      float wide[kLanes];
      store(wide, v);
      for (int i = 0; i < lanes; i++) to[(d + i) * kNR] = wide[i];
    });
  }
}

template <class D>
void pack_values(const void* const* rows, int64_t begin, int64_t end, int64_t dv, float* out) {
  for (int64_t j = begin; j < end; j++) {
    const typename D::T* from = static_cast<const typename D::T*>(rows[j - begin]);
    for_vectors<D>(from, dv, [&](int64_t d, Vec v, int) { store(out + (d / kNR * kTile + j) * kNR + d % kNR, v); });
    // What pads the last panel takes part in products whose results nobody reads.
    for (int64_t d = (dv + kLanes - 1) / kLanes * kLanes; d < padded(dv); d += kLanes)
      store(out + (d / kNR * kTile + j) * kNR + d % kNR, zero());
  }
}

// What one pair has gathered so far.
struct State {
  float m;
  float l;
  bool empty;
};

struct Block {
  const AttentionShape& shape;
  const AttentionRow* rows;
  int64_t count;
  Work work;
  State state[kBlockRows];

  int64_t tiles() const { return (count + kMR - 1) / kMR; }
  int64_t begin_of(int64_t tile) const {
    int64_t extra = count % tiles();
    return tile * (count / tiles()) + (tile < extra ? tile : extra);
  }

  void pack_queries() {
    for (int64_t t = 0; t < tiles(); t++) {
      int64_t begin = begin_of(t);
      int64_t mr = begin_of(t + 1) - begin;
      float* to = work.queries + begin * shape.dk;
      for (int64_t i = 0; i < mr; i++) {
        for (int64_t d = 0; d < shape.dk; d++) to[d * mr + i] = rows[begin + i].q[d];
      }
    }
  }

  // Scores of `mr` pairs against panels that hold positions [first, last) of the tile, into work.scores.
  template <int MR>
  void score(int64_t begin, int64_t first, int64_t last) {
    Vec scale = set1(shape.scale);
    for (int64_t panel = first / kNR; panel * kNR < last; panel++) {
      multiply_tile<Widened<F32>, MR, 1, MR, 1>(work.queries + begin * shape.dk, work.keys + panel * shape.dk * kNR, 0,
                                                shape.dk, kAhead, false, work.sums);
      for (int i = 0; i < MR; i++) {
        for (int j = 0; j < kNR; j += kLanes) {
          Vec s = load(work.sums + i * kNR + j) * scale;
          if (shape.softcap > 0) s = tanh(s / set1(shape.softcap)) * set1(shape.softcap);
          store(work.scores + i * kTile + panel * kNR + j, s);
        }
      }
    }
  }

  // Scores of positions [lo, hi) become e^(s - m); returns their largest and their sum.
  static void soften(float* scores, int64_t lo, int64_t hi, float* most, float* total) {
    int64_t first = lo / kLanes * kLanes;
    int64_t last = (hi + kLanes - 1) / kLanes * kLanes;
    for (int64_t j = first; j < lo; j++) scores[j] = -__builtin_inff();
    for (int64_t j = hi; j < last; j++) scores[j] = -__builtin_inff();
    Vec m = load(scores + first);
    for (int64_t j = first + kLanes; j < last; j += kLanes) m = max(m, load(scores + j));
    *most = largest(m);
    m = set1(*most);
    Vec sums = zero();
    for (int64_t j = first; j < last; j += kLanes) {
      Vec p = exp(load(scores + j) - m);
      store(scores + j, p);
      sums = sums + p;
    }
    *total = sum(sums);
  }

  // Positions [lo, hi) of pair i against one panel of values; the chain goes on in `sums`.
  void product_row(int64_t i, const float* panel, int64_t lo, int64_t hi, bool resume, float* sums) const {
    if (lo >= hi && resume) return;
    multiply_tile<Widened<F32>, 1, 1, 1, 1>(work.scores + i * kTile + lo, panel + lo * kNR, 0, hi > lo ? hi - lo : 0,
                                            kAhead, resume, sums);
  }

  void merge(int64_t row, int64_t panel, const float* sums, float keep, float add, bool empty) {
    float* to = work.output + row * padded(shape.dv) + panel * kNR;
    for (int j = 0; j < kNR; j += kLanes) {
      Vec fresh = load(sums + j);
      store(to + j, empty ? fresh : fma(fresh, set1(add), load(to + j) * set1(keep)));
    }
  }

  // One sub-tile of pairs against the tile of positions [origin, origin + kTile).
  template <int MR>
  void step(int64_t begin, int64_t origin) {
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
    bool empty[MR];
    for (int i = 0; i < MR; i++) {
      if (lo[i] >= hi[i]) continue;
      State& mine = state[begin + i];
      float m;
      float l;
      soften(work.scores + i * kTile, lo[i], hi[i], &m, &l);
      empty[i] = mine.empty;
      float top = mine.empty || m > mine.m || m != m ? m : mine.m;
      alignas(64) float factors[2 * kLanes];
      store(factors, exp(set1(mine.m) - set1(top)));
      store(factors + kLanes, exp(set1(m) - set1(top)));
      keep[i] = factors[0];
      add[i] = mine.empty ? 1.f : factors[kLanes];
      mine.l = mine.empty ? l : mine.l * keep[i] + l * add[i];
      mine.m = top;
      mine.empty = false;
    }
    bool shared = common_lo < common_hi;
    for (int64_t panel = 0; panel * kNR < shape.dv; panel++) {
      const float* values = work.values + panel * kTile * kNR;
      for (int i = 0; i < MR; i++) {
        if (lo[i] >= hi[i]) continue;
        product_row(i, values, lo[i], shared ? common_lo : hi[i], false, work.sums + i * kNR);
      }
      if (shared) {
        multiply_tile<Widened<F32>, MR, 1, 1, kTile>(work.scores + common_lo, values + common_lo * kNR, 0,
                                                     common_hi - common_lo, kAhead, true, work.sums);
        for (int i = 0; i < MR; i++) product_row(i, values, common_hi, hi[i], true, work.sums + i * kNR);
      }
      for (int i = 0; i < MR; i++) {
        if (lo[i] < hi[i]) merge(begin + i, panel, work.sums + i * kNR, keep[i], add[i], empty[i]);
      }
    }
  }

  static int64_t clamp(int64_t position) { return position < 0 ? 0 : (position > kTile ? kTile : position); }

  void finish() {
    for (int64_t r = 0; r < count; r++) {
      const float* from = work.output + r * padded(shape.dv);
      float* to = rows[r].out;
      if (state[r].empty) {
        std::memset(to, 0, shape.dv * sizeof(float));
        continue;
      }
      Vec total = set1(state[r].l);
      for_vectors<F32>(from, shape.dv, [&](int64_t d, Vec v, int lanes) { store_some(to + d, v / total, lanes); });
    }
  }

  template <class D>
  void run(const KeyValueSource& source) {
    int64_t lo = INT64_MAX;
    int64_t hi = 0;
    for (int64_t r = 0; r < count; r++) {
      state[r] = {0, 0, true};
      if (rows[r].lo >= rows[r].hi) continue;
      lo = rows[r].lo < lo ? rows[r].lo : lo;
      hi = rows[r].hi > hi ? rows[r].hi : hi;
    }
    pack_queries();
    const void* k[kTile];
    const void* v[kTile];
    for (int64_t origin = lo / kTile * kTile; origin < hi; origin += kTile) {
      int64_t begin = lo > origin ? lo : origin;
      int64_t end = hi < origin + kTile ? hi : origin + kTile;
      source.locate(begin, end, k, v);
      pack_keys<D>(k, begin - origin, end - origin, shape.dk, work.keys);
      pack_values<D>(v, begin - origin, end - origin, shape.dv, work.values);
      for (int64_t t = 0; t < tiles(); t++) {
        with_rows(static_cast<int>(begin_of(t + 1) - begin_of(t)),
                  [&](auto mr) { step<decltype(mr)::value>(begin_of(t), origin); });
      }
    }
    finish();
  }
};

}  // namespace

size_t attention_scratch(int64_t dk, int64_t dv) {
  int64_t floats = kTile * dk + kTile * padded(dv) + kBlockRows * (dk + padded(dv)) + kMR * (kTile + kNR) + 6 * 16;
  return align64(static_cast<size_t>(floats) * sizeof(float));
}

void attend(const AttentionShape& shape, const AttentionRow* rows, int64_t count, const KeyValueSource& source,
            void* scratch) {
  Block block = {shape, rows, count, Work(shape, scratch), {}};
  if (shape.dtype == DType::kBF16) {
    block.run<BF16>(source);
  } else {
    block.run<F32>(source);
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
