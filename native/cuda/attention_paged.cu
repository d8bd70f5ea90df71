// q [T, heads, Dk] over the KV cache -> [T, heads, Dv]: see attention.cuh. Decode is bound by reading the cache once
// per KV head.
#ifdef __CUDACC__
#include "cuda/attention.cuh"

namespace ocelli {
namespace cuda {

#define OCELLI_ATTENTION(name, Tile, split)                                                              \
  extern "C" __global__ void __launch_bounds__(Tile::kThreads) name(const __grid_constant__ Attention a) { \
    attend<kBF16, Tile, split>(a);                                                                         \
  }
#define OCELLI_ATTENTIONS(dim)                                                              \
  OCELLI_ATTENTION(attention_bf16_##dim##_decode, DecodeAttention<dim>, false)              \
  OCELLI_ATTENTION(attention_bf16_##dim##_decode_split, DecodeAttention<dim>, true)         \
  OCELLI_ATTENTION(attention_bf16_##dim##_prefill, PrefillAttention<dim>, false)            \
  OCELLI_ATTENTION(attention_bf16_##dim##_prefill_split, PrefillAttention<dim>, true)
OCELLI_ATTENTIONS(64)
OCELLI_ATTENTIONS(128)
OCELLI_ATTENTIONS(256)

extern "C" __global__ void __launch_bounds__(kPlainDim) attention_merge(const __grid_constant__ Attention a) {
  merge_tiles(a);
}
extern "C" __global__ void __launch_bounds__(kPlainKeys, 1) attention_plain(const __grid_constant__ Attention a) {
  attend_plain(a);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include <algorithm>

#include "cuda/attention.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

// Tiles of the longest sequence that the block table has room for.
static int64_t tiles_of(const StepContext& step) {
  return (int64_t{step.max_blocks} * step.kv->block_size + kTileKeys - 1) / kTileKeys;
}

// How many tiles of each row a round has room for; 0: too few to be worth it.
static int64_t tiles_of_round(int64_t rows, int64_t tiles) {
  const int64_t room = std::min(kSplitSlots / std::max<int64_t>(rows, 1) - 1, tiles);
  return room * kSplitRounds < tiles ? 0 : room;
}

// A function of shapes and of the block table's room, which is always the same. While memory is planned that is not
// known: the most that it can be.
static size_t scratch(const OpCall& call) {
  const int64_t rows = call.in[0].shape[0] * call.in[0].shape[1];
  int64_t slots = kSplitSlots;
  if (call.step != nullptr) {
    const int64_t tiles = call.step->kv->dtype == DType::kBF16 ? tiles_of_round(rows, tiles_of(*call.step)) : 0;
    slots = tiles > 0 ? rows * (1 + tiles) : 0;
  }
  return static_cast<size_t>(slots * (call.out[0].shape[2] + 2) * 4);
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
  check_head(call.path, widest);
  if (kv.dtype != DType::kBF16 || a.dim_k % 8 != 0 || a.dim_v % 8 != 0)
    return launch("attention_paged", "attention_plain", {tokens, heads}, {kPlainKeys}, 0, a);
  a.partial = static_cast<float*>(call.scratch);
  const uint32_t group = heads / static_cast<uint32_t>(a.kv_heads);
  const int tiles = static_cast<int>(tiles_of(step));
  // Where a sequence has a row or a few, a tile of 64 would be padding.
  const bool few = int64_t{tokens} * group <= DecodeAttention<64>::kRows * int64_t{a.segments};
  const auto run = [&](auto tile) {
    using Tile = decltype(tile);
    const std::string name = "attention_bf16_" + std::to_string(Tile::kDim) + (few ? "_decode" : "_prefill");
    // As many row tiles as there can be: each sequence may leave one unfilled.
    Extent grid{tokens * group / Tile::kRows + static_cast<uint32_t>(a.segments), static_cast<uint32_t>(a.kv_heads)};
    a.tiles = static_cast<int>(tiles_of_round(int64_t{tokens} * heads, tiles));
    a.splits = std::min(kFillBlocks / static_cast<int>(std::max(grid.x * grid.y, 1u)), a.tiles);
    if (a.splits < 2)
      return launch("attention_paged", name.c_str(), grid, {Tile::kThreads}, Tile::kSharedBytes, a);
    grid.z = static_cast<uint32_t>(a.splits);
    const uint32_t columns = static_cast<uint32_t>(a.dim_v + 31) / 32 * 32;
    for (; a.first_tile < tiles; a.first_tile += a.tiles) {
      a.last_round = a.first_tile + a.tiles >= tiles ? 1 : 0;
      launch("attention_paged", (name + "_split").c_str(), grid, {Tile::kThreads}, Tile::kSharedBytes, a);
      launch("attention_paged", "attention_merge", {tokens, heads}, {columns}, 0, a);
    }
  };
  if (widest <= 64) return few ? run(DecodeAttention<64>{}) : run(PrefillAttention<64>{});
  if (widest <= 128) return few ? run(DecodeAttention<128>{}) : run(PrefillAttention<128>{});
  few ? run(DecodeAttention<256>{}) : run(PrefillAttention<256>{});
}

extern const OpImpl attention_paged;
const OpImpl attention_paged = {run_attention_paged, scratch};

}  // namespace cuda
}  // namespace ocelli
#endif
