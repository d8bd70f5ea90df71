// out [M, D] = table[index [M]]; a negative index gives a row of zeros. Indices are checked where they are made: the
// host, before a step. One that lies outside all the same gives zeros.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads)
    gather_rows(Rows table, const int* index, Rows out, int rows) {
  const int runs = (out.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= rows) return;
  const int row = at / runs, column = at % runs * kRun, from = index[row];
  float values[kRun] = {};
  if (from >= 0 && from < table.shape[2]) read_run(table, from * table.stride[2], column, values);
  write_run(out, offset_of(out, row), column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_gather_rows(const OpCall& call) {
  Rows table = rows_of(call.in[0]);
  table.stride[2] = call.in[0].stride[0];  // a table of one row has it too
  const Rows out = rows_of(call.out[0]);
  launch("gather_rows", "gather_rows", {element_blocks(out)}, {kElementThreads}, 0, table, call.in[1].data, out,
         count_of(out));
}

extern const OpImpl gather_rows;
const OpImpl gather_rows = {run_gather_rows, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
