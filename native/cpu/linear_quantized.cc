// linear with weights in blocks of 32: activations are quantised once, blocks are dot products of bytes, and their sums
// add up in f32. A row's bits do not depend on the tile that it is in.
#include "cpu/linear_quantized.h"

#include "cpu/dot.h"
#include "cpu/linear_call.h"
#include "cpu/quantize_row.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

// How a block's quants are read: bytes, two to a byte, or two to a byte but split up into bytes beforehand, which pays
// where many tiles meet the same panel.
enum class Quants { kBytes, kNibbles, kSplit };

// Tiles from which on splitting a panel first costs less than splitting it again for each of them.
constexpr int64_t kSplitTiles = 3;

// Bytes of a block whose nibbles were split: quants as in eight bits, then scales and least values.
constexpr int64_t kSplitBytes = quant_bytes(false) + 4 * kNR;

// A tile of MR packed rows: quants [k / 4][MR * parts][4], a row's high bytes before its low ones, then scales
// [blocks][MR] and sums [blocks][MR]. Sums are what each block's dot products begin with where weights are biased
// (int32), or what `least` is multiplied by (f32).
struct TileLayout {
  int64_t blocks;
  int64_t parts;

  TileLayout(int64_t k, Activations activations)
      : blocks(quant_blocks(k)), parts(parts_of(activations)) {}
  int64_t row_bytes() const { return blocks * (kQuantBlock * parts + 8); }
  int8_t* quants(void* tile) const { return static_cast<int8_t*>(tile); }
  float* scales(void* tile, int64_t mr) const {
    return reinterpret_cast<float*>(static_cast<char*>(tile) + blocks * kQuantBlock * parts * mr);
  }
  float* sums(void* tile, int64_t mr) const { return scales(tile, mr) + blocks * mr; }
};

template <bool kFour, Activations kActivations>
void pack_row(const float* x, int64_t k, int mr, int at, const TileLayout& layout, void* tile) {
  constexpr bool kRows = kActivations == Activations::kRows;
  constexpr int kParts = parts_of(kActivations);
  float* scales = layout.scales(tile, mr);
  float* sums = layout.sums(tile, mr);
  quantize_row<kActivations>(x, k, [&](int64_t b, const int8_t* q, float scale, int32_t sum) {
    for (int64_t g = 0; g < 8; g++) {
      for (int part = 0; part < kParts; part++) {
        int64_t unit = (b * 8 + g) * mr * kParts + at * kParts + part;
        std::memcpy(layout.quants(tile) + unit * 4, q + part * kQuantStride + g * 4, 4);
      }
    }
    scales[b * mr + at] = scale;
    if (kFour) {
      sums[b * mr + at] = static_cast<float>(sum) * (kRows ? 1.f : scale);
    } else {
      int32_t start = -kWeightBias * sum;
      std::memcpy(&sums[b * mr + at], &start, 4);
    }
  });
}

// A panel of nibbles as blocks of kSplitBytes.
void split_panel(const uint8_t* from, int64_t blocks, uint8_t* to) {
  constexpr int64_t kHalf = quant_bytes(true);
  constexpr int64_t kVector = kLanes * 4;
  for (int64_t b = 0; b < blocks; b++, from += block_bytes(true), to += kSplitBytes) {
    for (int64_t line = 0; line < block_bytes(true); line += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(from) + kAheadMemory + line);
    for (int64_t at = 0; at < kHalf; at += kVector) {
      Int both = load_bytes(from + at);
      Int low = low_nibbles(both);
      Int high = high_nibbles(both);
      std::memcpy(to + at, &low, kVector);
      std::memcpy(to + kHalf + at, &high, kVector);
    }
    std::memcpy(to + 2 * kHalf, from + kHalf, 4 * kNR);
  }
}

template <Quants kQuants, Activations kActivations>
struct Quantized : LinearCall {
  static constexpr bool kFour = kQuants != Quants::kBytes;
  static constexpr bool kExact = kActivations == Activations::kExact;
  static constexpr int kParts = parts_of(kActivations);
  static constexpr int64_t kBlockBytes = kQuants == Quants::kSplit ? kSplitBytes : block_bytes(kFour);
  // Splitting nibbles takes registers too.
  static constexpr int kSplitting = kQuants == Quants::kNibbles && kSums > 16 ? 3 : 0;
  // Each row has a sum of either half of the columns, and its dot products those of one half at least.
  static constexpr int kTileRows = (kSums - kSplitting) / (2 + kParts);

  // Panels that a tile of `mr` rows takes at once, where there are registers: few rows wait for reads, and several
  // streams of them are faster than one.
  static constexpr int panels_at_once(int mr) {
    if (kSums < 16 || kQuants == Quants::kSplit) return 1;
    return std::clamp((kSums - 2 * kSplitting - mr * kParts) / (2 * mr), 1, 4);
  }

