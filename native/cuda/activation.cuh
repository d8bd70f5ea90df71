// The activation functions, by the numbers of activation_code().
#pragma once

#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

__device__ inline float activate(int kind, float x) {
  switch (kind) {
    case 1:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case 2:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case 3:
      return x / (1 + expf(-1.702f * x));
    case 4:
      return x / (1 + expf(-x));
    case 5:
      return x > 0 || isnan(x) ? x : 0;
    case 6:
      return tanhf(x);
    default:
      return x;
  }
}

}  // namespace cuda
}  // namespace ocelli
