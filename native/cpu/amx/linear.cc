// linear with weights of bf16 by TDPBF16PS, and of bytes with one scale a row by TDPBSUD; what tiles do not multiply
// faster is AVX-512's. Activations are rounded once and packed into tiles of 16 rows of 64 bytes; two of them meet two
// tiles of 16 columns, one meets four.
//
// For 32 of k the instruction for bf16 adds up even and odd products in a chain each, their sum to the result, and sums
// of bytes are exact. So a row's bits do not depend on the tile that it is in, nor on that tile's height.
#include "cpu/amx/linear_quantized.h"
#include "cpu/amx/tiles.h"
#include "cpu/dot.h"
#include "cpu/linear_call.h"
#include "cpu/linear_rows.h"

namespace ocelli {
namespace cpu {

namespace avx512 {
extern const OpImpl linear;
extern const OpImpl gated_act;
}

namespace OCELLI_ISA_NS {

extern const OpImpl linear;

namespace {

constexpr int kTileRows = 16;
constexpr int64_t kRowBytes = 64;                        // of a tile
constexpr int64_t kStepBytes = 2 * kTileRows * kRowBytes;  // of a panel, for one row of a tile of activations
constexpr int64_t kTiledChunkBytes = 2 * kChunkBytes;    // processors with tiles have 2 MiB of second-level cache
// Steps of k at once where panels have more and tiles of rows are many: of whole panels the cache would hold too few for
// what it takes to read a tile of rows again.
constexpr int64_t kSliceSteps = 64;
constexpr int64_t kSlicedTiles = 8;
// Lines to prefetch in a step at most: more of them cost more than they save.
constexpr int64_t kMostLines = 8;

// gcc 12's intrinsics take digits for tiles and no constants.
#define OCELLI_TILES(instruction) \
  asm volatile(instruction " %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kRows), "i"(kColumns))

// bf16: a panel has one tile behind the other.
struct Bf16 {
  static constexpr int64_t kDepth = Tiled::kDepth;  // elements of a tile's row
  static constexpr int64_t kColumnBytes = kRowBytes;
  static constexpr int64_t kNextTile = kTileRows * kRowBytes;
  static int64_t panel_bytes(int64_t k) { return panel_size<Tiled>(k) * 2; }
  template <int kSum, int kRows, int kColumns>
  static __attribute__((always_inline)) void multiply_add() {
    OCELLI_TILES("tdpbf16ps");
  }
};

// Bytes: a panel is AVX-512's too, whose two tiles lie side by side.
struct Bytes {
  static constexpr int64_t kDepth = kRowsDepth;
  static constexpr int64_t kColumnBytes = 2 * kRowBytes;
  static constexpr int64_t kNextTile = kRowBytes;
  static int64_t panel_bytes(int64_t k) { return rows_panel_bytes(k); }
  template <int kSum, int kRows, int kColumns>
  static __attribute__((always_inline)) void multiply_add() {
    OCELLI_TILES("tdpbsud");
  }
};

#undef OCELLI_TILES

// Where sums of 32 bits go: rows `stride` apart.
struct Sums {
  float* at;
  int64_t stride;

  float* tile(int64_t row, int64_t column) const { return at + row * stride + column * kTileRows; }
  int64_t bytes() const { return stride * static_cast<int64_t>(sizeof(float)); }
};

// Prefetches a tile of one of the next steps: loads of whole tiles do not hide what even the second-level cache takes.
inline void fetch_tile(const uint8_t* from) {
  for (int64_t line = 0; line < kStepBytes / 2; line += 64)
    __builtin_prefetch(reinterpret_cast<const char*>(from) + kAheadMemory + line);
}

// What is prefetched from memory meanwhile: `lines` cache lines a step.
struct Later {
  const uint8_t* from;
  int64_t lines;
};

// Two tiles of rows, of which the first has `first`, times one panel, added to the sums `before` if there are any.
template <class Kind>
__attribute__((noinline)) void multiply_two(const uint8_t* a, int64_t first, int64_t rows, const uint8_t* b,
                                            int64_t steps, Later later, Sums before, Sums c) {
  before_tile_loads();
  if (before.at == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, before.tile(0, 0), before.bytes());
    _tile_loadd(1, before.tile(0, 1), before.bytes());
    _tile_loadd(2, before.tile(first, 0), before.bytes());
    _tile_loadd(3, before.tile(first, 1), before.bytes());
  }
  for (int64_t s = 0; s < steps; s++) {
    _tile_loadd(4, a, kRowBytes);
    _tile_loadd(6, b, Kind::kColumnBytes);
    fetch_tile(b);
    Kind::template multiply_add<0, 4, 6>();
    _tile_loadd(7, b + Kind::kNextTile, Kind::kColumnBytes);
    fetch_tile(a);
    Kind::template multiply_add<1, 4, 7>();
    _tile_loadd(5, a + first * kRowBytes, kRowBytes);
    fetch_tile(b + kStepBytes / 2);
    Kind::template multiply_add<2, 5, 6>();
    fetch_tile(a + kStepBytes / 2);
    for (int64_t i = 0; i < later.lines; i++, later.from += 64) __builtin_prefetch(later.from, 0, 2);
    Kind::template multiply_add<3, 5, 7>();
    a += rows * kRowBytes;
    b += kStepBytes;
  }
  _tile_stored(0, c.tile(0, 0), c.bytes());
  _tile_stored(1, c.tile(0, 1), c.bytes());
  _tile_stored(2, c.tile(first, 0), c.bytes());
  _tile_stored(3, c.tile(first, 1), c.bytes());
}

// One tile of rows times one panel, or two panels that are `panel` bytes apart: few rows come with weights from memory.
template <class Kind, int kPanels>
__attribute__((noinline)) void multiply_one(const uint8_t* a, int64_t rows, const uint8_t* b, int64_t panel,
                                            int64_t steps, Sums c) {
  before_tile_loads();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; s++) {
    _tile_loadd(4, a, kRowBytes);
    _tile_loadd(5, b, Kind::kColumnBytes);
    fetch_tile(b);
    Kind::template multiply_add<0, 4, 5>();
    _tile_loadd(6, b + Kind::kNextTile, Kind::kColumnBytes);
    fetch_tile(b + kStepBytes / 2);
    Kind::template multiply_add<1, 4, 6>();
    if constexpr (kPanels == 2) {
      _tile_loadd(7, b + panel, Kind::kColumnBytes);
      fetch_tile(b + panel);
      Kind::template multiply_add<2, 4, 7>();
      _tile_loadd(5, b + panel + Kind::kNextTile, Kind::kColumnBytes);
      fetch_tile(b + panel + kStepBytes / 2);
      Kind::template multiply_add<3, 4, 5>();
    }
    a += rows * kRowBytes;
    b += kStepBytes;
  }
  _tile_stored(0, c.tile(0, 0), c.bytes());
  _tile_stored(1, c.tile(0, 1), c.bytes());
  if constexpr (kPanels == 2) {
    _tile_stored(2, c.tile(0, 2), c.bytes());
    _tile_stored(3, c.tile(0, 3), c.bytes());
  }
}

template <class Kind>
struct TiledLinear : LinearCall {
  static constexpr bool kBytes = std::is_same_v<Kind, Bytes>;

