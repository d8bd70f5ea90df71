// A loaded model: programs, their weights on one backend, and the threads that execute them. Shared by the engines and
// runs that use it.
#pragma once

#include <memory>
#include <vector>

#include "core/executor.h"
#include "core/threads.h"
#include "core/weights.h"

namespace ocelli {

struct Model {
  std::vector<Program> programs;  // [text] or [text, ...encoders]
  std::shared_ptr<Checkpoint> checkpoint;
  std::unique_ptr<Weights> weights;
  const Backend* backend = nullptr;
  std::shared_ptr<Pool> pool;
};

// One pool per thread count for the whole process: a second model adds no threads. 0: as many as cores are available.
std::shared_ptr<Pool> shared_pool(int threads);

}  // namespace ocelli