  // Halves of a block's columns whose dot products registers hold at a time. Both take each activation once, one after
  // the other twice.
  static constexpr int halves_at_once(int mr, int panels) {
    return 2 * mr * (panels + kParts) + kSplitting <= kSums - kSplitting ? 2 : 1;
  }

  TileLayout layout;

  explicit Quantized(const OpCall& c) : LinearCall(c, kTileRows), layout(w.k, kActivations) {}

  void* tile_at(int64_t tile) const {
    return static_cast<char*>(call.scratch) + tiles.begin(tile) * layout.row_bytes();
  }

  void pack_activations() const {
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      for (int i = 0; i < tiles.size(tile); i++) {
        pack_row<kFour, kActivations>(row_at(x, tiles.begin(tile) + i), w.k, tiles.size(tile), i, layout,
                                      tile_at(tile));
      }
    });
  }

  // What lies at `p` is read again rather than kept, which would take registers of sums.
  template <class T>
  static void reread(const T*& p) {
    asm("" : "+r"(p));
  }

  // Dot products of a block's columns, from those at `block` on, with MR rows.
  template <int MR, int kHalves>
  static __attribute__((always_inline)) void dot_block(const int8_t* a, const float* starts, const uint8_t* block,
                                                       Int (&dot)[MR * kParts][kHalves]) {
    constexpr int kUnits = MR * kParts;
#pragma GCC unroll 12
    for (int i = 0; i < kUnits; i++) {
      const bool starting = !kFour && kWeightBias != 0 && i % kParts == kParts - 1;
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; h++) dot[i][h] = starting ? bits(set1(starts[i / kParts])) : set1_int(0);
    }
    const auto add_group = [&](const int8_t* group, const Int (&w)[kHalves]) {
#pragma GCC unroll 12
      for (int i = 0; i < kUnits; i++) {
        if constexpr (kHalves == 1) {
          dot4(dot[i][0], w[0], group + i * 4);
        } else {
          const Int four = broadcast4(group + i * 4);
          dot4(dot[i][0], w[0], four);
          dot4(dot[i][1], w[1], four);
        }
      }
    };
