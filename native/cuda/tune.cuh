// Every tuned number of the CUDA kernels. Plain constants: kernels and launchers read the same.
#pragma once

namespace ocelli {
namespace cuda {

// Elementwise ops: a thread takes eight neighbours of one row.
constexpr int kRun = 8;
constexpr int kElementThreads = 256;

// Norms: a block a row. A function of the width alone, as every row's order of summation must be.
constexpr int row_threads(int width) { return width <= 1024 ? 128 : 256; }

// linear on tensor cores. A block makes a tile of [kTileM, kTileN] from slices of kSliceK columns of x and w, of which
// kStages are on their way at any time. The tile depends on M, a row's arithmetic does not: one chain over k in steps
// of 16 for every tile.
constexpr int kSliceK = 64;  // 128 bytes of 16-bit values: a row of shared memory is one row of banks
constexpr int kStages = 3;
constexpr int kResultGap = 8;  // words behind each row of results: 4 rows of a fragment then lie in other banks
template <int m, int n, int warps_m, int warps_n>
struct LinearTile {
  static constexpr int kM = m, kN = n, kWarpsM = warps_m, kWarpsN = warps_n;
  static constexpr int kThreads = warps_m * warps_n * 32;
  static constexpr int kStageBytes = (m + n) * kSliceK * 2;
  static constexpr int kResultBytes = m * (n + kResultGap) * 4;
  static constexpr int kSharedBytes = kStages * kStageBytes > kResultBytes ? kStages* kStageBytes : kResultBytes;
};
using DecodeTile = LinearTile<16, 64, 1, 4>;     // 240 blocks for N = 15,360
using MiddleTile = LinearTile<64, 64, 2, 2>;     // above 16 rows
using PrefillTile = LinearTile<128, 128, 2, 4>;  // above kMiddleRows; 96 KiB of shared memory, 64 accumulators a thread
constexpr int kMiddleRows = 256;

// linear with weights in blocks: the same with slices of 128 columns (quantized.h) and room for the scales of both
// sides. 128 x 128 would not fit in the 99 KiB of sm_86. x_bytes: of an activation.
template <int m, int n, int warps_m, int warps_n, int x_bytes = 1>
struct QuantizedTile {
  static constexpr int kM = m, kN = n, kWarpsM = warps_m, kWarpsN = warps_n;
  static constexpr int kThreads = warps_m * warps_n * 32;
  static constexpr int kStageBytes = (m * x_bytes + n) * 128 + m * 32 + n * 16;
  static constexpr int kSharedBytes = kStages * kStageBytes;  // the results need less
  static_assert(m * (n + kResultGap) * 4 <= kSharedBytes, "results lie where stages were");
};
using QuantizedDecodeTile = QuantizedTile<16, 64, 1, 4>;
using QuantizedMiddleTile = QuantizedTile<64, 64, 2, 2>;
using QuantizedPrefillTile = QuantizedTile<128, 64, 4, 2>;
using ExactDecodeTile = QuantizedTile<16, 64, 1, 4, 2>;
using ExactMiddleTile = QuantizedTile<32, 64, 2, 2, 2>;  // for any number of rows above; 64 would spill registers

// linear in f32: tiles of 64 x 64, slices of 16 columns, 256 threads of 4 x 4 results.
constexpr int kPlainTile = 64;
constexpr int kPlainSlice = 16;
constexpr int kPlainThreads = 256;

// Attention on tensor cores: 16 rows (query tokens x heads of one KV head) are a warp's, or of heads above 128 two
// warps', each with half of the scores and half of the columns: a warp would lack registers. Keys come in parts of
// kKeys, two parts of K and V on their way. (m, l, o) begin anew with each tile of kKvTile (core/step.h) positions and
// are merged in tile order, in registers or, where few rows leave the GPU idle, by a kernel over tiles that blocks
// computed side by side: the same arithmetic, the same bits.
constexpr int kTileKeys = 256;
template <int dim, int row_warps>
struct AttentionTile {
  static constexpr int kDim = dim, kRows = 16 * row_warps;
  static constexpr int kHalves = dim > 128 ? 2 : 1;
  static constexpr int kKeys = dim > 128 ? 32 : 64;
  static constexpr int kThreads = row_warps * kHalves * 32;
  static constexpr int kQueryBytes = kRows * dim * 2;
  static constexpr int kPartBytes = kKeys * dim * 2;                 // of K or of V
  static constexpr int kSharedBytes = kQueryBytes + 4 * kPartBytes;  // 80 KiB for 64 rows of 128, 96 for 64 of 256
  static_assert(kHalves == 1 || kRows * 128 <= kPartBytes, "weights of a part lie where its keys were");
};
template <int dim>
using DecodeAttention = AttentionTile<dim, 1>;
template <int dim>
using PrefillAttention = AttentionTile<dim, 4>;

// Below half of kFillBlocks blocks, tiles are spread over as many as that makes. What they leave for the merge has
// kSplitSlots places, of a row, a head and a tile each: longer sequences take several rounds, at most kSplitRounds of
// the longest, since a round costs two launches even where it has nothing to do.
constexpr int kFillBlocks = 264;  // two per multiprocessor of an H100
constexpr int kSplitSlots = 65536;
constexpr int kSplitRounds = 4;
constexpr int kMergeBatch = 8;  // tiles that are on their way while merging

constexpr int kPlainKeys = 128;  // attention in f32: a block a row, a thread a key
constexpr int kPlainDim = 256;   // the largest head

// Sampling: a block a row of logits, sixteen threads a chunk of 256, eight loads of a thread on their way.
constexpr int kSampleThreads = 512;

}  // namespace cuda
}  // namespace ocelli
