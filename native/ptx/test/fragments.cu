// mma.sync and ldmatrix on registers as they come: mma_test.cc decides what is in them.
#include <cstdint>

#define REGISTERS_A "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
#define MMA(name, shape, D, type)                                                                             \
  extern "C" __global__ void name(const uint32_t* as, const uint32_t* bs, const type* cs, type* ds) {         \
    const int l = threadIdx.x;                                                                                \
    uint32_t a[4], b[2];                                                                                      \
    type c[4];                                                                                                \
    for (int i = 0; i < 4; i++) a[i] = as[l * 4 + i];                                                         \
    for (int i = 0; i < 2; i++) b[i] = bs[l * 2 + i];                                                         \
    for (int i = 0; i < 4; i++) c[i] = cs[l * 4 + i];                                                         \
    asm volatile("mma.sync.aligned." shape " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+" D(c[0]), "+" D(c[1]), "+" D(c[2]), "+" D(c[3])                                         \
                 : REGISTERS_A, "r"(b[0]), "r"(b[1]));                                                        \
    for (int i = 0; i < 4; i++) ds[l * 4 + i] = c[i];                                                         \
  }

MMA(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32", "f", float)
MMA(mma_f16, "m16n8k16.row.col.f32.f16.f16.f32", "f", float)
MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32", "f", float)
MMA(mma_s8, "m16n8k32.row.col.s32.s8.s8.s32", "r", int32_t)

// Four 8 x 8 matrices of 16-bit elements, rows of 16 bytes one behind the other; plain and transposed.
extern "C" __global__ void load_matrices(const uint4* in, uint32_t* out) {
  __shared__ uint4 rows[32];
  const int l = threadIdx.x;
  rows[l] = in[l];
  __syncthreads();
  const uint32_t at = static_cast<uint32_t>(__cvta_generic_to_shared(&rows[l]));
  uint32_t r[4];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
  for (int i = 0; i < 4; i++) out[l * 8 + i] = r[i];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at));
  for (int i = 0; i < 4; i++) out[l * 8 + 4 + i] = r[i];
}
