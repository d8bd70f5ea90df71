// The KV cache's memory: reserved once; the host's is committed by the kernel as blocks are first written.
#pragma once

#include <vector>

#include "core/memory.h"
#include "core/step.h"

namespace ocelli {

class KvMemory {
 public:
  // Throws ERR_MEMORY when it cannot be reserved.
  KvMemory(Memory& memory, DType dtype, int32_t blocks, int32_t block_size, int32_t layers, int32_t kv_heads,
           int32_t head_dim_k, int32_t head_dim_v);
  const KvCache& cache() const { return cache_; }

 private:
  Allocation memory_;
  std::vector<KvLayer> layers_;
  KvCache cache_;
};

}  // namespace ocelli
