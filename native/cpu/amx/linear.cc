// linear with weights of bf16 by TDPBF16PS; what tiles do not multiply faster is AVX-512's. Activations are rounded to
// bf16 once and packed into tiles of 16 rows and 32 of k; two of them meet two tiles of 16 columns, one meets four.
//
// For 32 of k the instruction adds up even and odd products in a chain each, their sum to the result. So a row's bits
// do not depend on the tile that it is in, nor on that tile's height.
#include "cpu/amx/linear_quantized.h"
#include "cpu/amx/tiles.h"
#include "cpu/linear_call.h"

namespace ocelli {
namespace cpu {

namespace avx512 {
extern const OpImpl linear;
}

namespace OCELLI_ISA_NS {

namespace {

constexpr int kTileRows = 16;
constexpr int64_t kTile = Tiled::kDepth * kTileRows;   // elements of a full tile
constexpr int64_t kTiledChunkBytes = 2 * kChunkBytes;  // processors with tiles have 2 MiB of second-level cache

// Where sums go: rows `stride` floats apart.
struct Sums {
  float* at;
  int64_t stride;

  float* tile(int64_t row, int64_t column) const { return at + row * stride + column * kTileRows; }
  int64_t bytes() const { return stride * static_cast<int64_t>(sizeof(float)); }
};

// With kFetch weights come from memory; those in the second-level cache are there before a prefetch would be done.
template <bool kFetch>
inline void fetch_tile(const uint16_t* from) {
  if constexpr (kFetch) {
    for (int64_t line = 0; line < 1024; line += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kAheadMemory + line);
  }
}

// Two tiles of rows, of which the first has `first`, times one panel.
template <bool kFetch>
__attribute__((noinline)) void multiply_two(const uint16_t* a, int64_t first, int64_t rows, const uint16_t* b,
                                            int64_t steps, Sums c) {
  before_tile_loads();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t second = first * Tiled::kDepth;
  for (int64_t s = 0; s < steps; s++) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    fetch_tile<kFetch>(b);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + second, 64);
    fetch_tile<kFetch>(b + kTile);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    a += rows * Tiled::kDepth;
    b += 2 * kTile;
  }
  _tile_stored(0, c.tile(0, 0), c.bytes());
  _tile_stored(1, c.tile(0, 1), c.bytes());
  _tile_stored(2, c.tile(first, 0), c.bytes());
  _tile_stored(3, c.tile(first, 1), c.bytes());
}

// One tile of rows times one panel, or two panels that are `panel` elements apart: few rows come with weights from
// memory.
template <int kPanels>
__attribute__((noinline)) void multiply_one(const uint16_t* a, int64_t rows, const uint16_t* b, int64_t panel,
                                            int64_t steps, Sums c) {
  before_tile_loads();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; s++) {
    _tile_loadd(4, a, 64);
    _tile_loadd(5, b, 64);
    fetch_tile<true>(b);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, b + kTile, 64);
    fetch_tile<true>(b + kTile);
    _tile_dpbf16ps(1, 4, 6);
    if constexpr (kPanels == 2) {
      _tile_loadd(7, b + panel, 64);
      fetch_tile<true>(b + panel);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, b + panel + kTile, 64);
      fetch_tile<true>(b + panel + kTile);
      _tile_dpbf16ps(3, 4, 5);
    }
    a += rows * Tiled::kDepth;
    b += 2 * kTile;
  }
  _tile_stored(0, c.tile(0, 0), c.bytes());
  _tile_stored(1, c.tile(0, 1), c.bytes());
  if constexpr (kPanels == 2) {
    _tile_stored(2, c.tile(0, 2), c.bytes());
    _tile_stored(3, c.tile(0, 3), c.bytes());
  }
}

struct TiledLinear : LinearCall {
  int64_t steps;
  uint16_t* packed;  // a row tile of `rows` rows: [steps][rows][kDepth]

  explicit TiledLinear(const OpCall& c)
      : LinearCall(c, 2 * kTileRows),
        steps(panel_size<Tiled>(w.k) / (kNR * Tiled::kDepth)),
        packed(static_cast<uint16_t*>(c.scratch)) {}

