// linear with weights in blocks of 32 by TDPBSSD: a tile of 32 of k holds a block's dot products, which leave it for
// f32 sums as linear_quantized.cc has them, operation by operation, so that bits are AVX-512's.
//
// Leaving takes more time than the products do. So two blocks at once are added to sums in memory, while tiles work on
// the next two.
#include "cpu/amx/linear_quantized.h"

#include "cpu/amx/tiles.h"
#include "cpu/linear_call.h"
#include "cpu/linear_quantized.h"
#include "cpu/quantize_row.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

constexpr int kTileRows = 16;
// Rows from which on tiles are faster: AVX-512 splits nibbles for each tile of its own, or reads bytes as they are.
constexpr int64_t kLeastRows[] = {64, 16};  // of eight bits, of four
constexpr int64_t kTileBytes = kQuantBlock * kLanes;  // of 16 columns
constexpr int64_t kDots = 2 * kTileRows * kNR;        // of a block

template <bool kFour, Activations kActivations>
struct TiledQuantized : LinearCall {
  static constexpr bool kRows = kActivations == Activations::kRows;
  // A block of a panel as tiles take it: signed bytes [2][8][16][4], scales as f32 and, in four bits, least values.
  static constexpr int64_t kBlockBytes = 2 * kTileBytes + (kFour ? 8 : 4) * kNR;

  int64_t blocks;

  explicit TiledQuantized(const OpCall& c) : LinearCall(c, 2 * kTileRows), blocks(quant_blocks(w.k)) {}

  // A tile of packed rows: quants [blocks][rows][32], then scales [blocks][rows] and sums of quants, scaled if blocks
  // are, [blocks][rows].
  struct Packed {
    int8_t* quants;
    float* scales;
    float* sums;
  };
  int64_t row_bytes() const { return blocks * (kQuantBlock + 8); }
  Packed packed_at(int64_t tile) const {
    const int64_t rows = tiles.size(tile);
    int8_t* quants = static_cast<int8_t*>(call.scratch) + tiles.begin(tile) * row_bytes();
    float* scales = reinterpret_cast<float*>(quants + blocks * kQuantBlock * rows);
    return {quants, scales, scales + blocks * rows};
  }

  void pack_activations() const {
    call.pool->parallel_for(tiles.rows, [&](int64_t row, int) {
      const int64_t most = (tiles.rows + tiles.count - 1) / tiles.count;
      int64_t tile = row / most;
      while (tiles.begin(tile + 1) <= row) tile++;
      const int64_t rows = tiles.size(tile);
      const int64_t i = row - tiles.begin(tile);
      const Packed to = packed_at(tile);
      quantize_row<kActivations>(row_at(x, row), w.k, [&](int64_t b, const int8_t* q, float scale, int32_t sum) {
        std::memcpy(to.quants + (b * rows + i) * kQuantBlock, q, kQuantBlock);
        to.scales[b * rows + i] = scale;
        if constexpr (kFour) to.sums[b * rows + i] = static_cast<float>(sum) * (kRows ? 1.f : scale);
      });
    });
  }

  void unpack_panel(int64_t panel, uint8_t* to) const {
    const uint8_t* from = static_cast<const uint8_t*>(w.data) + panel * blocks * block_bytes(kFour);
    const Int bias = _mm512_set1_epi8(static_cast<char>(kWeightBias));
    for (int64_t b = 0; b < blocks; b++, from += block_bytes(kFour), to += kBlockBytes) {
      for (int64_t line = 0; line < block_bytes(kFour); line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(from) + kAheadMemory + line);
      for (int64_t half = 0; half < 2; half++) {
        uint8_t* tile = to + half * kTileBytes;
        for (int64_t g = 0; g < (kFour ? 4 : 8); g++) {
          const Int bytes = load_bytes(from + g * kNR * 4 + half * 64);
          if constexpr (kFour) {
            _mm512_store_si512(tile + g * 64, low_nibbles(bytes));
            _mm512_store_si512(tile + (g + 4) * 64, high_nibbles(bytes));
          } else {
            _mm512_store_si512(tile + g * 64, _mm512_xor_si512(bytes, bias));
          }
        }
      }
      const uint16_t* f16 = reinterpret_cast<const uint16_t*>(from + quant_bytes(kFour));
      float* f32 = reinterpret_cast<float*>(to + 2 * kTileBytes);
      for (int64_t j = 0; j < (kFour ? 2 : 1) * kNR; j += kLanes) store(f32 + j, load_f16(f16 + j));
    }
  }

