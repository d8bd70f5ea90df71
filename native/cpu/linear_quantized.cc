// linear with weights in blocks of 32: activations are quantised once, blocks are dot products of bytes, and their sums
// add up in f32. A row's bits do not depend on the tile that it is in.
#include "cpu/linear_quantized.h"

#include "cpu/dot.h"
#include "cpu/linear_call.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

// A tile of MR packed rows: quants [k / 4][MR][4], then scales [blocks][MR] and sums [blocks][MR]. Sums are what each
// block's dot products begin with where weights are biased (int32), or what `least` is multiplied by (f32).
struct TileLayout {
  int64_t blocks;

  explicit TileLayout(int64_t k) : blocks(quant_blocks(k)) {}
  int64_t row_bytes() const { return blocks * (kQuantBlock + 8); }
  int8_t* quants(void* tile) const { return static_cast<int8_t*>(tile); }
  float* scales(void* tile, int64_t mr) const {
    return reinterpret_cast<float*>(static_cast<char*>(tile) + blocks * kQuantBlock * mr);
  }
  float* sums(void* tile, int64_t mr) const { return scales(tile, mr) + blocks * mr; }
};

// max|x|, and NaN where something is not finite.
float largest_of(const float* x, int64_t n) {
  Vec most = zero();
  Vec check = zero();
  for_vectors<F32>(x, n, [&](int64_t, Vec v, int) {
    most = max(most, abs(v));
    check = check + (v - v);
  });
  return largest(most) + sum(check);
}

// 32 elements of a row times `inverse`, rounded; returns their sum.
int32_t quantize(const float* x, int64_t count, float inverse, int8_t* q) {
  Int total = set1_int(0);
  int64_t i = 0;
  for (; i < count; i += kLanes) {
    Vec v = load_some(x + i, static_cast<int>(count - i < kLanes ? count - i : kLanes));
    Int rounded = to_int(v * set1(inverse));
    total = add_int(total, rounded);
    store_i8(q + i, rounded);
  }
  for (; i < kQuantBlock; i++) q[i] = 0;
  int32_t lanes[kLanes];
  std::memcpy(lanes, &total, sizeof(lanes));
  int32_t sum = 0;
  for (int32_t lane : lanes) sum += lane;
  return sum;
}

template <bool kFour, bool kRows>
void pack_row(const float* x, int64_t k, int mr, int at, const TileLayout& layout, void* tile) {
  ActivationScale whole = kRows ? activation_scale(largest_of(x, k)) : ActivationScale();
  float* scales = layout.scales(tile, mr);
  float* sums = layout.sums(tile, mr);
  for (int64_t b = 0; b < layout.blocks; b++) {
    int64_t count = k - b * kQuantBlock < kQuantBlock ? k - b * kQuantBlock : kQuantBlock;
    const float* from = x + b * kQuantBlock;
    ActivationScale scale = kRows ? whole : activation_scale(largest_of(from, count));
    int8_t q[kQuantBlock + 64];  // a vector stores beyond a short block
    int32_t sum = scale.scale == scale.scale ? quantize(from, count, scale.inverse, q) : 0;
    if (!(scale.scale == scale.scale)) std::memset(q, 0, sizeof(q));
    for (int64_t g = 0; g < 8; g++) std::memcpy(layout.quants(tile) + ((b * 8 + g) * mr + at) * 4, q + g * 4, 4);
    scales[b * mr + at] = scale.scale;
    if (kFour) {
      sums[b * mr + at] = static_cast<float>(sum) * (kRows ? 1.f : scale.scale);
    } else {
      int32_t start = -kWeightBias * sum;
      std::memcpy(&sums[b * mr + at], &start, 4);
    }
  }
}

template <bool kFour, bool kRows>
struct Quantized : LinearCall {
  TileLayout layout;

  // Splitting nibbles takes registers.
  static constexpr int kTileRows = kFour && kQuantRows > 5 ? 5 : kQuantRows;

  explicit Quantized(const OpCall& c) : LinearCall(c, kTileRows), layout(w.k) {}

  void* tile_at(int64_t tile) const {
    return static_cast<char*>(call.scratch) + tiles.begin(tile) * layout.row_bytes();
  }

