// out = the operands one behind the other along `dim`. Each operand is copied into its part of out: views with stride 0
// are fine.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads) concat(Rows x, Rows out, int rows) {
  const int runs = (x.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= rows) return;
  float values[kRun];
  const int column = at % runs * kRun;
  read_run(x, offset_of(x, at / runs), column, values);
  write_run(out, offset_of(out, at / runs), column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

// Integers pass through the kernel as the f32 of the same bits: nothing is computed.
static Rows copied(Tensor tensor) {
  if (tensor.dtype == DType::kI32) tensor.dtype = DType::kF32;
  return rows_of(tensor);
}

static void run_concat(const OpCall& call) {
  const int dim = static_cast<int>(call.attrs->integer("dim"));
  Tensor part = call.out[0];
  for (int i = 0; i < call.inputs; i++) {
    part.shape[dim] = call.in[i].shape[dim];
    const Rows x = copied(call.in[i]);
    // An operand that was planned into the result's storage is there already.
    if (call.in[i].data != part.data)
      launch("concat", "concat", {element_blocks(x)}, {kElementThreads}, 0, x, copied(part), count_of(x));
    part.data = static_cast<char*>(part.data) + part.shape[dim] * part.stride[dim] * size_of(part.dtype);
  }
}

extern const OpImpl concat;
const OpImpl concat = {run_concat, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
