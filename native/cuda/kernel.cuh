// What kernels are written with: values of any format as f32, sums over a block in a fixed order.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "cuda/rows.h"
#include "cuda/tune.cuh"

namespace ocelli {
namespace cuda {

// Where row `row` begins, in elements.
__device__ inline long long offset_of(const Rows& rows, int row) {
  const int inner = row % rows.shape[2];
  row /= rows.shape[2];
  return row / rows.shape[1] * rows.stride[0] + row % rows.shape[1] * rows.stride[1] + inner * rows.stride[2];
}

__device__ inline float read(const Rows& rows, long long at) {
  if (rows.format == kF32) return static_cast<const float*>(rows.data)[at];
  if (rows.format == kBF16) return __bfloat162float(static_cast<const __nv_bfloat16*>(rows.data)[at]);
  return __half2float(static_cast<const __half*>(rows.data)[at]);
}

__device__ inline void write(const Rows& rows, long long at, float value) {
  if (rows.format == kF32) {
    static_cast<float*>(rows.data)[at] = value;
  } else if (rows.format == kBF16) {
    static_cast<__nv_bfloat16*>(rows.data)[at] = __float2bfloat16_rn(value);
  } else {
    static_cast<__half*>(rows.data)[at] = __float2half_rn(value);
  }
}

// Two values of 16 bits in one word.
__device__ inline uint32_t pack(int format, float low, float high) {
  if (format == kBF16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

__device__ inline float2 unpack(int format, uint32_t word) {
  if (format == kBF16) return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&word));
  return __half22float2(*reinterpret_cast<const __half2*>(&word));
}

// The eight values of a row from `column` on, as far as the row goes; zeros behind its end.
__device__ inline void read_run(const Rows& rows, long long begin, int column, float (&values)[kRun]) {
  if (rows.vectors && column + kRun <= rows.width) {
    if (rows.format == kF32) {
      const float4* from = reinterpret_cast<const float4*>(static_cast<const float*>(rows.data) + begin + column);
      const float4 low = from[0], high = from[1];
      values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
      values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
      return;
    }
    const uint4 words = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(rows.data) + begin + column);
    const uint32_t word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float2 pair = unpack(rows.format, word[i]);
      values[2 * i] = pair.x, values[2 * i + 1] = pair.y;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) values[i] = column + i < rows.width ? read(rows, begin + column + i) : 0.f;
}

__device__ inline void write_run(const Rows& rows, long long begin, int column, const float (&values)[kRun]) {
  if (rows.vectors && column + kRun <= rows.width) {
    if (rows.format == kF32) {
      float4* to = reinterpret_cast<float4*>(static_cast<float*>(rows.data) + begin + column);
      to[0] = make_float4(values[0], values[1], values[2], values[3]);
      to[1] = make_float4(values[4], values[5], values[6], values[7]);
      return;
    }
    uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; i++) word[i] = pack(rows.format, values[2 * i], values[2 * i + 1]);
    *reinterpret_cast<uint4*>(static_cast<uint16_t*>(rows.data) + begin + column) =
        make_uint4(word[0], word[1], word[2], word[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) {
    if (column + i < rows.width) write(rows, begin + column + i, values[i]);
  }
}

// The same for four values.
__device__ inline void read_four(const Rows& rows, long long begin, int column, float (&values)[4]) {
  if (rows.vectors && column + 4 <= rows.width) {
    if (rows.format == kF32) {
      const float4 four = *reinterpret_cast<const float4*>(static_cast<const float*>(rows.data) + begin + column);
      values[0] = four.x, values[1] = four.y, values[2] = four.z, values[3] = four.w;
      return;
    }
    const uint2 words = *reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(rows.data) + begin + column);
    const float2 low = unpack(rows.format, words.x), high = unpack(rows.format, words.y);
    values[0] = low.x, values[1] = low.y, values[2] = high.x, values[3] = high.y;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; i++) values[i] = column + i < rows.width ? read(rows, begin + column + i) : 0.f;
}

__device__ inline void write_four(const Rows& rows, long long begin, int column, const float (&values)[4]) {
  if (rows.vectors && column + 4 <= rows.width) {
    if (rows.format == kF32) {
      *reinterpret_cast<float4*>(static_cast<float*>(rows.data) + begin + column) =
          make_float4(values[0], values[1], values[2], values[3]);
    } else {
      *reinterpret_cast<uint2*>(static_cast<uint16_t*>(rows.data) + begin + column) =
          make_uint2(pack(rows.format, values[0], values[1]), pack(rows.format, values[2], values[3]));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    if (column + i < rows.width) write(rows, begin + column + i, values[i]);
  }
}

__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  return value;
}

// The sum over the block, in every thread: lanes by a butterfly, then warps in ascending order.
__device__ inline float block_sum(float value) {
  __shared__ float parts[32];
  value = warp_sum(value);
  __syncthreads();  // of an earlier sum's readers
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < blockDim.x / 32; warp++) sum += parts[warp];
  return sum;
}

}  // namespace cuda
}  // namespace ocelli
