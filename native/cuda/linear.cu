// y [M, N] = act(x [M, K] w^T + bias), w packed as rows of a multiple of 64 columns, zeros behind K. A gate is gated_act's.
//
// w of bf16 or f16: tensor cores (Ampere's mma.sync, which runs on everything since), after x was rounded to w's
// format, into scratch, where it has another. Per tile and slice of 64 columns: 2 * 64 * (m + n) bytes in, m * n / 32
// mma. Bound by memory at few rows (w passes once: 2 N K bytes) and by the tensor cores from about 300 rows on (A100:
// 312 TFLOP/s over 2 TB/s). w of f32: plain f32 arithmetic, each value of x widened.
#ifdef __CUDACC__
#include "cuda/linear.cuh"

namespace ocelli {
namespace cuda {

// The scale of a row in f16, a power of two: its largest value becomes one in [2^14, 2^15), so that none overflows and
// only what is less than 2^-28 of it loses bits by being small (rows below 2^-112 have a smaller factor). x: what values are multiplied by, y: what sums are.
__device__ inline float2 row_scale(float largest) {
  const int shift = min(14 + 127 - (__float_as_int(largest) >> 23), 126);  // -114 for what is not finite
  return make_float2(__int_as_float((127 + shift) << 23), __int_as_float((127 - shift) << 23));
}

// Rows of x in the format and to the width of `to`, zeros behind x's end, and in scales [m], where there are any, what
// their sums are multiplied by. Block: a row.
extern "C" __global__ void __launch_bounds__(kElementThreads) round_rows(Rows x, Rows to, float* scales) {
  __shared__ float parts[kElementThreads / 32];
  const int row = blockIdx.x;
  const long long begin = offset_of(x, row);
  float factor = 1;
  if (scales != nullptr) {
    float largest = 0;
    for (int column = threadIdx.x * kRun; column < x.width; column += kElementThreads * kRun) {
      float values[kRun];
      read_run(x, begin, column, values);
#pragma unroll
      for (int i = 0; i < kRun; i++) largest = fmaxf(largest, fabsf(values[i]));
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = largest;
    __syncthreads();
    for (int warp = 0; warp < kElementThreads / 32; warp++) largest = fmaxf(largest, parts[warp]);
    const float2 scale = row_scale(largest);
    factor = scale.x;
    if (threadIdx.x == 0) scales[row] = scale.y;
  }
  for (int column = threadIdx.x * kRun; column < to.width; column += kElementThreads * kRun) {
    float values[kRun];
    read_run(x, begin, column, values);
#pragma unroll
    for (int i = 0; i < kRun; i++) values[i] *= factor;
    write_run(to, offset_of(to, row), column, values);
  }
}

template <int kFormat, class Tile>
__device__ void linear_tile(const Rows& x, const float* scales, const uint16_t* w, int n_total, int k_total,
                            const Rows& bias, int biased, int act, const Rows& y, int m_total) {
  constexpr int kM = Tile::kM, kN = Tile::kN, kThreads = Tile::kThreads;
  constexpr int kPartM = kM / Tile::kWarpsM / 16, kPartN = kN / Tile::kWarpsN / 8;  // of a warp, in fragments
  extern __shared__ __align__(128) unsigned char shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  const int warp_row = warp / Tile::kWarpsN * kPartM * 16, warp_column = warp % Tile::kWarpsN * kPartN * 8;
  const int k_padded = (k_total + kSliceK - 1) / kSliceK * kSliceK, slices = k_padded / kSliceK;
  const uint32_t base = shared_address(shared);

  const auto fetch = [&](int slice) {
    const uint32_t to_x = base + slice % kStages * Tile::kStageBytes, to_w = to_x + kM * 128;
    for (int i = threadIdx.x; i < kM * 8; i += kThreads) {
      const int row = i / 8, k = slice * kSliceK + i % 8 * 8;
      const bool inside = row0 + row < m_total && k < k_total;
      const uint16_t* from = static_cast<const uint16_t*>(x.data) + (inside ? offset_of(x, row0 + row) + k : 0);
      copy_async(to_x + swizzled(row, i % 8), from, inside ? 16 : 0);
    }
    for (int i = threadIdx.x; i < kN * 8; i += kThreads) {
      const int row = i / 8;
      const bool inside = column0 + row < n_total;
      const uint16_t* from =
          w + (inside ? static_cast<size_t>(column0 + row) * k_padded + slice * kSliceK + i % 8 * 8 : 0);
      copy_async(to_w + swizzled(row, i % 8), from, inside ? 16 : 0);
    }
  };

  float sums[kPartM][kPartN][4] = {};
  for (int slice = 0; slice < kStages - 1; slice++) {
    if (slice < slices) fetch(slice);
    commit_copies();
  }
  for (int slice = 0; slice < slices; slice++) {
    wait_copies<kStages - 2>();
    __syncthreads();  // this slice is there for all, and nobody reads the one before it any more
    if (slice + kStages - 1 < slices) fetch(slice + kStages - 1);
    commit_copies();
    const uint32_t at_x = base + slice % kStages * Tile::kStageBytes, at_w = at_x + kM * 128;
#pragma unroll
    for (int k = 0; k < kSliceK / 16; k++) {
      uint32_t a[kPartM][4], b[kPartN / 2][4];
#pragma unroll
      for (int i = 0; i < kPartM; i++) {
        load_matrices(a[i], at_x + swizzled(warp_row + i * 16 + lane % 16, k * 2 + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < kPartN / 2; j++) {
        load_matrices(b[j], at_w + swizzled(warp_column + j * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
      }
#pragma unroll
      for (int i = 0; i < kPartM; i++) {
#pragma unroll
        for (int j = 0; j < kPartN; j++)
          multiply<kFormat>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }

  __syncthreads();
  constexpr int kStride = kN + kResultGap;
  const float* results = reinterpret_cast<const float*>(shared);
#pragma unroll
  for (int i = 0; i < kPartM; i++) {
    const int row = warp_row + i * 16 + lane / 4;
    float scale[2] = {1, 1};
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (scales != nullptr && row0 + row + half * 8 < m_total) scale[half] = scales[row0 + row + half * 8];
    }
#pragma unroll
    for (int j = 0; j < kPartN; j++) {
      const int column = warp_column + j * 8 + lane % 4 * 2;
      store_pair(base + (row * kStride + column) * 4, sums[i][j][0] * scale[0], sums[i][j][1] * scale[0]);
      store_pair(base + ((row + 8) * kStride + column) * 4, sums[i][j][2] * scale[1], sums[i][j][3] * scale[1]);
    }
  }
  __syncthreads();
  write_results<kM, kN, kThreads>(results, row0, column0, n_total, bias, biased, act, y, m_total);
}

#define OCELLI_LINEAR(name, format, Tile)                                                                            \
  extern "C" __global__ void __launch_bounds__(Tile::kThreads) name(                                                 \
      Rows x, const float* scales, const uint16_t* w, int n, int k, Rows bias, int biased, int act, Rows y, int m) { \
    linear_tile<format, Tile>(x, scales, w, n, k, bias, biased, act, y, m);                                          \
  }
OCELLI_LINEAR(linear_bf16_decode, kBF16, DecodeTile)
OCELLI_LINEAR(linear_bf16_middle, kBF16, MiddleTile)
OCELLI_LINEAR(linear_bf16_prefill, kBF16, PrefillTile)
OCELLI_LINEAR(linear_f16_decode, kF16, DecodeTile)
OCELLI_LINEAR(linear_f16_middle, kF16, MiddleTile)
OCELLI_LINEAR(linear_f16_prefill, kF16, PrefillTile)

// Any x, and w of f32: one chain of fmaf over k per result. The tiles are kept transposed, [k][row], with rows 66 words
// apart: then the stores of 8 rows x 4 columns and the reads of pairs both hit every bank once.
extern "C" __global__ void __launch_bounds__(kPlainThreads)
    linear_plain(Rows x, Rows w, int n_total, Rows bias, int biased, int act, Rows y, int m_total) {
  constexpr int kStride = kPlainTile + 2;
  __shared__ __align__(16) float xs[kPlainSlice][kStride], ws[kPlainSlice][kStride];
  __shared__ __align__(16) float results[kPlainTile * (kPlainTile + kResultGap)];
  const int row0 = blockIdx.y * kPlainTile, column0 = blockIdx.x * kPlainTile;
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const int load_row = threadIdx.x / 4, load_k = threadIdx.x % 4 * 4;
  float sums[4][4] = {};
  for (int k0 = 0; k0 < x.width; k0 += kPlainSlice) {
    float from_x[4] = {}, from_w[4] = {};
    if (row0 + load_row < m_total) read_four(x, offset_of(x, row0 + load_row), k0 + load_k, from_x);
    if (column0 + load_row < n_total) read_four(w, offset_of(w, column0 + load_row), k0 + load_k, from_w);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
      xs[load_k + i][load_row] = from_x[i];
      ws[load_k + i][load_row] = from_w[i];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kPlainSlice; k++) {
      if (k0 + k >= x.width) break;
      const float2 a0 = *reinterpret_cast<const float2*>(&xs[k][ty * 2]),
                   a1 = *reinterpret_cast<const float2*>(&xs[k][32 + ty * 2]);
      const float2 b0 = *reinterpret_cast<const float2*>(&ws[k][tx * 2]),
                   b1 = *reinterpret_cast<const float2*>(&ws[k][32 + tx * 2]);
      const float a[4] = {a0.x, a0.y, a1.x, a1.y}, b[4] = {b0.x, b0.y, b1.x, b1.y};
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const uint32_t row = shared_address(results) + (i / 2 * 32 + ty * 2 + i % 2) * (kPlainTile + kResultGap) * 4;
    store_pair(row + tx * 8, sums[i][0], sums[i][1]);
    store_pair(row + (32 + tx * 2) * 4, sums[i][2], sums[i][3]);
  }
  __syncthreads();
  write_results<kPlainTile, kPlainTile, kPlainThreads>(results, row0, column0, n_total, bias, biased, act, y, m_total);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "core/gated_linear.h"
#include "cuda/linear.h"

namespace ocelli {
namespace cuda {

extern const OpImpl linear;
extern const OpImpl gated_act;

// Rows of x as tensor cores take them, in scratch.
constexpr int rounded_width(int64_t k) { return static_cast<int>((k + kRun - 1) / kRun * kRun); }
constexpr int64_t rounded_bytes(int64_t m, int64_t k) { return m * rounded_width(k) * 2; }

static void run_linear(const OpCall& call) {
  if (gate_of(*call.attrs) != nullptr) return run_gated(call, linear, gated_act);
  if (quantized(call.in[1].packed->format)) return run_quantized(call);
  const PackedMatrix& w = *call.in[1].packed;
  const Rows x = rows_of(call.in[0]), y = rows_of(call.out[0]);
  const int m = count_of(x), n = static_cast<int>(w.n), k = static_cast<int>(w.k);
  const bool biased = is_biased(call);
  const Rows bias = biased ? rows_of(call.in[2]) : y;
  const int act = activation_of(call);
  const Format format = format_of(plain_dtype(w.format));
  if (format == kF32) {
    const Rows rows{w.data, format, k, {1, 1, n}, 1, {0, 0, packed_width(k)}};
    launch("linear", "linear_plain", {tiles(n, kPlainTile), tiles(m, kPlainTile)}, {kPlainThreads}, 0, x, rows, n, bias,
           biased ? 1 : 0, act, y, m);
    return;
  }
  // Tensor cores take whole runs of w's format.
  Rows rounded = x;
  float* scales = nullptr;
  if (x.format != format || !x.vectors || k % kRun != 0) {
    const int width = rounded_width(k);
    rounded = {call.scratch, format, width, {1, 1, m}, 1, {0, 0, width}};
    if (format == kF16 && x.format != kF16)
      scales = reinterpret_cast<float*>(static_cast<uint8_t*>(call.scratch) + rounded_bytes(m, k));
    launch("linear", "round_rows", {static_cast<uint32_t>(m)}, {kElementThreads}, 0, x, rounded, scales);
  }
  const auto run = [&](const char* bf16, const char* f16, auto tile) {
    using Tile = decltype(tile);
    launch("linear", format == kBF16 ? bf16 : f16, {tiles(n, Tile::kN), tiles(m, Tile::kM)}, {Tile::kThreads},
           Tile::kSharedBytes, rounded, scales, w.data, n, rounded.width, bias, biased ? 1 : 0, act, y, m);
  };
  if (m <= DecodeTile::kM) return run("linear_bf16_decode", "linear_f16_decode", DecodeTile{});
  if (m <= kMiddleRows) return run("linear_bf16_middle", "linear_f16_middle", MiddleTile{});
  run("linear_bf16_prefill", "linear_f16_prefill", PrefillTile{});
}

// Of any x: where its rows begin is not known while memory is planned.
static size_t scratch(const OpCall& call) {
  if (gate_of(*call.attrs) != nullptr) return scratch_of_gated(call, linear);
  const PackedMatrix& w = *call.in[1].packed;
  if (quantized(w.format)) return scratch_of_quantized(call);
  if (w.format == WeightFormat::kF32) return 0;
  const int64_t m = rows_in(call.in[0]);
  return static_cast<size_t>(rounded_bytes(m, w.k) + (w.format == WeightFormat::kF16 ? m * 4 : 0));
}

const OpImpl linear = {run_linear, scratch};

}  // namespace cuda
}  // namespace ocelli
#endif