  // dots [rows][kNR] of one block. between() is called before each of four tiles is stored: stores keep their order,
  // and those of a tile wait for it.
  template <class F>
  static __attribute__((always_inline)) void multiply(const int8_t* a, int64_t first, const uint8_t* b, int32_t* dots,
                                                      const F& between) {
    before_tile_loads();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, a, kQuantBlock);
    _tile_loadd(6, b, 64);
    _tile_dpbssd(0, 4, 6);
    _tile_loadd(7, b + kTileBytes, 64);
    _tile_dpbssd(1, 4, 7);
    _tile_loadd(5, a + first * kQuantBlock, kQuantBlock);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
    between();
    _tile_stored(0, dots, kNR * 4);
    between();
    _tile_stored(1, dots + kLanes, kNR * 4);
    between();
    _tile_stored(2, dots + first * kNR, kNR * 4);
    between();
    _tile_stored(3, dots + first * kNR + kLanes, kNR * 4);
  }

  // Adds kCount blocks to rows [row, end) of sums [rows][kNR]: their dot products are [kCount][rows][kNR].
  template <int kCount>
  static __attribute__((always_inline)) void add(const int32_t* dots, const Vec (&scale)[kCount][2],
                                                 const Vec (&least)[kCount][2], const float* row_scales,
                                                 const float* row_sums, int64_t rows, int64_t row, int64_t end,
                                                 float* sums) {
    for (; row < end; row++) {
      Vec sum[2] = {load(sums + row * kNR), load(sums + row * kNR + kLanes)};
#pragma GCC unroll 2
      for (int i = 0; i < kCount; i++) {
        const Vec one = set1(row_scales[i * rows + row]);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
          const Vec dot = to_float(_mm512_load_si512(dots + i * kDots + row * kNR + half * kLanes));
          sum[half] = fma(dot, kRows ? scale[i][half] : scale[i][half] * one, sum[half]);
          if constexpr (kFour) sum[half] = fma(least[i][half], set1(row_sums[i * rows + row]), sum[half]);
        }
      }
      store(sums + row * kNR, sum[0]);
      store(sums + row * kNR + kLanes, sum[1]);
    }
  }

  template <int kCount>
  static __attribute__((always_inline)) void load_scales(const uint8_t* b, Vec (&scale)[kCount][2],
                                                         Vec (&least)[kCount][2]) {
#pragma GCC unroll 2
    for (int i = 0; i < kCount; i++) {
      const float* from = reinterpret_cast<const float*>(b + i * kBlockBytes + 2 * kTileBytes);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        scale[i][half] = load(from + half * kLanes);
        if constexpr (kFour) least[i][half] = load(from + kNR + half * kLanes);
      }
    }
  }

  // One tile of rows against one panel; sums [rows][kNR]. Meanwhile `lines` cache lines from `later` on are prefetched
  // for each block.
  __attribute__((noinline)) void multiply_panel(const Packed& a, int64_t rows, const uint8_t* b, const char* later,
                                                int64_t lines, float* sums) const {
    alignas(64) int32_t dots[2][2 * kDots];
    const int64_t first = (rows + 1) / 2;
    const int64_t eighth = (rows + 7) / 8;
    const int8_t* quants = a.quants;
    const float* row_scales = a.scales;
    const float* row_sums = a.sums;
    int32_t* next = dots[0];
    int32_t* last = dots[1];
    std::memset(sums, 0, rows * kNR * sizeof(float));
    Vec scale[2][2];
    Vec least[2][2];
    const int64_t pairs = blocks / 2;
    for (int64_t pair = 0; pair < pairs; pair++) {
      int64_t row = pair > 0 ? 0 : rows;  // nothing to add yet
      const auto between = [&] {
        const int64_t end = row + eighth < rows ? row + eighth : rows;
        add<2>(last, scale, least, row_scales, row_sums, rows, row, end, sums);
        row = end;
      };
      multiply(quants, first, b, next, between);
      for (int64_t i = 0; i < 2 * lines; i++, later += 64) __builtin_prefetch(later, 0, 2);
      multiply(quants + rows * kQuantBlock, first, b + kBlockBytes, next + kDots, between);
      load_scales<2>(b, scale, least);
      quants += 2 * rows * kQuantBlock;
      b += 2 * kBlockBytes;
      if (pair > 0) {
        row_scales += 2 * rows;
        row_sums += 2 * rows;
      }
      std::swap(next, last);
    }
    if (pairs > 0) {
      add<2>(last, scale, least, row_scales, row_sums, rows, 0, rows, sums);
      row_scales += 2 * rows;
      row_sums += 2 * rows;
    }
    if (blocks % 2 != 0) {
      Vec odd_scale[1][2];
      Vec odd_least[1][2];
      multiply(quants, first, b, next, [] {});
      load_scales<1>(b, odd_scale, odd_least);
      add<1>(next, odd_scale, odd_least, row_scales, row_sums, rows, 0, rows, sums);
    }
  }

  // Panels of one task, as many as distribute() hands out at once.
  int64_t strip_bytes() const {
    const int64_t panel = blocks * kBlockBytes * parts;
    return (panel > kChunkBytes ? panel : kChunkBytes) / 64 * 64;
  }
  int64_t activation_bytes() const { return (tiles.rows * row_bytes() + 63) / 64 * 64; }
  size_t scratch_bytes() const {
    return static_cast<size_t>(activation_bytes() + call.pool->threads() * strip_bytes());
  }

  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last, int worker) const {
    uint8_t* strip = static_cast<uint8_t*>(call.scratch) + activation_bytes() + worker * strip_bytes();
    const auto unpacked_at = [&](int64_t at) { return strip + place_of(at, first, last) * blocks * kBlockBytes; };
    for (int64_t p = first; p < last; p++) {
      for (int64_t at = p; at < parts * panels; at += panels) unpack_panel(at, unpacked_at(at));
    }
    TileRegisters registers;
    alignas(64) float sums[2][kDots];
    int sized = 0;
    for (; tile < end; tile++) {
      const int rows = tiles.size(tile);
      if (rows != sized) set_sizes(sized = rows, registers);
      const Packed a = packed_at(tile);
      // The next tile comes from the third-level cache; with least values, too, it is no quicker for coming early.
      const bool early = !kFour && tile + 1 < end;
      const int64_t passes = (last - first) * parts * blocks;
      const int64_t lines = early ? (tiles.size(tile + 1) * row_bytes() / 64 + passes) / passes : 0;
      const char* later = early ? reinterpret_cast<const char*>(packed_at(tile + 1).quants) : nullptr;
      for (int64_t p = first; p < last; p++) {
        for (int part = 0; part < parts; part++) {
          float* const to = sums[part];
          multiply_panel(a, rows, unpacked_at(p + part * panels), later, lines, to);
          if (lines > 0) later += blocks * lines * 64;
          if constexpr (kRows) {
            for (int64_t i = 0; i < rows; i++) {
              for (int64_t j = 0; j < kNR; j += kLanes)
                store(to + i * kNR + j, load(to + i * kNR + j) * set1(a.scales[i]));
            }
          }
        }
        finish(sums[0], sums[1], tiles.begin(tile), rows, p * kNR, kNR);
      }
    }
  }

  static void set_sizes(int rows, TileRegisters& registers) {
    const int first = (rows + 1) / 2;
    const int second = rows - first;
    registers.size(0, first, 64).size(1, first, 64).size(2, second, 64).size(3, second, 64);
    registers.size(4, first, kQuantBlock).size(5, second, kQuantBlock).size(6, 8, 64).size(7, 8, 64).apply();
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    distribute(blocks * kBlockBytes, [&](int64_t tile, int64_t end, int64_t first, int64_t last, int worker) {
      multiply_block(tile, end, first, last, worker);
    });
  }
};

template <class F>
void with_tiled(const OpCall& call, const F& f) {
  switch (call.in[1].packed->format) {
    case WeightFormat::kI8:
      return f(TiledQuantized<false, Activations::kBlocks>(call));
    case WeightFormat::kI4:
      return f(TiledQuantized<true, Activations::kBlocks>(call));
    default:
      return f(TiledQuantized<true, Activations::kRows>(call));
  }
}

}  // namespace

bool takes_tiles(const OpCall& call) {
  const WeightFormat format = call.in[1].packed->format;
  if (!quantized(format) || activations_of(format) == Activations::kExact) return false;
  return rows_of(call.in[0]) >= kLeastRows[four_bits(format)];
}

void run_quantized_tiles(const OpCall& call) {
  with_tiled(call, [](const auto& linear) { linear.run(); });
}

size_t scratch_of_quantized_tiles(const OpCall& call) {
  size_t bytes = 0;
  with_tiled(call, [&](const auto& linear) { bytes = linear.scratch_bytes(); });
  return bytes;
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
