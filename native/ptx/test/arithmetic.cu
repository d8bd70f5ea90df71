// Every instruction family once or more, for arithmetic_test.cc, which knows each result from the host.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#define OUT(value) out[slot++ * n + i] = (value)

extern "C" __global__ void floats(const float* a, const float* b, const float* c, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float x = a[i], y = b[i], z = c[i];
  int slot = 0;
  OUT(__fmaf_rn(x, y, z));
  OUT(__fmaf_rd(x, y, z));
  OUT(__fmaf_ru(x, y, z));
  OUT(__fmaf_rz(x, y, z));
  OUT(__fadd_rd(x, y));
  OUT(__fadd_ru(x, y));
  OUT(__fmul_rz(x, y));
  OUT(__fdiv_rn(x, y));
  OUT(__fsqrt_rn(fabsf(x)));
  OUT(fminf(x, y));
  OUT(fmaxf(x, y));
  OUT(copysignf(x, y));
  OUT(truncf(x));
  OUT(floorf(x));
  OUT(rintf(x));
  OUT(__saturatef(x));
  OUT(__half2float(__float2half_rn(x)));
  OUT(__half2float(__float2half_rz(x)));
  OUT(__bfloat162float(__float2bfloat16_rn(x)));
  OUT(__bfloat162float(__float2bfloat16_rz(x)));
  OUT(isnan(x) ? 1.f : isinf(x) ? 2.f : 3.f);
}

extern "C" __global__ void doubles(const double* a, const double* b, double* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const double x = a[i], y = b[i];
  int slot = 0;
  OUT(x + y);
  OUT(fma(x, y, x));
  OUT(x / y);
  OUT(sqrt(fabs(x)));
  OUT(sin(x));  // large arguments call a function with carries and local arrays
  OUT(exp(x * 1e-3));
  OUT((double)(float)x);
  OUT((double)(long long)x);
  OUT(floor(x));
}

extern "C" __global__ void halves(const uint16_t* a, const uint16_t* b, const uint16_t* c, uint16_t* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const __half x = __ushort_as_half(a[i]), y = __ushort_as_half(b[i]), z = __ushort_as_half(c[i]);
  const __nv_bfloat16 p = __ushort_as_bfloat16(a[i]), q = __ushort_as_bfloat16(b[i]), r = __ushort_as_bfloat16(c[i]);
  int slot = 0;
  OUT(__half_as_ushort(__hadd(x, y)));
  OUT(__half_as_ushort(__hmul(x, y)));
  OUT(__half_as_ushort(__hfma(x, y, z)));
  OUT(__bfloat16_as_ushort(__hfma(p, q, r)));
  OUT(__bfloat16_as_ushort(__hadd(p, q)));
  OUT(__bfloat16_as_ushort(__hmul(p, q)));
  OUT(__half_as_ushort(__hmax(x, y)));
  const __half2 pair = __hfma2(__halves2half2(x, y), __halves2half2(y, z), __halves2half2(z, x));
  OUT(__half_as_ushort(__low2half(pair)));
  OUT(__half_as_ushort(__high2half(pair)));
  const __nv_bfloat162 wide = __hfma2(__halves2bfloat162(p, q), __halves2bfloat162(q, r), __halves2bfloat162(r, p));
  OUT(__bfloat16_as_ushort(__low2bfloat16(wide)));
  OUT(__bfloat16_as_ushort(__high2bfloat16(wide)));
}

