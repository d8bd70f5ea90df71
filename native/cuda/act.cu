// out = kind(x), elementwise. Bytes: one read and one write of x; what limits it is memory.
#ifdef __CUDACC__
#include "cuda/activation.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads) act(Rows x, Rows out, int kind, int rows) {
  const int runs = (x.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= rows) return;
  float values[kRun];
  const int column = at % runs * kRun;
  read_run(x, offset_of(x, at / runs), column, values);
#pragma unroll
  for (int i = 0; i < kRun; i++) values[i] = activate(kind, values[i]);
  write_run(out, offset_of(out, at / runs), column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_act(const OpCall& call) {
  const Rows x = rows_of(call.in[0]);
  launch("act", "act", {element_blocks(x)}, {kElementThreads}, 0, x, rows_of(call.out[0]),
         activation_code(call.attrs->string("kind")), count_of(x));
}

extern const OpImpl act;
const OpImpl act = {run_act, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
