// out [.., D] = kind(x[.., :D]) * x[.., D:]. Bytes: x once, half of it written.
#ifdef __CUDACC__
#include "cuda/activation.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads)
    gated_act(Rows gate, Rows up, Rows out, int kind, int rows) {
  const int runs = (out.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= rows) return;
  float values[kRun], factors[kRun];
  const int column = at % runs * kRun;
  read_run(gate, offset_of(gate, at / runs), column, values);
  read_run(up, offset_of(up, at / runs), column, factors);
#pragma unroll
  for (int i = 0; i < kRun; i++) values[i] = activate(kind, values[i]) * factors[i];
  write_run(out, offset_of(out, at / runs), column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_gated_act(const OpCall& call) {
  Tensor gate = call.in[0];
  const int last = gate.rank - 1;
  gate.shape[last] /= 2;
  Tensor up = gate;
  up.data = static_cast<char*>(up.data) + gate.shape[last] * size_of(gate.dtype);
  const Rows out = rows_of(call.out[0]);
  launch("gated_act", "gated_act", {element_blocks(out)}, {kElementThreads}, 0, rows_of(gate), rows_of(up), out,
         activation_code(call.attrs->string("kind")), count_of(out));
}

extern const OpImpl gated_act;
const OpImpl gated_act = {run_gated_act, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