  // Steps of k.
  struct Slice {
    int64_t begin;
    int64_t end;
  };

  int64_t steps;
  int64_t panel_bytes;
  uint8_t* packed;  // a row tile of `rows` rows: [steps][rows][kRowBytes]
  bool strided;     // y's rows are, as tiles are stored
  int64_t slices;   // of k, whose sums wait for the next one in y

  explicit TiledLinear(const OpCall& c)
      : LinearCall(c, 2 * kTileRows),
        steps((w.k + Kind::kDepth - 1) / Kind::kDepth),
        panel_bytes(Kind::panel_bytes(w.k)),
        packed(static_cast<uint8_t*>(c.scratch)),
        strided(y.rank == 2 || (y.rank > 2 && y.contiguous())),
        slices(strided && !gated && w.n % kNR == 0 && tiles.count >= kSlicedTiles
                   ? std::max<int64_t>((steps + kSliceSteps - 1) / kSliceSteps, 1)
                   : 1) {}

  // Of bytes: each row's scale, and what its dot products begin with.
  float* scales() const { return reinterpret_cast<float*>(packed + tiles.rows * steps * kRowBytes); }
  int32_t* starts() const { return reinterpret_cast<int32_t*>(scales() + tiles.rows); }

  size_t scratch_bytes() const { return static_cast<size_t>(tiles.rows * (steps * kRowBytes + (kBytes ? 8 : 0))); }

