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

// linear in f32: tiles of 64 x 64, slices of 16 columns, 256 threads of 4 x 4 results.
constexpr int kPlainTile = 64;
constexpr int kPlainSlice = 16;
constexpr int kPlainThreads = 256;

}  // namespace cuda
}  // namespace ocelli
