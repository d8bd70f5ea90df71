#include "cuda/attention.h"

#include "core/check.h"
#include "cuda/tune.cuh"

namespace ocelli {
namespace cuda {

void check_head(const char* path, int widest) {
  if (widest <= kPlainDim) return;
  throw Error("ERR_SHAPE",
              "Expected heads of at most " + std::to_string(kPlainDim) + " for " + path +
                  " on CUDA but received heads of " + std::to_string(widest),
              "Choose device 'cpu'.");
}

}  // namespace cuda
}  // namespace ocelli
