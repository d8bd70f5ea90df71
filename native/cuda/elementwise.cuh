// add and mul: b has a's shape, or is a suffix of it whose rows repeat, or is a number.
#ifdef __CUDACC__
#pragma once

#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

// `repeat`: the rows of b; 0 where `value` stands for b.
template <class F>
__device__ void elementwise(const Rows& a, const Rows& b, const Rows& out, int repeat, float value, int rows, F apply) {
  const int runs = (a.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= rows) return;
  const int row = at / runs, column = at % runs * kRun;
  float values[kRun], others[kRun];
  read_run(a, offset_of(a, row), column, values);
  if (repeat > 0) {
    read_run(b, offset_of(b, row % repeat), column, others);
  } else {
#pragma unroll
    for (int i = 0; i < kRun; i++) others[i] = value;
  }
#pragma unroll
  for (int i = 0; i < kRun; i++) values[i] = apply(values[i], others[i]);
  write_run(out, offset_of(out, row), column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#pragma once

#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

inline void run_elementwise(const char* name, const OpCall& call) {
  const Rows a = rows_of(call.in[0]);
  const Tensor* b = call.inputs > 1 && call.in[1].present() ? &call.in[1] : nullptr;
  Rows other = b != nullptr ? rows_of(*b) : a;
  int repeat = b != nullptr ? count_of(other) : 0;
  if (b != nullptr && b->rank == 0) other.width = a.width, other.vectors = 0;
  const float value = b == nullptr ? static_cast<float>(call.attrs->number("value")) : 0;
  launch(name, name, {element_blocks(a)}, {kElementThreads}, 0, a, other, rows_of(call.out[0]), repeat, value,
         count_of(a));
}

}  // namespace cuda
}  // namespace ocelli
#endif
