// The KV cache's memory: reserved once, committed by the kernel as blocks are first written.
#pragma once

#include <vector>

#include "core/step.h"

namespace ocelli {

class KvMemory {
 public:
  // Throws ERR_MEMORY when the address space cannot be reserved.
  KvMemory(DType dtype, int32_t blocks, int32_t block_size, int32_t layers, int32_t kv_heads, int32_t head_dim_k,
           int32_t head_dim_v);
  ~KvMemory();
  KvMemory(const KvMemory&) = delete;
  KvMemory& operator=(const KvMemory&) = delete;
  const KvCache& cache() const { return cache_; }

 private:
  void* base_ = nullptr;
  size_t bytes_ = 0;
  std::vector<KvLayer> layers_;
  KvCache cache_;
};

}  // namespace ocelli
