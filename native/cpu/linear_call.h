// What every kind of linear has in common: rows in tiles, tasks of panels, and what becomes of a tile's sums.
#pragma once

#include <algorithm>
#include <type_traits>

#include "core/gated_linear.h"
#include "cpu/linear.h"
#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t kChunkBytes = 512 << 10;  // of weights that one task keeps in its second-level cache
constexpr int64_t kTasksPerThread = 4;      // dynamic chunks: a disturbed thread takes fewer
constexpr int64_t kAheadMemory = 4096;      // bytes to prefetch ahead where weights come from memory,
constexpr int64_t kAheadCache = 1024;       // and from the second-level cache

// M rows as tiles of nearly equal height, none above `most`.
struct Tiles {
  int64_t rows;
  int64_t count;

  Tiles(int64_t m, int64_t most) : rows(m), count((m + most - 1) / most) {}
  int64_t begin(int64_t tile) const {
    int64_t extra = rows % count;
    return tile * (rows / count) + (tile < extra ? tile : extra);
  }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }
};

// f(panel, std::integral_constant<int, count>) over panels [first, last): kOnce side by side, and those left over.
template <int kOnce, class F>
inline void over_panels(int64_t first, int64_t last, const F& f) {
  for (; first + kOnce <= last; first += kOnce) f(first, std::integral_constant<int, kOnce>());
  if constexpr (kOnce > 1) {
    if (first < last) with_rows<kOnce - 1>(static_cast<int>(last - first), [&](auto count) { f(first, count); });
  }
}

// Halves that begin within a panel are two ops.
inline bool gated_apart(const OpCall& call) {
  return gate_of(*call.attrs) != nullptr && call.in[1].packed->n / 2 % kNR != 0;
}

struct LinearCall {
  const OpCall& call;
  const Tensor& x;
  const PackedMatrix& w;
  const Tensor& y;
  const Tensor* bias;
  bool gated;
  Activation act;  // the gate's, where there is one
  Tiles tiles;
  int64_t panels;  // of results: `parts` panels of the weight each, which are as many panels apart
  int parts;

  LinearCall(const OpCall& c, int64_t tile_rows)
      : call(c),
        x(c.in[0]),
        w(*c.in[1].packed),
        y(c.out[0]),
        bias(c.inputs > 2 && c.in[2].present() ? &c.in[2] : nullptr),
        gated(gate_of(*c.attrs) != nullptr),
        act(activation_of(*c.attrs, gated ? "gate" : "act")),
        tiles(rows_of(x), tile_rows),
        panels(panels_of(gated ? w.n / 2 : w.n)),
        parts(gated ? 2 : 1) {}

  // Where panel `at` of the weight lies in a task that keeps those of results [first, last) one behind the other.
  int64_t place_of(int64_t at, int64_t first, int64_t last) const {
    return at < panels ? at - first : at - panels - first + (last - first);
  }

  int64_t width() const { return gated ? w.n / 2 : w.n; }

  // A tile of MR rows from `row` on against NP panels from `panel` on; multiply(panel, sums) makes sums [MR][NP * kNR].
  template <int MR, int NP, class F>
  void multiply_and_finish(int64_t row, int64_t panel, const F& multiply) const {
    alignas(64) float sums[2][MR * NP * kNR];
    multiply(panel, sums[0]);
    if (gated) multiply(panels + panel, sums[1]);
    finish(sums[0], sums[1], row, MR, panel * kNR, NP * kNR);
  }

  // Adds the bias, applies the activation or the gate and stores the tile's rows; sums and, with a gate, what it is
  // multiplied by, [mr][width].
  __attribute__((noinline)) void finish(const float* sums, const float* factors, int64_t row, int mr, int64_t column,
                                        int64_t width) const {
    const int64_t n = this->width();
    int64_t count = n - column < width ? n - column : width;
    for (int i = 0; i < mr; i++) {
      const float* from = sums + i * width;
      float* to = row_at(y, row + i) + column;
      for (int64_t j = 0; j < count; j += kLanes) {
        Vec v = load(from + j);
        int lanes = static_cast<int>(count - j < kLanes ? count - j : kLanes);
        if (bias != nullptr) v = v + load_bias(column + j, lanes);
        v = activate(act, v);
        if (gated) {
          Vec factor = load(factors + i * width + j);
          if (bias != nullptr) factor = factor + load_bias(n + column + j, lanes);
          v = v * factor;
        }
        store_some(to + j, v, lanes);
      }
    }
  }

  Vec load_bias(int64_t at, int lanes) const {
    Vec v = zero();
    with_plain(*bias, at, [&](auto dtype, auto* from) { v = load_some<decltype(dtype)>(from, lanes); });
    return v;
  }

  // block(tile, end, first, last, worker) for tiles [tile, end) against panels [first, last), on all threads. Tasks have
  // up to `most` bytes of panels, and all of them equally many but for one. Panels of one tile are read once, `streams`
  // of them side by side: tasks then have a multiple of it, or about as many where panels do not suffice for all tasks.
  template <class F>
  void distribute(int64_t panel_bytes, const F& block, int64_t streams = 1, int64_t most = kChunkBytes) const {
    const auto quotient = [](int64_t whole, int64_t part) { return (whole + part - 1) / part; };
    const int64_t threads = call.pool->threads();
    const int64_t wanted = threads * kTasksPerThread;
    const bool side_by_side = tiles.count == 1 && panels >= streams * wanted;
    const int64_t unit = side_by_side ? streams : 1;
    const int64_t units = quotient(panels, unit);
    int64_t chunks = wanted;
    if (tiles.count == 1 && !side_by_side) chunks = quotient(quotient(panels, streams), threads) * threads;
    const int64_t fitting = most / (unit * parts * std::max<int64_t>(panel_bytes, 1));
    chunks = std::min(units, std::max(chunks, quotient(units, std::max<int64_t>(fitting, 1))));
    int64_t splits = chunks >= wanted ? 1 : (wanted + chunks - 1) / chunks;
    if (splits > tiles.count) splits = tiles.count;
    call.pool->parallel_for(chunks * splits, [&](int64_t task, int worker) {
      int64_t first = task / splits * units / chunks * unit;
      int64_t last = std::min((task / splits + 1) * units / chunks * unit, panels);
      int64_t split = task % splits;
      block(tiles.count * split / splits, tiles.count * (split + 1) / splits, first, last, worker);
    });
  }
};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
