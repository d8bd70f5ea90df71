// linear with weights in blocks of 32 along k: the arithmetic of core/quantize.h, bit by bit that of the CPU's kernels.
//
// Activations are quantised once, into scratch. A block is one mma.sync m16n8k32 on bytes, exact in int32, which begins
// with the bits of 12582912.f: what comes out is that float plus the block's sum, with no conversion. Activations of
// two bytes take two, and the low bytes' begins with 128 times the sum of the high ones'. Blocks then add up in f32 in
// ascending order, for every number of rows. In: N K bytes (int4: half) and 1/16 (int4: 1/4) of that for scales. Bound
// by memory at few rows; from some hundred rows on by the f32 arithmetic of scales, 3 (int4: 4) operations a block and
// result, which take longer than its mma.
#ifdef __CUDACC__
#include "cuda/linear.cuh"
#include "cuda/quantized.h"

namespace ocelli {
namespace cuda {

constexpr float kExact = 12582912.f;  // 1.5 x 2^23: of whole numbers below 2^22, added to its bits, the sum is a float

// Eight values of a block in each of four lanes: max|x| over the block, NaN where something is not finite.
__device__ inline float largest_of_run(const float (&values)[kRun]) {
  float largest = 0, check = 0;
#pragma unroll
  for (int i = 0; i < kRun; i++) largest = fmaxf(largest, fabsf(values[i])), check += values[i] - values[i];
  return largest + check;
}
// fmaxf passes NaN over; a NaN must stay.
__device__ inline float larger(float a, float b) { return isnan(a) || isnan(b) ? a + b : fmaxf(a, b); }

// As activation_scale() has it: the scale, and what x is multiplied by.
__device__ inline float2 activation_scale(float largest, float most) {
  if (largest < 1e-30f) return make_float2(0.f, 0.f);
  return make_float2(largest / most, most / largest);
}

// Writes a run of quants, or of their high and low bytes; returns their sum over the block.
__device__ inline int write_quants(const float (&values)[kRun], float2 scale, unsigned char* to,
                                   unsigned char* to_low = nullptr) {
  uint32_t words[2] = {}, lows[2] = {};
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kRun; i++) {
    const int q = isnan(scale.x) ? 0 : __float2int_rn(__fmul_rn(values[i], scale.y));
    sum += q;
    const int high = to_low != nullptr ? (q + 64) >> 7 : q;
    words[i / 4] |= static_cast<uint32_t>(high & 255) << (i % 4 * 8);
    lows[i / 4] |= static_cast<uint32_t>((q - high * 128) & 255) << (i % 4 * 8);
  }
  if (to != nullptr) *reinterpret_cast<uint2*>(to) = make_uint2(words[0], words[1]);
  if (to_low != nullptr) *reinterpret_cast<uint2*>(to_low) = make_uint2(lows[0], lows[1]);
  sum += __shfl_xor_sync(~0u, sum, 1);
  return sum + __shfl_xor_sync(~0u, sum, 2);
}

// A scale a block. A warp: a slice of two rows, so that it writes whole sectors.
extern "C" __global__ void __launch_bounds__(kElementThreads)
    quantize_blocks(Rows x, unsigned char* q, float* scales, float* sums, int summed, int two_bytes, int m,
                    int slices) {
  const int lane = threadIdx.x % 32, slice = blockIdx.x * (kElementThreads / 32) + threadIdx.x / 32;
  const int row = blockIdx.y * 2 + lane / 16, column = slice * kQuantSlice + lane % 16 * kRun;
  if (slice >= slices) return;
  float values[kRun] = {};
  if (row < m && column < x.width) read_run(x, offset_of(x, row), column, values);
  float largest = largest_of_run(values);
  largest = larger(largest, __shfl_xor_sync(~0u, largest, 1));
  largest = larger(largest, __shfl_xor_sync(~0u, largest, 2));
  const float2 scale = activation_scale(largest, two_bytes ? 127 * 128 : 127);
  const long long width = static_cast<long long>(slices) * kQuantSlice, at = row * width + column;
  unsigned char* const to = row < m ? q + at : nullptr;
  const int sum = write_quants(values, scale, to, two_bytes && row < m ? to + m * width : nullptr);
  if (row >= m || lane % 4 != 0) return;
  const long long block = (static_cast<long long>(slice) * m + row) * kBlocksOfSlice + lane % 16 / 4;
  scales[block] = scale.x;
  if (summed) sums[block] = __fmul_rn(static_cast<float>(sum), scale.x);
}

// A scale a row. Block: a row.
extern "C" __global__ void __launch_bounds__(kElementThreads)
    quantize_rows(Rows x, unsigned char* q, float* scales, float* sums, int summed, int m, int slices) {
  __shared__ float parts[kElementThreads / 32];
  const int row = blockIdx.x, width = slices * kQuantSlice;
  const long long begin = offset_of(x, row);
  float largest = 0;
  for (int column = threadIdx.x * kRun; column < x.width; column += kElementThreads * kRun) {
    float values[kRun];
    read_run(x, begin, column, values);
    largest = larger(largest, largest_of_run(values));
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) largest = larger(largest, __shfl_xor_sync(~0u, largest, step));
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = 0;
  for (int warp = 0; warp < kElementThreads / 32; warp++) largest = larger(largest, parts[warp]);
  const float2 scale = activation_scale(largest, 127);
  if (threadIdx.x == 0) scales[row] = scale.x;
  const int rounds = (width + kElementThreads * kRun - 1) / (kElementThreads * kRun);
  for (int round = 0; round < rounds; round++) {
    const int column = (round * kElementThreads + threadIdx.x) * kRun;
    float values[kRun] = {};
    if (column < x.width) read_run(x, begin, column, values);
    const long long at = static_cast<long long>(row) * width + column;
    const int sum = write_quants(values, scale, column < width ? q + at : nullptr);
    if (!summed || column >= width || threadIdx.x % 4 != 0) continue;
    const long long slice = column / kQuantSlice;
    sums[(slice * m + row) * kBlocksOfSlice + column % kQuantSlice / 32] = static_cast<float>(sum);
  }
}

// Rows of 64 bytes: two of them in a row of banks, and chunk c of eight rows in eight different bank groups.
__device__ inline uint32_t swizzled_half(int row, int chunk) {
  return static_cast<uint32_t>(row * 64 + (chunk ^ (row / 2 & 3)) * 16);
}

// c [16, 8] = a [16, 32] b [32, 8] in s8, as floats behind kExact.
__device__ inline void multiply_bytes(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  int sums[4];
  const int start = __float_as_int(kExact);
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, "
      "%10};"
      : "=r"(sums[0]), "=r"(sums[1]), "=r"(sums[2]), "=r"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(start));
#pragma unroll
  for (int i = 0; i < 4; i++) c[i] = __fsub_rn(__int_as_float(sums[i]), kExact);
}