#pragma GCC unroll kGroupsUnrolled
    for (int g = 0; g < (kQuants == Quants::kNibbles ? 4 : 8); g++) {
      Int w[kHalves];
#pragma GCC unroll 2
      for (int h = 0; h < kHalves; h++) w[h] = load_bytes(block + (g * 2 + h) * 2 * kNR);
      if constexpr (kQuants == Quants::kNibbles) {
        Int part[kHalves];
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; h++) part[h] = low_nibbles(w[h]);
        add_group(a + g * kUnits * 4, part);
#pragma GCC unroll 2
        for (int h = 0; h < kHalves; h++) part[h] = high_nibbles(w[h]);
        add_group(a + (g + 4) * kUnits * 4, part);
      } else {
        add_group(a + g * kUnits * 4, w);
      }
    }
  }

  // out [MR][NP * kNR]; panel p begins at b + p * panel. Not inlined: beside other code the compiler would spill
  // accumulators.
  template <int MR, int NP>
  static __attribute__((noinline)) void multiply_tile(const int8_t* a, const float* scales, const float* starts,
                                                      const uint8_t* b, int64_t panel, int64_t blocks, int64_t ahead,
                                                      float* out) {
    constexpr int kHalves = halves_at_once(MR, NP);
    // One stream of blocks, each of which takes as long as reading it does: fetched to the second-level cache first, more
    // of them are under way.
    constexpr bool kFetchTwice = NP == 1 && MR * kParts > 4;
    Vec sum[NP * MR][2];
#pragma GCC unroll 12
    for (int i = 0; i < NP * MR; i++) sum[i][0] = sum[i][1] = zero();
    for (int64_t at = 0; at < blocks; at++) {
#pragma GCC unroll 4
      for (int p = 0; p < NP; p++) {
        const uint8_t* block = b + p * panel;
        for (int64_t line = 0; line < kBlockBytes; line += 64) {
          const char* at = reinterpret_cast<const char*>(block) + line;
          if constexpr (kFetchTwice) __builtin_prefetch(at + 4 * ahead, 0, 2);
          __builtin_prefetch(at + (kFetchTwice ? ahead / 2 : ahead));
        }
        const uint16_t* f16 = reinterpret_cast<const uint16_t*>(block + quant_bytes(kQuants == Quants::kNibbles));
#pragma GCC unroll 2
        for (int first = 0; first < 2; first += kHalves) {
          if constexpr (MR * kParts > 1) {
            reread(a);
            reread(scales);
            reread(starts);
          }
          Int dot[MR * kParts][kHalves];
          dot_block<MR, kHalves>(a, starts, block + first * 2 * kNR, dot);
#pragma GCC unroll 2
          for (int h = 0; h < kHalves; h++) {
            const int half = first + h;
            const Vec scale = load_f16(f16 + half * kLanes);
#pragma GCC unroll 9
            for (int i = 0; i < MR; i++) {
              Int total = dot[i * kParts][h];
              if constexpr (kExact) total = add_int(shift_left<kLowBits>(total), dot[i * kParts + 1][h]);
              const Vec each = kActivations == Activations::kRows ? scale : scale * set1(scales[i]);
              sum[p * MR + i][half] = fma(to_float(total), each, sum[p * MR + i][half]);
            }
            if constexpr (kFour) {
              const Vec least = load_f16(f16 + kNR + half * kLanes);
#pragma GCC unroll 9
              for (int i = 0; i < MR; i++)
                sum[p * MR + i][half] = fma(least, set1(starts[i]), sum[p * MR + i][half]);
            }
          }
        }
      }
      a += kQuantBlock * MR * kParts;
      b += kBlockBytes;
      scales += MR;
      starts += MR;
    }
#pragma GCC unroll 12
    for (int i = 0; i < NP * MR; i++) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        // A row's scale is that of its last block too.
        Vec v = kActivations == Activations::kRows ? sum[i][half] * set1(scales[i % MR - MR]) : sum[i][half];
        store(out + (i % MR * NP + i / MR) * kNR + half * kLanes, v);
      }
    }
  }

  const uint8_t* panel_at(int64_t panel) const {
    return static_cast<const uint8_t*>(w.data) + panel * layout.blocks * block_bytes(kFour);
  }

  // Panels of one task, split up: as many as distribute() hands out at once.
  int64_t strip_bytes() const {
    int64_t panel = layout.blocks * kSplitBytes * parts;
    return (panel > kChunkBytes ? panel : kChunkBytes) + 64;
  }

  uint8_t* strip_of(int worker) const {
    int64_t activations = (tiles.rows * layout.row_bytes() + 63) / 64 * 64;
    return static_cast<uint8_t*>(call.scratch) + activations + worker * (strip_bytes() / 64 * 64);
  }

  size_t scratch_bytes() const {
    int64_t bytes = tiles.rows * layout.row_bytes();
    if (kQuants == Quants::kSplit) bytes += 64 + call.pool->threads() * strip_bytes();
    return static_cast<size_t>(bytes);
  }

  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last, int worker) const {
    const int64_t panel_bytes = layout.blocks * kBlockBytes;
    const auto split_at = [&](int64_t at) { return strip_of(worker) + place_of(at, first, last) * panel_bytes; };
    if constexpr (kQuants == Quants::kSplit) {
      for (int64_t p = first; p < last; p++) {
        for (int64_t at = p; at < parts * panels; at += panels) split_panel(panel_at(at), layout.blocks, split_at(at));
      }
    }
    for (int64_t begin = tile; tile < end; tile++) {
      int64_t ahead = tile == begin && kQuants != Quants::kSplit ? kAheadMemory : kAheadCache;
      void* packed = tile_at(tile);
      with_rows<kTileRows>(tiles.size(tile), [&](auto rows) {
        constexpr int MR = decltype(rows)::value;
        over_panels<panels_at_once(MR)>(first, last, [&](int64_t panel, auto count) {
          constexpr int NP = decltype(count)::value;
          multiply_and_finish<MR, NP>(tiles.begin(tile), panel, [&](int64_t at, float* sums) {
            multiply_tile<MR, NP>(layout.quants(packed), layout.scales(packed, MR), layout.sums(packed, MR),
                                  kQuants == Quants::kSplit ? split_at(at) : panel_at(at), panel_bytes, layout.blocks,
                                  ahead, sums);
          });
        });
      });
    }
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    auto block = [&](int64_t tile, int64_t end, int64_t first, int64_t last, int worker) {
      multiply_block(tile, end, first, last, worker);
    };
    distribute(layout.blocks * kBlockBytes, block, panels_at_once(tiles.size(0)));
  }
};

template <Activations kActivations, class F>
void with_quants(const OpCall& call, const F& f) {
  // Bytes that meet whole rows are linear_rows.cc's.
  if constexpr (kActivations != Activations::kRows) {
    if (!four_bits(call.in[1].packed->format)) return f(Quantized<Quants::kBytes, kActivations>(call));
  }
  Quantized<Quants::kSplit, kActivations> split(call);
  if (split.tiles.count >= kSplitTiles) return f(split);
  f(Quantized<Quants::kNibbles, kActivations>(call));
}

template <class F>
void with_quantized(const OpCall& call, const F& f) {
  switch (activations_of(call.in[1].packed->format)) {
    case Activations::kBlocks:
      return with_quants<Activations::kBlocks>(call, f);
    case Activations::kRows:
      return with_quants<Activations::kRows>(call, f);
    default:
      return with_quants<Activations::kExact>(call, f);
  }
}

}  // namespace

void run_quantized(const OpCall& call) {
  with_quantized(call, [](const auto& linear) { linear.run(); });
}

size_t scratch_of_quantized(const OpCall& call) {
  size_t bytes = 0;
  with_quantized(call, [&](const auto& linear) { bytes = linear.scratch_bytes(); });
  return bytes;
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
