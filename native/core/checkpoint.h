// Checkpoints: files of either format (safetensors, GGUF), mapped read-only with every check of the format.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/gguf.h"
#include "core/tensor.h"

namespace ocelli {

struct CheckpointTensor {
  std::string name;
  DType dtype;  // of plain elements; means nothing where they come in blocks or are not readable
  std::vector<int64_t> shape;
  const void* data;
  uint64_t bytes;
  int32_t file;
  std::string stored = {};              // the type as the file spells it, lower case: "f32", "f64", "f8_e4m3", "q4_k"
  bool readable = true;                 // read_elements reads it; false: no op does
  const BlockFormat* blocks = nullptr;  // of quantised tensors

  bool plain() const { return readable && blocks == nullptr; }
};

// Elements [first, first + count), row-major, as f32, bf16 or f16. Of a quantised tensor, whole rows.
void read_elements(const CheckpointTensor& tensor, int64_t first, int64_t count, DType dtype, void* out);

class Checkpoint {
 public:
  // Opens and validates; ERR_CHECKPOINT_* names file, tensor, expected and found. Tensors of types that no op reads
  // (F64, BOOL, F8_*, IQ*) are listed but refused when a weight asks for one. A name in two files is an error.
  static std::unique_ptr<Checkpoint> open(const std::vector<std::string>& paths);
  ~Checkpoint();
  const std::vector<CheckpointTensor>& tensors() const;
  const CheckpointTensor* find(const std::string& name) const;
  const std::string& path(int32_t file) const;
  // Of a GGUF file; empty for safetensors.
  const std::vector<GgufValue>& metadata(int32_t file) const;
  int32_t files() const;
  // ERR_CHECKPOINT_CHANGED when a file is no longer as long as when it was mapped: reading beyond its end would kill
  // the process.
  void verify_sizes() const;
  // Drops the pages of a tensor that has been copied; they come back from the file when read again.
  void release_pages(const CheckpointTensor& tensor) const;

 private:
  Checkpoint();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ocelli
