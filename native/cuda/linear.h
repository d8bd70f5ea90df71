// What the host halves of linear share.
#pragma once

#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

inline uint32_t tiles(int count, int tile) { return static_cast<uint32_t>((count + tile - 1) / tile); }

inline bool is_biased(const OpCall& call) { return call.inputs > 2 && call.in[2].present(); }

inline int activation_of(const OpCall& call) {
  for (const auto& entry : call.attrs->strings) {
    if (entry.first == "act") return activation_code(entry.second);
  }
  return 0;
}

inline int64_t rows_in(const Tensor& x) {
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank; i++) rows *= x.shape[i];
  return rows;
}

// Weights in blocks.
void run_quantized(const OpCall& call);
size_t scratch_of_quantized(const OpCall& call);

}  // namespace cuda
}  // namespace ocelli
