// What attention kernels are told. Positions are those of one sequence's cache (paged) or of one segment (varlen).
#pragma once

#include "cuda/rows.h"

namespace ocelli {
namespace cuda {

struct Attention {
  Rows q, out;  // a row per token and head
  const void* k;
  const void* v;
  int format, dim_k, dim_v, heads, kv_heads;
  int tokens;    // of all sequences
  int segments;  // sequences or segments
  // Paged: k and v are [blocks, kv_heads, block_size, dim]. Null block_table: varlen, tokens at strides.
  const int* block_table;
  int max_blocks, block_size;
  const int* context;  // [segments]
  const int* hi;       // [tokens]
  long long k_token, k_head, v_token, v_head;
  const int* borders;  // [segments + 1]: tokens of a segment; null: `tokens / segments` each
  int window, causal;
  float scale, softcap;
  float capped_scale;  // scale / softcap, where there is one
  // Tiles side by side: each row's tiles from `first_tile` on are spread over `splits` blocks (0: none are). Of every
  // row, what came of the tiles before and of at most `tiles` more: o [tokens * heads, 1 + tiles, dim_v], then m and l
  // [tokens * heads, 1 + tiles, 2].
  float* partial;
  int splits, tiles, first_tile, last_round;
};

// Throws ERR_SHAPE for a head that no kernel has room for; `widest` of its dimensions.
void check_head(const char* path, int widest);

}  // namespace cuda
}  // namespace ocelli
