// What becomes of a tile's sums, in every kind of linear.
#pragma once

#include "cuda/activation.cuh"
#include "cuda/mma.cuh"

namespace ocelli {
namespace cuda {

// A tile of results from shared memory, [m, n + kResultGap], to y: neighbouring lanes write neighbouring values.
template <int kM, int kN, int kThreads>
__device__ void write_results(const float* results, int row0, int column0, int n_total, const Rows& bias, int biased,
                              int act, const Rows& y, int m_total) {
#pragma unroll 1  // the activations are long
  for (int i = threadIdx.x; i < kM * kN / 4; i += kThreads) {
    const int row = i / (kN / 4), column = i % (kN / 4) * 4;
    if (row0 + row >= m_total || column0 + column >= n_total) continue;
    const float4 four = *reinterpret_cast<const float4*>(&results[row * (kN + kResultGap) + column]);
    float values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int n = column0 + column + j;
      if (n < n_total) values[j] = activate(act, biased ? values[j] + read(bias, n) : values[j]);
    }
    write_four(y, offset_of(y, row0 + row), column0 + column, values);
  }
}

}  // namespace cuda
}  // namespace ocelli
