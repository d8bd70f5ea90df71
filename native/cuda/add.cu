// out = a + b, elementwise. Bytes: a and b once, out once.
#include "cuda/elementwise.cuh"

namespace ocelli {
namespace cuda {

#ifdef __CUDACC__
extern "C" __global__ void __launch_bounds__(kElementThreads)
    add(Rows a, Rows b, Rows out, int repeat, float value, int rows) {
  elementwise(a, b, out, repeat, value, rows, [](float x, float y) { return x + y; });
}
#else
static void run_add(const OpCall& call) { run_elementwise("add", call); }

extern const OpImpl add;
const OpImpl add = {run_add, nullptr};
#endif

}  // namespace cuda
}  // namespace ocelli
