#include "engine/kv_memory.h"

namespace ocelli {

KvMemory::KvMemory(Memory& memory, DType dtype, int32_t blocks, int32_t block_size, int32_t layers, int32_t kv_heads,
                   int32_t head_dim_k, int32_t head_dim_v) {
  const size_t k_bytes = static_cast<size_t>(blocks) * kv_heads * block_size * kv_row_bytes(dtype, head_dim_k);
  const size_t v_bytes = static_cast<size_t>(blocks) * kv_heads * block_size * kv_row_bytes(dtype, head_dim_v);
  memory_ = Allocation(memory, layers * (k_bytes + v_bytes), Use::kInParts, "the KV cache",
                       "Load the engine with a smaller kvCacheMemoryBytes.", "ERR_MEMORY");
  char* at = memory_.data();
  for (int32_t i = 0; i < layers; i++) {
    layers_.push_back({at, at + k_bytes});
    at += k_bytes + v_bytes;
  }
  cache_.dtype = dtype;
  cache_.block_size = block_size;
  cache_.blocks = blocks;
  cache_.layers = layers;
  cache_.kv_heads = kv_heads;
  cache_.head_dim_k = head_dim_k;
  cache_.head_dim_v = head_dim_v;
  cache_.layer = layers_.data();
}

}  // namespace ocelli
