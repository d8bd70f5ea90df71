// Kernels that are right, and with -DDEFECT=1 wrong in one way each. defects_test.cc says which detector must tell.
#include <cstdint>

#ifndef DEFECT
#define DEFECT 0
#endif

// Reverses each block's 128 values through shared memory.
extern "C" __global__ void missing_barrier(const float* in, float* out) {
  __shared__ float values[128];
  const int t = threadIdx.x;
  values[t] = in[blockIdx.x * 128 + t];
#if !DEFECT
  __syncthreads();
#endif
  out[blockIdx.x * 128 + t] = values[127 - t];
}

// Reverses each warp's 32 values: no barrier of the block, but one of the warp.
extern "C" __global__ void missing_warp_barrier(const float* in, float* out) {
  __shared__ float values[128];
  const int t = threadIdx.x;
  values[t] = in[t];
#if !DEFECT
  __syncwarp();
#endif
  out[t] = values[t ^ 31];
}

// One product of [16, 16] and [16, 8] bf16, straight from the fragments' definition: a [16, 16], b [8, 16] (n, k), d
// [16, 8].
extern "C" __global__ void swapped_fragments(const uint16_t* a, const uint16_t* b, float* d) {
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  const uint32_t* a32 = reinterpret_cast<const uint32_t*>(a);
  const uint32_t* b32 = reinterpret_cast<const uint32_t*>(b);
  uint32_t a0 = a32[g * 8 + t], a1 = a32[(g + 8) * 8 + t], a2 = a32[g * 8 + t + 4], a3 = a32[(g + 8) * 8 + t + 4];
#if DEFECT
  const uint32_t other = a1;
  a1 = a2;
  a2 = other;
#endif
  const uint32_t b0 = b32[g * 8 + t], b1 = b32[g * 8 + t + 4];
  float c[4] = {};
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = c[i];
}

// Two tiles of 128 x 16 bytes in flight; sums of neighbours.
extern "C" __global__ void missing_copy_wait(const float* in, float* out, int tiles) {
  __shared__ __align__(16) float stage[2][512];
  const int t = threadIdx.x;
  const auto fetch = [&](int tile) {
    const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(&stage[tile % 2][t * 4]));
    if (tile < tiles)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(in + tile * 512 + t * 4) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  fetch(0);
  float sum = 0;
  for (int tile = 0; tile < tiles; tile++) {
    fetch(tile + 1);
#if DEFECT
    asm volatile("cp.async.wait_group 2;" ::: "memory");
#else
    asm volatile("cp.async.wait_group 1;" ::: "memory");
#endif
    __syncthreads();
    for (int i = 0; i < 4; i++) sum += stage[tile % 2][(t * 4 + i + 4) % 512];
    __syncthreads();
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  out[t] = sum;
}

extern "C" __global__ void out_of_bounds_tail(const float* in, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
#if DEFECT
  if (i <= n) out[i] = in[i] * 2;
#else
  if (i < n) out[i] = in[i] * 2;
#endif
}

// How often each of 32 values occurs.
extern "C" __global__ void shared_race(const int* in, int* out) {
  __shared__ int count[32];
  const int t = threadIdx.x;
  if (t < 32) count[t] = 0;
  __syncthreads();
#if DEFECT
  count[in[t]] = count[in[t]] + 1;
#else
  atomicAdd(&count[in[t]], 1);
#endif
  __syncthreads();
  if (t < 32) out[t] = count[t];
}

// Rows of n values, read four at a time.
extern "C" __global__ void misaligned_vector(const float* in, float* out, int n) {
  const float* row = in + static_cast<size_t>(threadIdx.x) * n;
  float sum = 0;
#if DEFECT
  const bool vectors = true;
#else
  const bool vectors = n % 4 == 0;
#endif
  if (vectors) {
    for (int i = 0; i + 3 < n; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(row + i);
      sum += v.x + v.y + v.z + v.w;
    }
    for (int i = n / 4 * 4; i < n; i++) sum += row[i];
  } else {
    for (int i = 0; i < n; i++) sum += row[i];
  }
  out[threadIdx.x] = sum;
}

// Halves of a block add up; the barrier belongs outside of the branch.
extern "C" __global__ void divergent_barrier(const float* in, float* out) {
  __shared__ float values[128];
  const int t = threadIdx.x;
  values[t] = in[t];
  __syncthreads();
  for (int half = 64; half > 0; half /= 2) {
    if (t < half) {
      values[t] += values[t + half];
#if DEFECT
      __syncthreads();
#endif
    }
#if !DEFECT
    __syncthreads();
#endif
  }
  if (t == 0) out[0] = values[0];
}

// One vertical pass of the resize: weights in fixed point with 22 bits, rounded half up.
extern "C" __global__ void resize_rounding(const uint8_t* in, const int* lo, const int* weights, uint8_t* out, int taps,
                                           int width, int rows) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
  if (x >= width || y >= rows) return;
#if DEFECT
  int sum = 0;
#else
  int sum = 1 << 21;
#endif
  for (int k = 0; k < taps; k++) sum += in[(lo[y] + k) * width + x] * weights[y * taps + k];
  sum >>= 22;
  out[y * width + x] = static_cast<uint8_t>(min(max(sum, 0), 255));
}

extern "C" __global__ void absent_lane(const float* in, float* out) {
  const int t = threadIdx.x;
  float value = in[t];
#if DEFECT
  if (t < 16) value += __shfl_xor_sync(~0u, value, 16);
#else
  const float other = __shfl_xor_sync(~0u, value, 16);
  if (t < 16) value += other;
#endif
  out[t] = value;
}

// A running sum in global memory; with the defect it begins with whatever lies there.
extern "C" __global__ void unwritten_memory(const float* in, float* sums, int n) {
  const int t = threadIdx.x;
#if !DEFECT
  sums[t] = 0;
#endif
  for (int i = 0; i < n; i++) sums[t] += in[t * n + i];
}

// Blocks exchange borders: within one launch nothing orders them.
extern "C" __global__ void race_of_blocks(const float* in, float* between, float* out) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  between[i] = in[i] * 2;
  __syncthreads();
#if DEFECT
  out[i] = between[(i + 1) % (gridDim.x * blockDim.x)];
#else
  out[i] = between[blockIdx.x * blockDim.x + (threadIdx.x + 1) % blockDim.x];
#endif
}

// A sum of floats by atomics depends on who comes first.
extern "C" __global__ void order_of_atomics(const float* in, float* sum) {
  const int t = threadIdx.x;
#if DEFECT
  atomicAdd(sum, in[t]);
#else
  float total = 0;
  if (t == 0) {
    for (int i = 0; i < blockDim.x; i++) total += in[i];
    *sum = total;
  }
#endif
}
