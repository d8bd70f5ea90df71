// out [R, D] = x with rows index[i] replaced by (add: increased by) rows[i] [M, D]; negative indices are left out,
// equal ones apply in ascending i. To keep that order without atomics, a thread owns a run of eight columns of one row
// of out and walks through the indices: M is the rows of one batch's pictures.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads)
    scatter_rows(Rows x, const int* index, Rows rows, Rows out, int count, int add, int total) {
  const int runs = (out.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= total) return;
  const int row = at / runs, column = at % runs * kRun;
  float values[kRun], others[kRun];
  read_run(x, offset_of(x, row), column, values);
  for (int i = 0; i < count; i++) {
    if (index[i] != row) continue;
    read_run(rows, offset_of(rows, i), column, others);
#pragma unroll
    for (int j = 0; j < kRun; j++) values[j] = add ? values[j] + others[j] : others[j];
  }
  write_run(out, offset_of(out, row), column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_scatter_rows(const OpCall& call) {
  const Rows out = rows_of(call.out[0]);
  launch("scatter_rows", "scatter_rows", {element_blocks(out)}, {kElementThreads}, 0, rows_of(call.in[0]),
         call.in[1].data, rows_of(call.in[2]), out, static_cast<int>(call.in[1].shape[0]),
         call.attrs->number("add", 0) != 0 ? 1 : 0, count_of(out));
}

extern const OpImpl scatter_rows;
const OpImpl scatter_rows = {run_scatter_rows, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
