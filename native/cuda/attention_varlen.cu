// Attention inside segments: q [S, heads, D], k and v [S, kv_heads, D], segments by cu_seqlens; or rank 4, each b a
// segment. See attention.cuh.
#ifdef __CUDACC__
#include "cuda/attention.cuh"

namespace ocelli {
namespace cuda {

#define OCELLI_ATTENTION(name, format, dim)                                                                  \
  extern "C" __global__ void __launch_bounds__(PrefillAttention<dim>::kThreads)                              \
      name(const __grid_constant__ Attention a) {                                                            \
    attend<format, PrefillAttention<dim>, false>(a);                                                         \
  }
OCELLI_ATTENTION(attention_bf16_64, kBF16, 64)
OCELLI_ATTENTION(attention_bf16_128, kBF16, 128)
OCELLI_ATTENTION(attention_bf16_256, kBF16, 256)
OCELLI_ATTENTION(attention_f16_64, kF16, 64)
OCELLI_ATTENTION(attention_f16_128, kF16, 128)
OCELLI_ATTENTION(attention_f16_256, kF16, 256)

extern "C" __global__ void __launch_bounds__(kPlainKeys, 1) attention_plain(const __grid_constant__ Attention a) {
  attend_plain(a);
}

// Zeros for the rows outside of all segments. Block: a token.
extern "C" __global__ void __launch_bounds__(128) attention_outside(const __grid_constant__ Attention a) {
  const int token = blockIdx.x;
  if (token >= a.borders[0] && token < a.borders[a.segments]) return;
  for (int i = threadIdx.x; i < a.heads * a.dim_v; i += 128)
    write(a.out, offset_of(a.out, token * a.heads + i / a.dim_v) + i % a.dim_v, 0.f);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/attention.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_attention_varlen(const OpCall& call) {
  const Tensor& q = call.in[0];
  const Tensor& k = call.in[1];
  const Tensor& v = call.in[2];
  const int last = q.rank - 1;
  const bool bordered = call.inputs > 3 && call.in[3].present();
  Attention a{};
  a.q = rows_of(q);
  a.out = rows_of(call.out[0]);
  a.k = k.data;
  a.v = v.data;
  a.format = format_of(k.dtype);
  a.dim_k = static_cast<int>(q.shape[last]);
  a.dim_v = static_cast<int>(v.shape[last]);
  a.heads = static_cast<int>(q.shape[last - 1]);
  a.kv_heads = static_cast<int>(k.shape[last - 1]);
  a.tokens = static_cast<int>(q.rank == 4 ? q.shape[0] * q.shape[1] : q.shape[0]);
  a.segments = static_cast<int>(bordered ? call.in[3].shape[0] - 1 : q.rank == 4 ? q.shape[0] : 1);
  a.borders = bordered ? call.in[3].as<int32_t>() : nullptr;
  if (v.dtype != k.dtype ||
      (q.rank == 4 && (k.stride[0] != k.stride[1] * k.shape[1] || v.stride[0] != v.stride[1] * v.shape[1]))) {
    throw Error("ERR_SHAPE",
                "Expected k and v of one dtype and evenly spaced tokens for attention_varlen on CUDA but received " +
                    describe(k) + " and " + describe(v));
  }
  a.k_token = k.stride[last - 2];
  a.k_head = k.stride[last - 1];
  a.v_token = v.stride[last - 2];
  a.v_head = v.stride[last - 1];
  a.causal = call.attrs->number("causal", 0) != 0 ? 1 : 0;
  a.scale = static_cast<float>(call.attrs->number("scale"));
  const uint32_t tokens = static_cast<uint32_t>(a.tokens), heads = static_cast<uint32_t>(a.heads);
  if (tokens == 0) return;
  const int widest = a.dim_k > a.dim_v ? a.dim_k : a.dim_v;
  check_head(call.path, widest);
  bool whole_chunks = a.dim_k % 8 == 0 && a.dim_v % 8 == 0;
  for (const Tensor* tensor : {&k, &v}) {
    whole_chunks = whole_chunks && reinterpret_cast<uintptr_t>(tensor->data) % 16 == 0 &&
                   tensor->stride[last - 2] % 8 == 0 &&
                   (tensor->stride[last - 1] % 8 == 0 || tensor->shape[last - 1] == 1);
  }
  if (a.format == kF32 || !whole_chunks || a.segments == 0)
    return launch("attention_varlen", "attention_plain", {tokens, heads}, {kPlainKeys}, 0, a);
  const auto run = [&](const char* bf16, const char* f16, auto tile) {
    using Tile = decltype(tile);
    const uint32_t tiles =
        tokens * (heads / static_cast<uint32_t>(a.kv_heads)) / Tile::kRows + static_cast<uint32_t>(a.segments);
    launch("attention_varlen", a.format == kBF16 ? bf16 : f16, {tiles, static_cast<uint32_t>(a.kv_heads)},
           {Tile::kThreads}, Tile::kSharedBytes, a);
  };
  if (bordered) launch("attention_varlen", "attention_outside", {tokens}, {128}, 0, a);
  if (widest <= 64) return run("attention_bf16_64", "attention_f16_64", PrefillAttention<64>{});
  if (widest <= 128) return run("attention_bf16_128", "attention_f16_128", PrefillAttention<128>{});
  run("attention_bf16_256", "attention_f16_256", PrefillAttention<256>{});
}

extern const OpImpl attention_varlen;
const OpImpl attention_varlen = {run_attention_varlen, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
