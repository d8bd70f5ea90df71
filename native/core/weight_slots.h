// One stored form per weight: where its values come from, and its rows as a backend packs them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/program.h"

namespace ocelli {

// What a low-rank adapter adds to a weight [n, k]: scale * B A, of the tensors b [n, r] and a [r, k] of its own file.
struct WeightDelta {
  std::shared_ptr<Checkpoint> checkpoint;
  std::string a, b;
  float scale = 1;
};

// Where a model's weights are in a checkpoint.
struct WeightPlaces {
  std::map<std::string, std::string> names;  // part name -> checkpoint name
  // Checkpoint name -> heads: rows of a head come as rope pairs (0, d/2, 1, d/2 + 1 ...), as GGUF files of Llama have
  // those of q and k, and are read in the order 0 ... d - 1.
  std::map<std::string, int64_t> paired_heads;
  // Checkpoint name -> [rows, columns]: stored as matrices of that shape, one after the other, and read transposed.
  std::map<std::string, std::vector<int64_t>> transposed;
  // Part name -> what is added to it, one after the other.
  std::map<std::string, std::vector<WeightDelta>> deltas;
};

struct DeltaSource {
  const CheckpointTensor* a;
  const CheckpointTensor* b;
  float scale;
};

struct WeightSource {
  const CheckpointTensor* tensor = nullptr;
  int64_t paired_heads = 0;         // 0: rows lie as they are read
  std::vector<int64_t> transposed;  // empty: elements too
  std::vector<DeltaSource> deltas = {};

  // The file's bytes are the rows themselves, at an address that `dtype` allows.
  bool direct() const;
};

// How dummy values fill a weight.
enum class Fill { kRandom, kOne, kZero };

// One weight as it is stored; weights of equal parts, kind and shape share it.
struct Slot {
  bool linear = false;
  bool logits = false;  // the last linear layer of a program that gives logits
  std::string name;     // of the first program weight that asked, for errors
  std::vector<std::string> parts;
  std::vector<int64_t> shape;
  std::vector<WeightSource> sources;  // one per part; empty: dummy
  Fill fill = Fill::kRandom;
  bool mapped = false;
  DType dtype = DType::kF32;
  uint64_t offset = 0;  // into the arena
  uint64_t bytes = 0;
  PackedMatrix matrix;
  Tensor tensor;

  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t width() const {
    int64_t width = 1;
    for (size_t i = 1; i < shape.size(); i++) width *= shape[i];
    return width;
  }
  int64_t numel() const { return rows() * width(); }
};

// All slots, and which one each program's weights use.
struct Inventory {
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<std::vector<Slot*>> of_program;
};

// Slots of all weights of the programs; weights of equal parts, kind and shape share one.
Inventory take_inventory(const std::vector<const Program*>& programs);
// ERR_WEIGHT_MISSING, ERR_WEIGHT_DTYPE, ERR_WEIGHT_SHAPE.
void find_sources(const Checkpoint& checkpoint, const WeightPlaces& places, Inventory* inventory);
// The type that all parts are stored in; `other` where they differ, come in blocks, or have something added.
DType stored_dtype(const Slot& slot, DType other);
// Rows [row, row + count) of all parts joined, written as `dtype`.
void read_rows(const Slot& slot, uint64_t seed, int64_t row, int64_t count, DType dtype, void* out);

}  // namespace ocelli