  void pack_activations() const {
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      uint8_t* to = packed + tiles.begin(tile) * steps * kRowBytes;
      if constexpr (kBytes) {
        for (int i = 0; i < tiles.size(tile); i++) pack_bytes(tiles.begin(tile) + i, i, tiles.size(tile), to);
      } else {
        pack_bf16(tiles.begin(tile), tiles.size(tile), to);
      }
    });
  }

  void pack_bf16(int64_t begin, int64_t rows, uint8_t* to) const {
    constexpr int64_t kBlock = 8;  // steps of one row at once
    for (int64_t s = 0; s < steps; s += kBlock) {
      for (int64_t i = 0; i < rows; i++) {
        const float* from = row_at(x, begin + i);
        for (int64_t t = s; t < s + kBlock && t < steps; t++) {
          store(reinterpret_cast<float*>(to + (t * rows + i) * kRowBytes),
                Tiled::units(from + t * Kind::kDepth, w.k - t * Kind::kDepth));
        }
      }
    }
  }

  void pack_bytes(int64_t row, int64_t i, int64_t rows, uint8_t* to) const {
    const WholeRow whole = quantize_whole(row_at(x, row), w.k, [&](int64_t step) {
      return reinterpret_cast<int8_t*>(to + (step * rows + i) * kRowBytes);
    });
    scales()[row] = whole.scale;
    starts()[row] = whole.start;
  }

  static void set_sizes(int rows, TileRegisters& registers) {
    const int first = rows > kTileRows ? (rows + 1) / 2 : rows;
    const int second = rows > kTileRows ? rows - first : first;
    registers.size(0, first, 64).size(1, first, 64).size(2, second, 64).size(3, second, 64).size(4, first, 64);
    registers.size(5, rows > kTileRows ? second : kTileRows, 64).size(6, kTileRows, 64).size(7, kTileRows, 64).apply();
  }

  const uint8_t* panel_at(int64_t panel) const { return static_cast<const uint8_t*>(w.data) + panel * panel_bytes; }

  const uint8_t* packed_at(int64_t tile, int64_t step) const {
    return packed + (tiles.begin(tile) * steps + tiles.size(tile) * step) * kRowBytes;
  }

  void multiply(int64_t tile, int64_t panel, int64_t width, Slice k, Later later, Sums before, Sums sums) const {
    const int64_t rows = tiles.size(tile);
    const uint8_t* a = packed_at(tile, k.begin);
    if (rows > kTileRows) {
      multiply_two<Kind>(a, (rows + 1) / 2, rows, panel_at(panel) + k.begin * kStepBytes, k.end - k.begin, later,
                         before, sums);
    } else {
      const auto multiply = width > kNR ? multiply_one<Kind, 2> : multiply_one<Kind, 1>;
      multiply(a, rows, panel_at(panel), panel_bytes, steps, sums);
    }
  }

  // Dot products [rows][width] to numbers, as linear_rows.cc has them.
  void scale(int64_t row, int64_t rows, int64_t panel, int64_t width, const float* dots, Sums to) const {
    for (int64_t j = 0; j < width; j += kLanes) {
      const Vec column = load_f16(scales_of_panel(panel_at(panel + j / kNR), w.k) + j % kNR);
      for (int64_t i = 0; i < rows; i++) {
        const Vec dot = to_float(add_int(bits(load(dots + i * width + j)), set1_int(starts()[row + i])));
        store(to.tile(i, j / kLanes), dot * column * set1(scales()[row + i]));
      }
    }
  }

