// q [T, heads, Dk] over the KV cache -> [T, heads, Dv]: see attention.cuh. Decode is bound by reading the cache once
// per KV head.
#ifdef __CUDACC__
#include "cuda/attention.cuh"

namespace ocelli {
namespace cuda {

#define OCELLI_ATTENTION(name, format, dim, warps)                                                     \
  extern "C" __global__ void __launch_bounds__(warps * 32) name(const __grid_constant__ Attention a) { \
    attend<format, AttentionTile<dim, warps>>(a);                                                      \
  }
OCELLI_ATTENTION(attention_bf16_64_decode, kBF16, 64, kDecodeWarps)
OCELLI_ATTENTION(attention_bf16_64_prefill, kBF16, 64, kPrefillWarps)
OCELLI_ATTENTION(attention_bf16_128_decode, kBF16, 128, kDecodeWarps)
OCELLI_ATTENTION(attention_bf16_128_prefill, kBF16, 128, kPrefillWarps)

extern "C" __global__ void __launch_bounds__(128) attention_merge(const __grid_constant__ Attention a) {
  merge_tiles(a);
}
extern "C" __global__ void __launch_bounds__(kPlainKeys, 1) attention_plain(const __grid_constant__ Attention a) {
  attend_plain(a);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/attention.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

// Tiles of the longest sequence that the block table has room for, where tiles go to blocks of their own; else 0.
static int splits_of(const OpCall& call) {
  if (call.step == nullptr) return 0;  // while memory is planned
  const StepContext& step = *call.step;
  if (step.kv->dtype == DType::kF32 || call.in[0].shape[0] > kSplitTokens) return 0;
  return static_cast<int>((int64_t{step.max_blocks} * step.kv->block_size + kTileKeys - 1) / kTileKeys);
}

static size_t scratch(const OpCall& call) {
  return static_cast<size_t>(call.in[0].shape[0] * call.in[0].shape[1] * splits_of(call) * (call.out[0].shape[2] + 2) *
                             4);
}

static void run_attention_paged(const OpCall& call) {
  const StepContext& step = *call.step;
  const KvCache& kv = *step.kv;
  const KvLayer& layer = kv.layer[call.attrs->integer("layer")];
  Attention a{};
  a.q = rows_of(call.in[0]);
  a.out = rows_of(call.out[0]);
  a.k = layer.k;
  a.v = layer.v;
  a.format = format_of(kv.dtype);
  a.dim_k = kv.head_dim_k;
  a.dim_v = kv.head_dim_v;
  a.heads = static_cast<int>(call.in[0].shape[1]);
  a.kv_heads = kv.kv_heads;
  a.tokens = static_cast<int>(call.in[0].shape[0]);
  a.segments = step.sequences;
  a.block_table = step.block_table;
  a.max_blocks = step.max_blocks;
  a.block_size = kv.block_size;
  a.context = step.context;
  a.hi = step.hi;
  a.borders = step.cu_rows;
  a.window = static_cast<int>(call.attrs->integer("window", 0));
  a.scale = static_cast<float>(call.attrs->number("scale"));
  a.softcap = static_cast<float>(call.attrs->number("softcap", 0));
  a.capped_scale = a.softcap > 0 ? a.scale / a.softcap : 0;
  const uint32_t tokens = static_cast<uint32_t>(a.tokens), heads = static_cast<uint32_t>(a.heads);
  if (tokens == 0) return;
  const int widest = a.dim_k > a.dim_v ? a.dim_k : a.dim_v;
  if (kv.dtype != DType::kBF16 || widest > 128 || a.dim_k % 8 != 0 || a.dim_v % 8 != 0)
    return launch("attention_paged", "attention_plain", {tokens, heads}, {kPlainKeys}, 0, a);
  a.splits = splits_of(call);
  a.partial = static_cast<float*>(call.scratch);
  const auto run = [&](const char* name, auto tile) {
    using Tile = decltype(tile);
    // As many row tiles as there can be: each sequence may leave one unfilled.
    const uint32_t tiles =
        tokens * (heads / static_cast<uint32_t>(a.kv_heads)) / Tile::kRows + static_cast<uint32_t>(a.segments);
    launch("attention_paged", name,
           {tiles, static_cast<uint32_t>(a.kv_heads), a.splits > 0 ? static_cast<uint32_t>(a.splits) : 1},
           {Tile::kWarps * 32}, Tile::kSharedBytes, a);
  };
  const bool small = widest <= 64;
  if (a.splits > 0) {
    small ? run("attention_bf16_64_decode", AttentionTile<64, kDecodeWarps>{})
          : run("attention_bf16_128_decode", AttentionTile<128, kDecodeWarps>{});
    launch("attention_paged", "attention_merge", {tokens, heads}, {128}, 0, a);
  } else {
    small ? run("attention_bf16_64_prefill", AttentionTile<64, kPrefillWarps>{})
          : run("attention_bf16_128_prefill", AttentionTile<128, kPrefillWarps>{});
  }
}

extern const OpImpl attention_paged;
const OpImpl attention_paged = {run_attention_paged, scratch};

}  // namespace cuda
}  // namespace ocelli
#endif
