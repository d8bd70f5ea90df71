// linear with one scale a row on either side: each result is one dot product of bytes, exact in int32, times its row's
// scale and its column's. A row's bits do not depend on the tile that it is in.
#include "cpu/linear_rows.h"

#include "cpu/dot.h"
#include "cpu/linear_call.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

struct RowsLinear : LinearCall {
  int64_t depth;

  explicit RowsLinear(const OpCall& c) : LinearCall(c, kDotRows), depth(rows_depth(w.k)) {}

  // A tile of MR packed rows: quants [depth / 4][MR][4], then MR scales, and what each row's dot products begin with
  // where weights are biased.
  int64_t row_bytes() const { return depth + 8; }
  int8_t* tile_at(int64_t tile) const {
    return static_cast<int8_t*>(call.scratch) + tiles.begin(tile) * row_bytes();
  }
  float* scales_at(int64_t tile) const {
    return reinterpret_cast<float*>(tile_at(tile) + depth * tiles.size(tile));
  }
  int32_t* starts_at(int64_t tile) const { return reinterpret_cast<int32_t*>(scales_at(tile) + tiles.size(tile)); }

  void pack_row(int64_t tile, int i) const {
    const int64_t mr = tiles.size(tile);
    alignas(64) int8_t q[kRowsDepth];
    int8_t* to = tile_at(tile) + i * 4;
    const auto interleave = [&] {
      for (int64_t g = 0; g < kRowsDepth; g += 4, to += mr * 4) std::memcpy(to, q + g, 4);
    };
    const WholeRow row = quantize_whole(row_at(x, tiles.begin(tile) + i), w.k, [&](int64_t step) {
      if (step > 0) interleave();
      return q;
    });
    interleave();
    scales_at(tile)[i] = row.scale;
    starts_at(tile)[i] = row.start;
  }

  void pack_activations() const {
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      for (int i = 0; i < tiles.size(tile); i++) pack_row(tile, i);
    });
  }

  // out [MR][NP * kNR]; panel p begins at b + p * panel. Not inlined: beside other code the compiler would spill
  // accumulators.
  template <int MR, int NP>
  static __attribute__((noinline)) void multiply_tile(const int8_t* a, const float* scales, const int32_t* starts,
                                                      const uint8_t* b, int64_t panel, int64_t k, int64_t ahead,
                                                      float* out) {
    Int dot[NP * MR][2];
#pragma GCC unroll 24
    for (int i = 0; i < NP * MR; i++) dot[i][0] = dot[i][1] = set1_int(starts[i % MR]);
    constexpr int kHalf = kNR * 2;  // bytes of half a group's columns
    for (int64_t g = rows_depth(k) / 4; g > 0; g--) {
#pragma GCC unroll 4
      for (int p = 0; p < NP; p++) {
        const uint8_t* group = b + p * panel;
        for (int64_t line = 0; line < 2 * kHalf; line += 64)
          __builtin_prefetch(reinterpret_cast<const char*>(group) + ahead + line);
        const Int left = load_bytes(group);
        const Int right = load_bytes(group + kHalf);
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
          const Int four = broadcast4(a + i * 4);
          dot4(dot[p * MR + i][0], left, four);
          dot4(dot[p * MR + i][1], right, four);
        }
      }
      a += MR * 4;
      b += 2 * kHalf;
    }
#pragma GCC unroll 4
    for (int p = 0; p < NP; p++) {
      const uint16_t* f16 = reinterpret_cast<const uint16_t*>(b + p * panel);
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++) {
        const Vec column = load_f16(f16 + half * kLanes);
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
          store(out + (i * NP + p) * kNR + half * kLanes,
                to_float(dot[p * MR + i][half]) * column * set1(scales[i]));
        }
      }
    }
  }

  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    const int64_t panel_bytes = rows_panel_bytes(w.k);
    for (int64_t begin = tile; begin < end; begin++) {
      const int64_t ahead = tile == begin ? kAheadMemory : kAheadCache;
      with_rows<kDotRows>(tiles.size(begin), [&](auto rows) {
        constexpr int MR = decltype(rows)::value;
        over_panels<panels_at_once(MR)>(first, last, [&](int64_t panel, auto count) {
          constexpr int NP = decltype(count)::value;
          multiply_and_finish<MR, NP>(tiles.begin(begin), panel, [&](int64_t at, float* sums) {
            multiply_tile<MR, NP>(tile_at(begin), scales_at(begin), starts_at(begin),
                                  static_cast<const uint8_t*>(w.data) + at * panel_bytes, panel_bytes, w.k, ahead,
                                  sums);
          });
        });
      });
    }
  }

  void run() const {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    const auto block = [&](int64_t tile, int64_t end, int64_t first, int64_t last, int) {
      multiply_block(tile, end, first, last);
    };
    distribute(rows_panel_bytes(w.k), block, panels_at_once(tiles.size(0)));
  }
};

}  // namespace

void run_rows(const OpCall& call) { RowsLinear(call).run(); }

size_t scratch_of_rows(const OpCall& call) {
  const RowsLinear linear(call);
  return static_cast<size_t>(linear.tiles.rows * linear.row_bytes());
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
