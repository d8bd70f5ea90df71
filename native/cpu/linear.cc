// y = act(x w^T + bias). Activations are packed once into tiles of rows (rounded to bf16 where weights are and the set
// multiplies bf16), then every tile meets every panel of the weight; native/cpu/gemm.h has the kernels.
#include "cpu/linear.h"

#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

constexpr int64_t kChunkBytes = 512 << 10;  // of weights that one task keeps in its second-level cache
constexpr int64_t kTasksPerThread = 4;      // dynamic chunks: a disturbed thread takes fewer
constexpr int64_t kAheadMemory = 4096;      // bytes to prefetch ahead where weights come from memory,
constexpr int64_t kAheadCache = 1024;       // and from the second-level cache

// M rows as tiles of nearly equal height, none above kMR.
struct Tiles {
  int64_t rows;
  int64_t count;

  explicit Tiles(int64_t m) : rows(m), count((m + kMR - 1) / kMR) {}
  int64_t begin(int64_t tile) const {
    int64_t extra = rows % count;
    return tile * (rows / count) + (tile < extra ? tile : extra);
  }
  int size(int64_t tile) const { return static_cast<int>(begin(tile + 1) - begin(tile)); }
};

template <class Kind>
struct Linear {
  using A = typename Kind::A;
  using B = typename Kind::B;

  const OpCall& call;
  const Tensor& x;
  const PackedMatrix& w;
  const Tensor& y;
  const Tensor* bias;
  Activation act;
  Tiles tiles;
  int64_t steps;
  int64_t panels;
  const A* packed = nullptr;

  explicit Linear(const OpCall& c)
      : call(c),
        x(c.in[0]),
        w(*c.in[1].packed),
        y(c.out[0]),
        bias(c.inputs > 2 && c.in[2].present() ? &c.in[2] : nullptr),
        act(activation_of(*c.attrs, "act")),
        tiles(rows_of(x)),
        steps(steps_of<Kind>(w.k)),
        panels(panels_of(w.n)) {}

  void pack_activations() {
    // One row of f32 is its own tile.
    if (tiles.rows == 1 && sizeof(A) == sizeof(float)) {
      packed = reinterpret_cast<const A*>(row_at(x, 0));
      return;
    }
    A* out = static_cast<A*>(call.scratch);
    packed = out;
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      int64_t begin = tiles.begin(tile);
      pack_tile<Kind>(
          tiles.size(tile), w.k, [&](int i) { return row_at(x, begin + i); }, out + begin * steps * Kind::kStep);
    });
  }

  // Adds the bias, applies the activation and stores the tile's rows; sums [mr][width].
  __attribute__((noinline)) void finish(const float* sums, int64_t row, int mr, int64_t column, int64_t width) const {
    int64_t count = w.n - column < width ? w.n - column : width;
    for (int i = 0; i < mr; i++) {
      const float* from = sums + i * width;
      float* to = row_at(y, row + i) + column;
      for (int64_t j = 0; j < count; j += kLanes) {
        Vec v = load(from + j);
        int lanes = static_cast<int>(count - j < kLanes ? count - j : kLanes);
        if (bias != nullptr) v = v + load_bias(column + j, lanes);
        v = activate(act, v);
        store_some(to + j, v, lanes);
      }
    }
  }

  Vec load_bias(int64_t at, int lanes) const {
    Vec v = zero();
    with_plain(*bias, at, [&](auto dtype, auto* from) { v = load_some<decltype(dtype)>(from, lanes); });
    return v;
  }

  template <int MR, int NP>
  void multiply(int64_t row, int64_t panel, int64_t ahead) const {
    alignas(64) float sums[MR * NP * kNR];
    const B* b = static_cast<const B*>(w.data) + panel * steps * Kind::kStep * kNR;
    multiply_tile<Kind, MR, NP, MR * Kind::kStep, Kind::kStep, NP * kNR, false, true>(
        packed + row * steps * Kind::kStep, b, steps * Kind::kStep * kNR, steps, ahead, sums);
    finish(sums, row, MR, panel * kNR, NP * kNR);
  }

  // Tiles [tile, end) against panels [panel, last): the panels stay in cache while tiles pass.
  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    for (int64_t begin = tile; tile < end; tile++) {
      int64_t ahead = tile == begin ? kAheadMemory : kAheadCache;
      with_rows(tiles.size(tile), [&](auto rows) {
        constexpr int MR = decltype(rows)::value;
        constexpr int NP = panels_at_once(MR);
        int64_t panel = first;
        for (; panel + NP <= last; panel += NP) multiply<MR, NP>(tiles.begin(tile), panel, ahead);
        if constexpr (NP > 1) {
          for (; panel < last; panel++) multiply<MR, 1>(tiles.begin(tile), panel, ahead);
        }
      });
    }
  }

  void run() {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    int64_t wanted = call.pool->threads() * kTasksPerThread;
    int64_t panel_bytes = steps * Kind::kStep * kNR * static_cast<int64_t>(sizeof(B));
    int64_t chunk = kChunkBytes / (panel_bytes > 0 ? panel_bytes : 1);
    if (chunk > panels / wanted) chunk = panels / wanted;
    if (chunk < 1) chunk = 1;
    int64_t chunks = (panels + chunk - 1) / chunk;
    int64_t splits = chunks >= wanted ? 1 : (wanted + chunks - 1) / chunks;
    if (splits > tiles.count) splits = tiles.count;
    call.pool->parallel_for(chunks * splits, [&](int64_t task, int) {
      int64_t first = task / splits * chunk;
      int64_t last = first + chunk < panels ? first + chunk : panels;
      int64_t split = task % splits;
      multiply_block(tiles.count * split / splits, tiles.count * (split + 1) / splits, first, last);
    });
  }
};

void run_linear(const OpCall& call) {
  with_kind(call.in[1].packed->format, [&](auto kind) { Linear<decltype(kind)>(call).run(); });
}

size_t scratch_of_linear(const OpCall& call) {
  const PackedMatrix& w = *call.in[1].packed;
  size_t bytes = 0;
  with_kind(w.format, [&](auto kind) {
    using Kind = decltype(kind);
    bytes = static_cast<size_t>(rows_of(call.in[0]) * steps_of<Kind>(w.k) * Kind::kStep) * sizeof(typename Kind::A);
  });
  return bytes;
}

}  // namespace

extern const OpImpl linear;
const OpImpl linear = {run_linear, scratch_of_linear};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