  void pack_activations() const {
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      for (int i = 0; i < tiles.size(tile); i++) {
        pack_row<kFour, kRows>(row_at(x, tiles.begin(tile) + i), w.k, tiles.size(tile), i, layout, tile_at(tile));
      }
    });
  }

  // out [MR][kNR]. Not inlined: beside other code the compiler would spill accumulators.
  template <int MR>
  static __attribute__((noinline)) void multiply_tile(const int8_t* a, const float* scales, const float* starts,
                                                      const uint8_t* b, int64_t blocks, int64_t ahead, float* out) {
    Vec sum[MR][2];
#pragma GCC unroll 6
    for (int i = 0; i < MR; i++) sum[i][0] = sum[i][1] = zero();
    for (int64_t at = 0; at < blocks; at++) {
      Int dot[MR][2];
#pragma GCC unroll 6
      for (int i = 0; i < MR; i++) {
        dot[i][0] = !kFour && kWeightBias != 0 ? bits(set1(starts[i])) : set1_int(0);
        dot[i][1] = dot[i][0];
      }
      for (int64_t line = 0; line < block_bytes(kFour); line += 64)
        __builtin_prefetch(reinterpret_cast<const char*>(b) + ahead + line);
      auto add_group = [&](const int8_t* group, Int left, Int right) {
#pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
          Int four = broadcast4(group + i * 4);
          dot4(dot[i][0], left, four);
          dot4(dot[i][1], right, four);
        }
      };
      constexpr int kHalf = kNR * 2;  // bytes of half a group's columns
#pragma GCC unroll kGroupsUnrolled
      for (int g = 0; g < (kFour ? 4 : 8); g++) {
        Int left = load_bytes(b + g * 2 * kHalf);
        Int right = load_bytes(b + g * 2 * kHalf + kHalf);
        if constexpr (kFour) {
          add_group(a + g * MR * 4, low_nibbles(left), low_nibbles(right));
          add_group(a + (g + 4) * MR * 4, high_nibbles(left), high_nibbles(right));
        } else {
          add_group(a + g * MR * 4, left, right);
        }
      }
      const uint16_t* f16 = reinterpret_cast<const uint16_t*>(b + quant_bytes(kFour));
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        Vec scale = load_f16(f16 + half * kLanes);
#pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
          Vec each = kRows ? scale : scale * set1(scales[i]);
          sum[i][half] = fma(to_float(dot[i][half]), each, sum[i][half]);
        }
        if constexpr (kFour) {
          Vec least = load_f16(f16 + kNR + half * kLanes);
#pragma GCC unroll 6
          for (int i = 0; i < MR; i++) sum[i][half] = fma(least, set1(starts[i]), sum[i][half]);
        }
      }
      a += 32 * MR;
      b += block_bytes(kFour);
      scales += MR;
      starts += MR;
    }
#pragma GCC unroll 6
    for (int i = 0; i < MR; i++) {
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        // A row's scale is that of its last block too.
        Vec v = kRows ? sum[i][half] * set1(scales[i - MR]) : sum[i][half];
        store(out + i * kNR + half * kLanes, v);
      }
    }
  }

  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    for (int64_t begin = tile; tile < end; tile++) {
      int64_t ahead = tile == begin ? kAheadMemory : kAheadCache;
      void* packed = tile_at(tile);
      with_rows<kTileRows>(tiles.size(tile), [&](auto rows) {
        constexpr int MR = decltype(rows)::value;
        for (int64_t panel = first; panel < last; panel++) {
          alignas(64) float sums[MR * kNR];
          const uint8_t* b = static_cast<const uint8_t*>(w.data) + panel * layout.blocks * block_bytes(kFour);
          multiply_tile<MR>(layout.quants(packed), layout.scales(packed, MR), layout.sums(packed, MR), b, layout.blocks,
                            ahead, sums);
          finish(sums, tiles.begin(tile), MR, panel * kNR, kNR);
        }
      });
    }
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    distribute(layout.blocks * block_bytes(kFour),
               [&](int64_t tile, int64_t end, int64_t first, int64_t last) { multiply_block(tile, end, first, last); });
  }
};

}  // namespace

void run_quantized(const OpCall& call) {
  switch (call.in[1].packed->format) {
    case WeightFormat::kI8:
      return Quantized<false, false>(call).run();
    case WeightFormat::kI8Rows:
      return Quantized<false, true>(call).run();
    case WeightFormat::kI4:
      return Quantized<true, false>(call).run();
    default:
      return Quantized<true, true>(call).run();
  }
}

size_t scratch_of_quantized(const OpCall& call) {
  return static_cast<size_t>(rows_of(call.in[0]) * TileLayout(call.in[1].packed->k).row_bytes());
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