  // Tiles [tile, end) against panels [first, last). Few tiles stay in cache while panels pass, the next of which comes
  // from memory meanwhile; else panels stay while tiles pass, the next of which comes meanwhile.
  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    TileRegisters registers;
    int sized = 0;
    // later(part): what is prefetched beside the gate's panels and those of what it is multiplied by.
    const auto one = [&](int64_t t, int64_t panel, int64_t count, Slice k, const auto& later) {
      const int rows = tiles.size(t);
      if (rows != sized) set_sizes(sized = rows, registers);
      multiply_panels(t, panel, count * kNR, k, later);
    };
    const int64_t rows = tiles.begin(end) - tiles.begin(tile);
    if (rows > 2 * kTileRows && rows * steps * kRowBytes <= kTiledChunkBytes) {
      const int64_t lines = (kStepBytes / 64 + end - tile - 1) / (end - tile);
      for (int64_t panel = first; panel < last; panel++) {
        for (int64_t t = tile; t < end; t++) {
          one(t, panel, 1, {0, steps}, [&](int part) {
            return Later{panel_at(panel + part * panels + 1) + (t - tile) * steps * lines * 64, lines};
          });
        }
      }
      return;
    }
    for (int64_t slice = 0; slice < slices; slice++) {
      const Slice k = {steps * slice / slices, steps * (slice + 1) / slices};
      for (int64_t t = tile; t < end; t++) {
        const int64_t most = tiles.size(t) <= kTileRows ? 2 : 1;
        const int64_t products = (last - first) * parts;
        int64_t lines = t + 1 < end ? (tiles.size(t + 1) + products - 1) / products : 0;
        if (lines > kMostLines) lines = 0;
        for (int64_t panel = first; panel < last; panel += most) {
          one(t, panel, panel + most <= last ? most : 1, k, [&](int part) {
            const int64_t before = ((panel - first) * parts + part) * (k.end - k.begin);
            return lines > 0 ? Later{packed_at(t + 1, k.begin) + before * lines * 64, lines} : Later{};
          });
        }
      }
    }
  }

  template <class F>
  void multiply_panels(int64_t tile, int64_t panel, int64_t width, Slice k, const F& later) const {
    alignas(64) float sums[2][2 * kTileRows * kNR];
    const int rows = tiles.size(tile);
    const int64_t row = tiles.begin(tile);
    const int64_t column = panel * kNR;
    const bool last = k.end == steps;
    // What needs nothing more is stored where it belongs.
    const bool plain = strided && column + width <= w.n && bias == nullptr && act == Activation::kNone;
    const Sums there = strided ? Sums{row_at(y, row) + column, y.stride[y.rank - 2]} : Sums{};
    for (int part = 0; part < parts; part++) {
      const Sums here = {sums[part], width};
      const Sums to = last && !plain ? here : there;
      const int64_t at = panel + part * panels;
      multiply(tile, at, width, k, later(part), k.begin > 0 ? there : Sums{}, last && kBytes ? here : to);
      if constexpr (kBytes) {
        if (last) scale(row, rows, at, width, sums[part], to);
      }
    }
    if (last && !plain) finish(sums[0], sums[1], row, rows, column, width);
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    auto block = [&](int64_t tile, int64_t end, int64_t first, int64_t last, int) {
      multiply_block(tile, end, first, last);
    };
    distribute(panel_bytes / slices, block, tiles.size(0) > kTileRows ? 1 : 2, kTiledChunkBytes);
  }
};

void run_linear(const OpCall& call) {
  if (gated_apart(call)) return run_gated(call, linear, avx512::gated_act);
  const WeightFormat format = call.in[1].packed->format;
  if (format == WeightFormat::kBF16) return TiledLinear<Bf16>(call).run();
  if (format == WeightFormat::kI8Rows) return TiledLinear<Bytes>(call).run();
  if (takes_tiles(call)) return run_quantized_tiles(call);
  avx512::linear.run(call);
}

size_t scratch_of_linear(const OpCall& call) {
  if (gated_apart(call)) return scratch_of_gated(call, linear);
  const WeightFormat format = call.in[1].packed->format;
  if (format == WeightFormat::kBF16) return TiledLinear<Bf16>(call).scratch_bytes();
  if (format == WeightFormat::kI8Rows) return TiledLinear<Bytes>(call).scratch_bytes();
  return takes_tiles(call) ? scratch_of_quantized_tiles(call) : avx512::linear.scratch(call);
}

}  // namespace

const OpImpl linear = {run_linear, scratch_of_linear};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
