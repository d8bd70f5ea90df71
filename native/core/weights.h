// Checkpoints: safetensors files, mapped read-only with every check of the format, and the weights a model makes of them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/program.h"

namespace ocelli {

struct CheckpointTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  const void* data;
  uint64_t bytes;
  int32_t file;
  std::string stored = {};  // the dtype as the file spells it, lower case: "f32", "f64", "f8_e4m3"
  bool readable = true;     // dtype says what it is; false: no op reads it, dtype means nothing
};

class Checkpoint {
 public:
  // Opens and validates; ERR_CHECKPOINT_* names file, tensor, expected and found. Tensors of dtypes that no op reads (F64, BOOL,
  // F8_*) are listed but refused when a weight asks for one. A name in two files is an error.
  static std::unique_ptr<Checkpoint> open(const std::vector<std::string>& paths);
  ~Checkpoint();
  const std::vector<CheckpointTensor>& tensors() const;
  const CheckpointTensor* find(const std::string& name) const;
  const std::string& path(int32_t file) const;
  // ERR_CHECKPOINT_CHANGED when a file is no longer as long as when it was mapped: reading beyond its end would kill the process.
  void verify_sizes() const;
  // Drops the pages of a tensor that has been copied; they come back from the file when read again.
  void release_pages(const CheckpointTensor& tensor) const;

 private:
  Checkpoint();
  struct State;
  std::unique_ptr<State> state_;
};

struct WeightOptions {
  DType format = DType::kF32;  // of linear weights and plain tensors: f32, bf16, f16
  bool dummy = false;          // seeded random values of the shapes, no checkpoint
  uint64_t seed = 0;
};

// All weights of a model's programs on one backend; equal (parts, kind) are stored once. Plain tensors whose dtype is what is
// needed stay in the mapping; everything else lives in one anonymous arena (huge pages where offered).
class Weights {
 public:
  using Progress = std::function<bool(uint64_t loaded, uint64_t total)>;  // false: stop with ERR_ABORTED
  static std::unique_ptr<Weights> load(const std::vector<const Program*>& programs, std::shared_ptr<Checkpoint> checkpoint,
                                       const std::map<std::string, std::string>& names,  // part name -> checkpoint name
                                       const Backend* backend, const WeightOptions& options, Pool& pool, const Progress& progress);
  ~Weights();
  // The operand for programs[program].weights[index].
  const Tensor& operand(int program, int index) const;
  uint64_t resident_bytes() const;  // anonymous memory
  uint64_t mapped_bytes() const;
  static uint64_t resident_bytes(const std::vector<const Program*>& programs, const Backend* backend, const WeightOptions& options);

 private:
  Weights();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ocelli
