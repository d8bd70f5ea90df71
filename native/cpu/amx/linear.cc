// linear with weights of bf16 by TDPBF16PS; other formats are AVX-512's. Activations are rounded to bf16 once and packed
// into tiles of 16 rows and 32 of k; two of them meet two tiles of 16 columns, one meets four.
//
// For 32 of k the instruction adds up even and odd products in a chain each, their sum to the result. So a row's bits do
// not depend on the tile that it is in, nor on that tile's height.
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
constexpr int64_t kTile = Tiled::kDepth * kTileRows;  // elements of a full tile

void fetch_tile(const uint16_t* from, int64_t ahead) {
  for (int64_t line = 0; line < 1024; line += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(from) + ahead + line);
}

// Two tiles of rows, of which the first has `first`, times one panel; c [rows][kNR].
__attribute__((noinline)) void multiply_two(const uint16_t* a, int64_t first, int64_t rows, const uint16_t* b,
                                            int64_t steps, int64_t ahead, float* c) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t second = first * Tiled::kDepth;
  for (int64_t s = 0; s < steps; s++) {
    _tile_loadd(4, a, 64);
    _tile_loadd(6, b, 64);
    fetch_tile(b, ahead);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + kTile, 64);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a + second, 64);
    fetch_tile(b + kTile, ahead);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    a += rows * Tiled::kDepth;
    b += 2 * kTile;
  }
  _tile_stored(0, c, kNR * 4);
  _tile_stored(1, c + kTileRows, kNR * 4);
  _tile_stored(2, c + first * kNR, kNR * 4);
  _tile_stored(3, c + first * kNR + kTileRows, kNR * 4);
}

// One tile of rows times NP panels, `panel` elements apart; c [rows][NP * kNR].
template <int NP>
__attribute__((noinline)) void multiply_one(const uint16_t* a, int64_t rows, const uint16_t* b, int64_t panel,
                                            int64_t steps, int64_t ahead, float* c) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; s++) {
    _tile_loadd(4, a, 64);
    _tile_loadd(5, b, 64);
    fetch_tile(b, ahead);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, b + kTile, 64);
    fetch_tile(b + kTile, ahead);
    _tile_dpbf16ps(1, 4, 6);
    if constexpr (NP == 2) {
      _tile_loadd(7, b + panel, 64);
      fetch_tile(b + panel, ahead);
      _tile_dpbf16ps(2, 4, 7);
      _tile_loadd(5, b + panel + kTile, 64);
      fetch_tile(b + panel + kTile, ahead);
      _tile_dpbf16ps(3, 4, 5);
    }
    a += rows * Tiled::kDepth;
    b += 2 * kTile;
  }
  constexpr int kWidth = NP * kNR;
  _tile_stored(0, c, kWidth * 4);
  _tile_stored(1, c + kTileRows, kWidth * 4);
  if constexpr (NP == 2) {
    _tile_stored(2, c + 2 * kTileRows, kWidth * 4);
    _tile_stored(3, c + 3 * kTileRows, kWidth * 4);
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

  const uint16_t* panel_at(int64_t panel) const {
    return static_cast<const uint16_t*>(w.data) + panel * panel_size<Tiled>(w.k);
  }

  static void set_sizes(int rows, TileRegisters& registers) {
    const int first = rows > kTileRows ? (rows + 1) / 2 : rows;
    const int second = rows > kTileRows ? rows - first : first;
    registers.size(0, first, 64).size(1, first, 64).size(2, second, 64).size(3, second, 64).size(4, first, 64);
    registers.size(5, rows > kTileRows ? second : kTileRows, 64).size(6, kTileRows, 64).size(7, kTileRows, 64).apply();
  }

  // Tiles [tile, end) against panels [first, last): the panels stay in cache while tiles pass.
  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    TileRegisters registers;
    alignas(64) float sums[2 * kTileRows * kNR];
    int sized = 0;
    for (int64_t begin = tile; tile < end; tile++) {
      const int64_t ahead = tile == begin ? kAheadMemory : kAheadCache;
      const int rows = tiles.size(tile);
      if (rows != sized) set_sizes(sized = rows, registers);
      const int64_t row = tiles.begin(tile);
      const uint16_t* a = packed + row * steps * Tiled::kDepth;
      for (int64_t panel = first; panel < last;) {
        if (rows > kTileRows) {
          multiply_two(a, (rows + 1) / 2, rows, panel_at(panel), steps, ahead, sums);
          finish(sums, row, rows, panel * kNR, kNR);
          panel++;
        } else if (panel + 2 <= last) {
          multiply_one<2>(a, rows, panel_at(panel), panel_size<Tiled>(w.k), steps, ahead, sums);
          finish(sums, row, rows, panel * kNR, 2 * kNR);
          panel += 2;
        } else {
          multiply_one<1>(a, rows, panel_at(panel), 0, steps, ahead, sums);
          finish(sums, row, rows, panel * kNR, kNR);
          panel++;
        }
      }
    }
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    auto block = [&](int64_t tile, int64_t end, int64_t first, int64_t last, int) {
      multiply_block(tile, end, first, last);
    };
    distribute(panel_size<Tiled>(w.k) * 2, block, tiles.size(0) > kTileRows ? 1 : 2);
  }
};

bool tiled(const OpCall& call) { return call.in[1].packed->format == WeightFormat::kBF16; }

void run_linear(const OpCall& call) {
  if (!tiled(call)) return avx512::linear.run(call);
  TiledLinear(call).run();
}

size_t scratch_of_linear(const OpCall& call) {
  return tiled(call) ? TiledLinear(call).scratch_bytes() : avx512::linear.scratch(call);
}

}  // namespace

extern const OpImpl linear;
const OpImpl linear = {run_linear, scratch_of_linear};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
