// One program run once on one sequence, with a KV cache of its own: what tests and goldens compare.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/executor.h"
#include "core/model.h"

namespace ocelli {

struct SingleRun {
  const Model* model = nullptr;
  int program = 0;
  std::vector<int64_t> symbols;
  std::map<std::string, Tensor>
      inputs;  // `hi`, i32 [T], where no input has that name: what each row sees (else its own position + 1)
  std::vector<std::string> taps;
  DType kv_dtype = DType::kF32;
};

// Owns its elements, dense.
struct RunTensor {
  Tensor tensor;
  std::vector<uint64_t> words;
};

struct SingleRunResult {
  std::map<std::string, RunTensor> outputs;
  std::map<std::string, RunTensor> taps;
};

// Whether the program reads or writes a KV cache.
bool has_kv_cache(const Program& program);
SingleRunResult run_once(const SingleRun& run);

}  // namespace ocelli
