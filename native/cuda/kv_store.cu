// Writes k [T, kv_heads, Dk] and v [T, kv_heads, Dv] to the slots of this step's rows: cache [blocks, kv_heads,
// block_size, D]. A slot below 0 stores nothing.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads)
    kv_store(Rows rows, Rows cache, const int* slot, int heads, int block_size, int total) {
  const int runs = (rows.width + kRun - 1) / kRun;
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at / runs >= total) return;
  const int row = at / runs, column = at % runs * kRun;
  const int to = slot[row / heads];
  if (to < 0) return;
  float values[kRun];
  read_run(rows, offset_of(rows, row), column, values);
  const long long place =
      (static_cast<long long>(to / block_size) * heads + row % heads) * block_size + to % block_size;
  write_run(cache, place * rows.width, column, values);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void store(const Tensor& tensor, void* cache, const StepContext& step) {
  const Rows rows = rows_of(tensor);
  const KvCache& kv = *step.kv;
  Rows to{cache, format_of(kv.dtype), rows.width, {1, 1, 1}, 0, {0, 0, rows.width}};
  to.vectors = reinterpret_cast<uintptr_t>(cache) % 16 == 0 && rows.width * size_of(kv.dtype) % 16 == 0;
  launch("kv_store", "kv_store", {element_blocks(rows)}, {kElementThreads}, 0, rows, to, step.slot, kv.kv_heads,
         kv.block_size, count_of(rows));
}

static void run_kv_store(const OpCall& call) {
  const KvLayer& layer = call.step->kv->layer[call.attrs->integer("layer")];
  store(call.in[0], layer.k, *call.step);
  store(call.in[1], layer.v, *call.step);
}

extern const OpImpl kv_store;
const OpImpl kv_store = {run_kv_store, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
