#include "engine/kv_memory.h"

#include <sys/mman.h>

#include "core/check.h"

namespace ocelli {

KvMemory::KvMemory(DType dtype, int32_t blocks, int32_t block_size, int32_t layers, int32_t kv_heads,
                   int32_t head_dim_k, int32_t head_dim_v) {
  const size_t k_bytes = static_cast<size_t>(blocks) * kv_heads * block_size * head_dim_k * size_of(dtype);
  const size_t v_bytes = static_cast<size_t>(blocks) * kv_heads * block_size * head_dim_v * size_of(dtype);
  bytes_ = layers * (k_bytes + v_bytes);
  if (bytes_ > 0) {
    base_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base_ == MAP_FAILED) {
      base_ = nullptr;
      throw Error("ERR_MEMORY",
                  "Expected " + std::to_string(bytes_) + " bytes for the KV cache but the system refused them",
                  "Load the engine with a smaller kvCacheMemoryBytes.");
    }
  }
  char* at = static_cast<char*>(base_);
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

KvMemory::~KvMemory() {
  if (base_) munmap(base_, bytes_);
}

}  // namespace ocelli
