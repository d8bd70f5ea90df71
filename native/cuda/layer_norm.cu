// out [.., D] = (x - mean) / sqrt(variance + eps) * weight [D] + bias [D]. A block a row; the variance is that of the
// differences from the mean, in a pass of its own: the difference of two large sums would lose it.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(256)
    layer_norm(Rows x, Rows weight, Rows bias, Rows out, int biased, float eps) {
  const long long from = offset_of(x, blockIdx.x), to = offset_of(out, blockIdx.x);
  float values[kRun], factors[kRun], shifts[kRun];
  float sum = 0;
  for (int column = threadIdx.x * kRun; column < x.width; column += blockDim.x * kRun) {
    read_run(x, from, column, values);
#pragma unroll
    for (int i = 0; i < kRun; i++) sum += values[i];
  }
  const float mean = block_sum(sum) / x.width;
  float squares = 0;
  for (int column = threadIdx.x * kRun; column < x.width; column += blockDim.x * kRun) {
    read_run(x, from, column, values);
#pragma unroll
    for (int i = 0; i < kRun; i++) {
      const float difference = column + i < x.width ? values[i] - mean : 0.f;
      squares = fmaf(difference, difference, squares);
    }
  }
  const float scale = 1 / sqrtf(block_sum(squares) / x.width + eps);
  for (int column = threadIdx.x * kRun; column < x.width; column += blockDim.x * kRun) {
    read_run(x, from, column, values);
    read_run(weight, 0, column, factors);
    if (biased) read_run(bias, 0, column, shifts);
#pragma unroll
    for (int i = 0; i < kRun; i++) values[i] = fmaf((values[i] - mean) * scale, factors[i], biased ? shifts[i] : 0.f);
    write_run(out, to, column, values);
  }
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_layer_norm(const OpCall& call) {
  const Rows x = rows_of(call.in[0]);
  const bool biased = call.inputs > 2 && call.in[2].present();
  launch("layer_norm", "layer_norm", {static_cast<uint32_t>(count_of(x))},
         {static_cast<uint32_t>(row_threads(x.width))}, 0, x, rows_of(call.in[1]), rows_of(call.in[biased ? 2 : 1]),
         rows_of(call.out[0]), biased ? 1 : 0, static_cast<float>(call.attrs->number("eps")));
}

extern const OpImpl layer_norm;
const OpImpl layer_norm = {run_layer_norm, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
