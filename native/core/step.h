// What attention knows of the batch: which rows belong to which sequence, and where their keys and values lie.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace ocelli {

// Keys of one layer: [blocks, kv_heads, block_size, head_dim_k]; values likewise with head_dim_v. Of int8 a row, one
// token's of one head, is its scale in f32 and behind it its quants: largest magnitude / 127 and quants from -127 to 127.
struct KvLayer {
  void* k = nullptr;
  void* v = nullptr;
};

struct KvCache {
  DType dtype = DType::kF32;  // f32, bf16 or int8
  int32_t block_size = 16;    // divides kKvTile
  int32_t blocks = 0;
  int32_t layers = 0;
  int32_t kv_heads = 0;
  int32_t head_dim_k = 0;
  int32_t head_dim_v = 0;
  const KvLayer* layer = nullptr;  // [layers]
};

constexpr int64_t kKvScaleBytes = 4;

// Bytes of a row of `width` numbers in a KV cache.
constexpr int64_t kv_row_bytes(DType dtype, int64_t width) {
  return dtype == DType::kI8 ? kKvScaleBytes + (width + 3) / 4 * 4 : width * size_of(dtype);
}

// Attention merges (m, l, o) per tile of this many absolute positions, in tile order: a row's bits depend on its
// operands alone, however the prompt was chunked (docs/architecture.md, Determinism).
constexpr int kKvTile = 256;

struct StepContext {
  int32_t sequences = 0;
  const int32_t* cu_rows = nullptr;      // [sequences + 1]: rows of sequence s are [cu_rows[s], cu_rows[s + 1])
  const int32_t* context = nullptr;      // [sequences]: tokens in the cache after this step's rows are stored
  const int32_t* block_table = nullptr;  // [sequences, max_blocks]
  int32_t max_blocks = 0;
  const int32_t* slot = nullptr;  // [T]: block * block_size + offset where the row's k and v go; -1: not stored
  const int32_t* hi = nullptr;    // [T]: a row sees cache positions [lo, hi); causal: own position + 1. lo: the op's window
  const KvCache* kv = nullptr;

  // Sizes and addresses, not what lies there.
  bool operator==(const StepContext& o) const {
    return sequences == o.sequences && cu_rows == o.cu_rows && context == o.context && block_table == o.block_table &&
           max_blocks == o.max_blocks && slot == o.slot && hi == o.hi && kv == o.kv;
  }
};

}  // namespace ocelli