  size_t scratch_bytes() const { return static_cast<size_t>(tiles.rows * steps * Tiled::kDepth) * sizeof(uint16_t); }

  void pack_activations() const {
    constexpr int64_t kBlock = 8;  // steps of one row at once
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      const int64_t begin = tiles.begin(tile);
      const int64_t rows = tiles.size(tile);
      uint16_t* to = packed + begin * steps * Tiled::kDepth;
      for (int64_t s = 0; s < steps; s += kBlock) {
        for (int64_t i = 0; i < rows; i++) {
          const float* from = row_at(x, begin + i);
          for (int64_t t = s; t < s + kBlock && t < steps; t++) {
            store(reinterpret_cast<float*>(to + (t * rows + i) * Tiled::kDepth),
                  Tiled::units(from + t * Tiled::kDepth, w.k - t * Tiled::kDepth));
          }
        }
      }
    });
  }

  static void set_sizes(int rows, TileRegisters& registers) {
    const int first = rows > kTileRows ? (rows + 1) / 2 : rows;
    const int second = rows > kTileRows ? rows - first : first;
    registers.size(0, first, 64).size(1, first, 64).size(2, second, 64).size(3, second, 64).size(4, first, 64);
    registers.size(5, rows > kTileRows ? second : kTileRows, 64).size(6, kTileRows, 64).size(7, kTileRows, 64).apply();
  }

  void multiply(int64_t tile, int64_t panel, int64_t width, bool fetch, Sums sums) const {
    const int64_t rows = tiles.size(tile);
    const uint16_t* a = packed + tiles.begin(tile) * steps * Tiled::kDepth;
    const uint16_t* b = static_cast<const uint16_t*>(w.data) + panel * panel_size<Tiled>(w.k);
    if (rows > kTileRows) {
      const auto multiply = fetch ? multiply_two<true> : multiply_two<false>;
      multiply(a, (rows + 1) / 2, rows, b, steps, sums);
    } else {
      const auto multiply = width > kNR ? multiply_one<2> : multiply_one<1>;
      multiply(a, rows, b, panel_size<Tiled>(w.k), steps, sums);
    }
  }

  // Tiles [tile, end) against panels [first, last): the panels stay in cache while tiles pass.
  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    TileRegisters registers;
    alignas(64) float elsewhere[2 * kTileRows * kNR];
    // What needs nothing more is stored where it belongs.
    const bool plain = bias == nullptr && act == Activation::kNone && (y.rank == 2 || (y.rank > 2 && y.contiguous()));
    int sized = 0;
    for (int64_t t = tile; t < end; t++) {
      const int rows = tiles.size(t);
      const int64_t row = tiles.begin(t);
      if (rows != sized) set_sizes(sized = rows, registers);
      for (int64_t panel = first; panel < last;) {
        const int64_t width = rows <= kTileRows && panel + 2 <= last ? 2 * kNR : kNR;
        const int64_t column = panel * kNR;
        if (plain && column + width <= w.n) {
          multiply(t, panel, width, t == tile, {row_at(y, row) + column, y.stride[y.rank - 2]});
        } else {
          multiply(t, panel, width, t == tile, {elsewhere, width});
          finish(elsewhere, row, rows, column, width);
        }
        panel += width / kNR;
      }
    }
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    auto block = [&](int64_t tile, int64_t end, int64_t first, int64_t last, int) {
      multiply_block(tile, end, first, last);
    };
    distribute(panel_size<Tiled>(w.k) * 2, block, tiles.size(0) > kTileRows ? 1 : 2, kTiledChunkBytes);
  }
};

bool tiled(const OpCall& call) { return call.in[1].packed->format == WeightFormat::kBF16; }

void run_linear(const OpCall& call) {
  if (tiled(call)) return TiledLinear(call).run();
  if (takes_tiles(call)) return run_quantized_tiles(call);
  avx512::linear.run(call);
}

size_t scratch_of_linear(const OpCall& call) {
  if (tiled(call)) return TiledLinear(call).scratch_bytes();
  return takes_tiles(call) ? scratch_of_quantized_tiles(call) : avx512::linear.scratch(call);
}

}  // namespace

extern const OpImpl linear;
const OpImpl linear = {run_linear, scratch_of_linear};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