extern "C" __global__ void integers(const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const uint32_t x = a[i], y = b[i], z = c[i];
  const int32_t sx = static_cast<int32_t>(x), sy = static_cast<int32_t>(y);
  int slot = 0;
  OUT(x + y * z);
  OUT(__umulhi(x, y));
  OUT(static_cast<uint32_t>(__mulhi(sx, sy)));
  OUT(y != 0 ? x / y : 7u);
  OUT(y != 0 ? x % y : 7u);
  OUT(y != 0 ? static_cast<uint32_t>(sx / (sy | 1)) : 7u);
  OUT(static_cast<uint32_t>(sx >> (z & 31)));
  OUT(x << (z & 31));
  OUT(__popc(x));
  OUT(__clz(x));
  OUT(__brev(x));
  OUT(__ffs(x));
  OUT(__byte_perm(x, y, z));
  OUT(__funnelshift_l(x, y, z));
  OUT(__funnelshift_rc(x, y, z & 63));
  OUT(static_cast<uint32_t>(min(sx, sy)));
  OUT(max(x, y));
  OUT((x & y) ^ (~z | x));
  OUT(static_cast<uint32_t>(__dp4a(sx, sy, static_cast<int>(z))));
  const unsigned long long wide = static_cast<unsigned long long>(x) << 32 | y,
                           other = static_cast<unsigned long long>(z) * x;
  const unsigned long long high = __umul64hi(wide, other), sum = wide + other;
  OUT(static_cast<uint32_t>(high));
  OUT(static_cast<uint32_t>(high >> 32));
  OUT(static_cast<uint32_t>(sum >> 32));
  OUT(static_cast<uint32_t>(__clzll(sum)));
  OUT(static_cast<uint32_t>(static_cast<int8_t>(x)));
  OUT(static_cast<uint32_t>(static_cast<int16_t>(x * y)));
  uint32_t chosen;
  switch (z % 9) {
    case 0:
      chosen = x;
      break;
    case 1:
      chosen = y * 3;
      break;
    case 2:
      chosen = x ^ y;
      break;
    case 3:
      chosen = x - y;
      break;
    case 4:
      chosen = __popc(y);
      break;
    case 5:
      chosen = x / 10;
      break;
    case 6:
      chosen = 77;
      break;
    default:
      chosen = z;
      break;
  }
  OUT(chosen);
  uint32_t steps = 0;  // lanes leave at different times
  for (uint32_t v = x % 1000 + 1; v != 1; v = v % 2 ? 3 * v + 1 : v / 2) steps++;
  OUT(steps);
  int32_t carry;
  asm("{ .reg .u32 t; add.cc.u32 t, %1, %2; addc.u32 %0, 0, 0; }" : "=r"(carry) : "r"(x), "r"(y));
  OUT(static_cast<uint32_t>(carry));
}

extern "C" __global__ void lanes(const uint32_t* a, uint32_t* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const uint32_t x = a[i];
  int slot = 0;
  OUT(__shfl_sync(~0u, x, 5));
  OUT(__shfl_up_sync(~0u, x, 3));
  OUT(__shfl_down_sync(~0u, x, 7, 16));
  OUT(__shfl_xor_sync(~0u, x, 9));
  OUT(__ballot_sync(~0u, x & 1));
  OUT(__all_sync(~0u, x != 12345));
  OUT(__any_sync(~0u, x & 64));
  OUT(__match_any_sync(~0u, x & 3));
  OUT(__reduce_add_sync(~0u, x));
  OUT(__reduce_max_sync(~0u, x));
  OUT(static_cast<uint32_t>(__reduce_min_sync(~0u, static_cast<int>(x))));
  // Only odd lanes take part, and the others go elsewhere meanwhile.
  uint32_t odd = 0;
  if (threadIdx.x & 1) {
    odd = __shfl_xor_sync(0xaaaaaaaau, x, 2);
  } else {
    odd = __popc(x);
  }
  OUT(odd);
}

extern "C" __global__ void atomics(const uint32_t* a, uint32_t* sums, unsigned long long* wide, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  atomicAdd(sums, a[i]);
  atomicMax(sums + 1, a[i]);
  atomicMin(reinterpret_cast<int*>(sums + 2), static_cast<int>(a[i]));
  atomicXor(sums + 3, a[i]);
  atomicAdd(wide, static_cast<unsigned long long>(a[i]) << 8);
  uint32_t old = sums[4], seen;
  do {
    seen = old;
    old = atomicCAS(sums + 4, seen, seen * 3 + 1);
  } while (old != seen);
}
