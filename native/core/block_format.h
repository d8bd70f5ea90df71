// How checkpoints store elements in blocks: quantised values behind the scales that they share. The names and layouts
// are GGML's (ggml-quants.c); its plain types are blocks of one element.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace ocelli {

struct BlockFormat {
  uint32_t id;       // in GGUF files
  const char* name;  // lower case: "q4_k"
  int64_t elements;  // of a block
  int64_t bytes;     // of a block
  // Writes a block's elements, each rounded to f32 once; null for types that no op reads. Blocks have any alignment.
  void (*decode)(const uint8_t* block, float* out);
};

// Null for an id that is not known.
const BlockFormat* block_format(uint32_t id);

// `count` elements from element `first` on; rows begin with a block, so `first` is a multiple of its elements.
void decode_blocks(const BlockFormat& format, const void* data, int64_t first, int64_t count, float* out);

}  // namespace ocelli