// The same for activations of two bytes.
__device__ inline void multiply_pairs(float (&c)[4], const uint32_t (&high)[4], const uint32_t (&low)[4], uint32_t b0,
                                      uint32_t b1) {
  int sums[4] = {};
#pragma unroll
  for (int byte = 0; byte < 2; byte++) {
    const uint32_t(&a)[4] = byte == 0 ? high : low;
#pragma unroll
    for (int& sum : sums) sum *= 128;
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#pragma unroll
  for (int i = 0; i < 4; i++) c[i] = __int2float_rn(sums[i]);
}

// Scales of two neighbouring columns, and in int4 their `least`.
struct ColumnScales {
  float scale[2], least[2];
};
template <bool kFour>
__device__ inline ColumnScales column_scales(const unsigned char* from) {
  if constexpr (kFour) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    const float2 first = unpack(kF16, words.x), second = unpack(kF16, words.y);
    return {{first.x, second.x}, {first.y, second.y}};
  } else {
    const float2 both = unpack(kF16, *reinterpret_cast<const uint32_t*>(from));
    return {{both.x, both.y}, {0, 0}};
  }
}

template <bool kFour, Meeting kMeeting, class Tile>
__device__ void quantized_tile(const unsigned char* x, const float* x_scales, const float* x_sums,
                               const unsigned char* w, const unsigned char* w_scales, int columns, int n_total,
                               int slices, const Rows& bias, int biased, int act, const Rows& y, int m_total) {
  constexpr int kM = Tile::kM, kN = Tile::kN, kThreads = Tile::kThreads;
  constexpr int kPartM = kM / Tile::kWarpsM / 16, kPartN = kN / Tile::kWarpsN / 8;  // of a warp, in fragments
  constexpr int kRowBytes = kFour ? 64 : 128, kColumnBytes = kFour ? 4 : 2;
  constexpr int kScaleChunks = kN * kColumnBytes / 16;  // of a block
  constexpr bool kRows = kMeeting == kByRows;
  constexpr int kBytes = kMeeting == kTwoBytes ? 2 : 1;
  // A stage: rows of x, of its low bytes, rows of w, scales of w, scales of x, sums of x.
  constexpr int kAtLow = kM * 128, kAtW = kM * 128 * kBytes, kAtWScales = kAtW + kN * kRowBytes,
                kAtXScales = kAtWScales + kBlocksOfSlice * kN * kColumnBytes,
                kAtXSums = kAtXScales + (kRows ? 0 : kM * 16), kStage = kAtXSums + (kFour ? kM * 16 : 0);
  static_assert(kStage <= Tile::kStageBytes, "a stage has more bytes than were asked for");
  extern __shared__ __align__(128) unsigned char shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row0 = blockIdx.y * kM, column0 = blockIdx.x * kN;
  const int warp_row = warp / Tile::kWarpsN * kPartM * 16, warp_column = warp % Tile::kWarpsN * kPartN * 8;
  const uint32_t base = shared_address(shared);

  // `count` chunks of 16 bytes of floats that lie by slice and row.
  const auto fetch_floats = [&](uint32_t to, const float* from, int slice) {
    for (int i = threadIdx.x; i < kM; i += kThreads) {
      const bool inside = row0 + i < m_total;
      copy_async(to + i * 16, from + (inside ? (static_cast<long long>(slice) * m_total + row0 + i) * 4 : 0),
                 inside ? 16 : 0);
    }
  };
  const auto fetch = [&](int slice) {
    const uint32_t to = base + slice % kStages * kStage;
    for (int i = threadIdx.x; i < kM * 8 * kBytes; i += kThreads) {
      const int row = kBytes == 1 ? i / 8 : i / 8 % kM, byte = kBytes == 1 ? 0 : i / 8 / kM;
      const bool inside = row0 + row < m_total;
      const long long of_row = static_cast<long long>(byte) * m_total + row0 + row;
      const long long at = inside ? (of_row * slices + slice) * 128 + i % 8 * 16 : 0;
      copy_async(to + byte * kAtLow + swizzled(row, i % 8), x + at, inside ? 16 : 0);
    }
    constexpr int kChunks = kRowBytes / 16;
    for (int i = threadIdx.x; i < kN * kChunks; i += kThreads) {
      const int row = i / kChunks, chunk = i % kChunks;
      const bool inside = column0 + row < n_total;
      const long long at =
          inside ? (static_cast<long long>(column0 + row) * slices + slice) * kRowBytes + chunk * 16 : 0;
      copy_async(to + kAtW + (kFour ? swizzled_half(row, chunk) : swizzled(row, chunk)), w + at, inside ? 16 : 0);
    }
    for (int i = threadIdx.x; i < kBlocksOfSlice * kScaleChunks; i += kThreads) {
      const int block = slice * kBlocksOfSlice + i / kScaleChunks,
                column = column0 + i % kScaleChunks * 16 / kColumnBytes;
      const bool inside = column < columns;
      const long long at = inside ? (static_cast<long long>(block) * columns + column) * kColumnBytes : 0;
      copy_async(to + kAtWScales + i * 16, w_scales + at, inside ? 16 : 0);
    }
    if constexpr (!kRows) fetch_floats(to + kAtXScales, x_scales, slice);
    if constexpr (kFour) fetch_floats(to + kAtXSums, x_sums, slice);
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
    const uint32_t stage = slice % kStages * kStage, at_x = base + stage, at_w = at_x + kAtW;
    // In int4 all blocks of eight columns come at once: a matrix is a block.
    uint32_t nibbles[kFour ? kPartN : 1][4];
    if constexpr (kFour) {
#pragma unroll
      for (int j = 0; j < kPartN; j++)
        load_matrices(nibbles[j], at_w + swizzled_half(warp_column + j * 8 + lane % 8, lane / 8));
    }
#pragma unroll
    for (int k = 0; k < kBlocksOfSlice; k++) {
      uint32_t a[kPartM][4], low[kBytes == 2 ? kPartM : 1][4], b[kPartN][2];
#pragma unroll
      for (int i = 0; i < kPartM; i++) {
        const uint32_t at = at_x + swizzled(warp_row + i * 16 + lane % 16, k * 2 + lane / 16);
        load_matrices(a[i], at);
        if constexpr (kBytes == 2) load_matrices(low[i], at + kAtLow);
      }
      if constexpr (kFour) {
#pragma unroll
        for (int j = 0; j < kPartN; j++) {
          b[j][0] = nibbles[j][k] & 0x0f0f0f0f;
          b[j][1] = nibbles[j][k] >> 4 & 0x0f0f0f0f;
        }
      } else {
#pragma unroll
        for (int j = 0; j < kPartN; j += 2) {
          uint32_t four[4];
          load_matrices(four, at_w + swizzled(warp_column + j * 8 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
          b[j][0] = four[0], b[j][1] = four[1], b[j + 1][0] = four[2], b[j + 1][1] = four[3];
        }
      }
      float x_scale[kPartM][2], x_sum[kPartM][2];
#pragma unroll
      for (int i = 0; i < kPartM * 2; i++) {
        const unsigned char* of_row = shared + stage + (warp_row + i / 2 * 16 + i % 2 * 8 + lane / 4) * 16 + k * 4;
        if constexpr (!kRows) x_scale[i / 2][i % 2] = *reinterpret_cast<const float*>(of_row + kAtXScales);
        if constexpr (kFour) x_sum[i / 2][i % 2] = *reinterpret_cast<const float*>(of_row + kAtXSums);
      }
#pragma unroll
      for (int j = 0; j < kPartN; j++) {
        const ColumnScales column = column_scales<kFour>(shared + stage + kAtWScales +
                                                         (k * kN + warp_column + j * 8 + lane % 4 * 2) * kColumnBytes);
#pragma unroll
        for (int i = 0; i < kPartM; i++) {
          float products[4];
          if constexpr (kBytes == 2) {
            multiply_pairs(products, a[i], low[i], b[j][0], b[j][1]);
          } else {
            multiply_bytes(products, a[i], b[j][0], b[j][1]);
          }
#pragma unroll
          for (int e = 0; e < 4; e++) {
            float& sum = sums[i][j][e];
            const float scale = column.scale[e % 2];
            sum = __fmaf_rn(products[e], kRows ? scale : __fmul_rn(scale, x_scale[i][e / 2]), sum);
            if constexpr (kFour) sum = __fmaf_rn(column.least[e % 2], x_sum[i][e / 2], sum);
          }
        }
      }
    }
  }

  __syncthreads();
  constexpr int kStride = kN + kResultGap;
#pragma unroll
  for (int i = 0; i < kPartM; i++) {
    const int row = warp_row + i * 16 + lane / 4;
    float scale[2] = {1, 1};
    if constexpr (kRows) {
      for (int half = 0; half < 2; half++)
        scale[half] = row0 + row + half * 8 < m_total ? x_scales[row0 + row + half * 8] : 0.f;
    }
#pragma unroll
    for (int j = 0; j < kPartN; j++) {
      const int column = warp_column + j * 8 + lane % 4 * 2;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        store_pair(base + ((row + half * 8) * kStride + column) * 4, __fmul_rn(sums[i][j][half * 2], scale[half]),
                   __fmul_rn(sums[i][j][half * 2 + 1], scale[half]));
      }
    }
  }
  __syncthreads();
  write_results<kM, kN, kThreads>(reinterpret_cast<const float*>(shared), row0, column0, n_total, bias, biased, act, y,
                                  m_total);
}

#define OCELLI_QUANTIZED(name, four, meeting, Tile)                                                                   \
  extern "C" __global__ void __launch_bounds__(Tile::kThreads, 1) name(                                               \
      const unsigned char* x, const float* x_scales, const float* x_sums, const unsigned char* w,                     \
      const unsigned char* w_scales, int columns, int n, int slices, Rows bias, int biased, int act, Rows y, int m) { \
    quantized_tile<four, meeting, Tile>(x, x_scales, x_sums, w, w_scales, columns, n, slices, bias, biased, act, y,   \
                                        m);                                                                           \
  }
#define OCELLI_QUANTIZED_TILES(name, four)                                   \
  OCELLI_QUANTIZED(name##_decode, four, kByBlocks, QuantizedDecodeTile)      \
  OCELLI_QUANTIZED(name##_middle, four, kByBlocks, QuantizedMiddleTile)      \
  OCELLI_QUANTIZED(name##_prefill, four, kByBlocks, QuantizedPrefillTile)    \
  OCELLI_QUANTIZED(name##_rows_decode, four, kByRows, QuantizedDecodeTile)   \
  OCELLI_QUANTIZED(name##_rows_middle, four, kByRows, QuantizedMiddleTile)   \
  OCELLI_QUANTIZED(name##_rows_prefill, four, kByRows, QuantizedPrefillTile) \
  OCELLI_QUANTIZED(name##_exact_decode, four, kTwoBytes, ExactDecodeTile)    \
  OCELLI_QUANTIZED(name##_exact_middle, four, kTwoBytes, ExactMiddleTile)
OCELLI_QUANTIZED_TILES(linear_i8, false)
OCELLI_QUANTIZED_TILES(linear_i4, true)

}  // namespace cuda
}  // namespace ocelli
#else
#include "core/quantize.h"
#include "cuda/linear.h"
#include "cuda/quantized.h"

namespace ocelli {
namespace cuda {

namespace {

struct Kind {
  bool four;
  Meeting meeting;

  explicit Kind(WeightFormat format) : four(four_bits(format)) {
    const Activations activations = activations_of(format);
    meeting = activations == Activations::kBlocks ? kByBlocks : activations == Activations::kRows ? kByRows : kTwoBytes;
  }
};

// Bytes of the activations' parts in scratch, each a multiple of 16.
struct Parts {
  int64_t quants, scales, sums;

  Parts(const Kind& kind, int64_t m, int64_t k)
      : quants(m * quant_slices(k) * kQuantSlice * (kind.meeting == kTwoBytes ? 2 : 1)),
        scales(kind.meeting == kByRows ? (m + 3) / 4 * 16 : m * quant_slices(k) * 16),
        sums(kind.four ? m * quant_slices(k) * 16 : 0) {}
};

}  // namespace

size_t scratch_of_quantized(const OpCall& call) {
  const PackedMatrix& w = *call.in[1].packed;
  const Parts parts(Kind(w.format), rows_in(call.in[0]), w.k);
  return static_cast<size_t>(parts.quants + parts.scales + parts.sums);
}

void run_quantized(const OpCall& call) {
  const PackedMatrix& w = *call.in[1].packed;
  const Kind kind(w.format);
  const Rows x = rows_of(call.in[0]), y = rows_of(call.out[0]);
  const int m = count_of(x), n = static_cast<int>(w.n), slices = static_cast<int>(quant_slices(w.k));
  const int columns = static_cast<int>(scale_columns(n));
  const bool biased = is_biased(call);
  const Rows bias = biased ? rows_of(call.in[2]) : y;
  const int act = activation_of(call);
  const Parts parts(kind, m, w.k);
  unsigned char* const q = static_cast<unsigned char*>(call.scratch);
  float* const scales = reinterpret_cast<float*>(q + parts.quants);
  float* const sums = reinterpret_cast<float*>(q + parts.quants + parts.scales);
  const unsigned char* const weights = static_cast<const unsigned char*>(w.data);
  const unsigned char* const weight_scales = weights + w.n * weight_row_bytes(kind.four, w.k);
  if (m == 0 || n == 0) return;
  const int summed = kind.four ? 1 : 0;
  if (kind.meeting == kByRows) {
    launch("linear_quantized", "quantize_rows", {static_cast<uint32_t>(m)}, {kElementThreads}, 0, x, q, scales, sums,
           summed, m, slices);
  } else {
    launch("linear_quantized", "quantize_blocks", {tiles(slices, kElementThreads / 32), tiles(m, 2)}, {kElementThreads},
           0, x, q, scales, sums, summed, kind.meeting == kTwoBytes ? 1 : 0, m, slices);
  }
  const auto run = [&](const char* size, auto tile) {
    using Tile = decltype(tile);
    const char* const kMeetings[] = {"", "_rows", "_exact"};
    const std::string kernel = std::string(kind.four ? "linear_i4" : "linear_i8") + kMeetings[kind.meeting] + size;
    launch("linear_quantized", kernel.c_str(), {tiles(n, Tile::kN), tiles(m, Tile::kM)}, {Tile::kThreads},
           Tile::kSharedBytes, q, scales, sums, weights, weight_scales, columns, n, slices, bias, biased ? 1 : 0, act,
           y, m);
  };
  if (kind.meeting == kTwoBytes) {
    if (m <= ExactDecodeTile::kM) return run("_decode", ExactDecodeTile{});
    return run("_middle", ExactMiddleTile{});
  }
  if (m <= QuantizedDecodeTile::kM) return run("_decode", QuantizedDecodeTile{});
  if (m <= kMiddleRows) return run("_middle", QuantizedMiddleTile{});
  run("_prefill", QuantizedPrefillTile{});
}

}  // namespace cuda
}  // namespace ocelli
#endif
