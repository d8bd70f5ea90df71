// out [.., D] = x / sqrt(mean(x^2) + eps) * (offset + weight [D]). A block a row; x is read twice, the second time from
// the L1 or L2 cache. Sums in f32: each thread's runs in ascending order, then block_sum.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(256) rms_norm(Rows x, Rows weight, Rows out, float eps, float offset) {
  const long long from = offset_of(x, blockIdx.x), to = offset_of(out, blockIdx.x);
  float values[kRun], factors[kRun];
  float sum = 0;
  for (int column = threadIdx.x * kRun; column < x.width; column += blockDim.x * kRun) {
    read_run(x, from, column, values);
#pragma unroll
    for (int i = 0; i < kRun; i++) sum = fmaf(values[i], values[i], sum);
  }
  const float scale = 1 / sqrtf(block_sum(sum) / x.width + eps);
  for (int column = threadIdx.x * kRun; column < x.width; column += blockDim.x * kRun) {
    read_run(x, from, column, values);
    read_run(weight, 0, column, factors);
#pragma unroll
    for (int i = 0; i < kRun; i++) values[i] = values[i] * scale * (offset + factors[i]);
    write_run(out, to, column, values);
  }
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_rms_norm(const OpCall& call) {
  const Rows x = rows_of(call.in[0]);
  launch("rms_norm", "rms_norm", {static_cast<uint32_t>(count_of(x))}, {static_cast<uint32_t>(row_threads(x.width))}, 0,
         x, rows_of(call.in[1]), rows_of(call.out[0]), static_cast<float>(call.attrs->number("eps")),
         static_cast<float>(call.attrs->number("offset", 0)));
}

extern const OpImpl rms_norm;
const OpImpl rms_norm = {run_rms_norm, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
