// The weights that a model makes of a checkpoint: packed for a backend, or as they lie in the file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/weight_slots.h"

namespace ocelli {

struct WeightOptions {
  WeightFormat format = WeightFormat::kF32;  // of linear weights
  DType dtype = DType::kF32;                 // of plain tensors that are not mapped: f32, bf16, f16
  bool dummy = false;                        // seeded random values of the shapes, no checkpoint
  uint64_t seed = 0;
};

// All weights of a model's programs on one backend; equal (parts, kind) are stored once. Plain tensors whose dtype is
// what is needed stay in the mapping, where the backend reads the host's memory; everything else lives in one arena.
class Weights {
 public:
  using Progress = std::function<bool(uint64_t loaded, uint64_t total)>;  // false: stop with ERR_ABORTED
  static std::unique_ptr<Weights> load(const std::vector<const Program*>& programs,
                                       std::shared_ptr<Checkpoint> checkpoint, const WeightPlaces& places,
                                       const Backend* backend, const WeightOptions& options, Pool& pool,
                                       const Progress& progress);
  ~Weights();
  // The operand for programs[program].weights[index].
  const Tensor& operand(int program, int index) const;
  uint64_t resident_bytes() const;  // in the backend's memory
  uint64_t mapped_bytes() const;
  // Without loading; without a checkpoint, plain tensors of one part are taken to stay in its mapping.
  static uint64_t resident_bytes(const std::vector<const Program*>& programs, const Checkpoint* checkpoint,
                                 const WeightPlaces& places, const Backend* backend, const WeightOptions& options);

 private:
  Weights();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ocelli
