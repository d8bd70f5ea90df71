// x [N, C, H, W] -> [N, gh * gw, C * p * p]; inside a row: channel, y, x. A thread an element of out: writes are
// coalesced, reads are runs of `patch` values.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

extern "C" __global__ void __launch_bounds__(kElementThreads)
    patchify(Rows x, Rows out, int channels, int height, int patch, int columns, int patches, int total) {
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at >= total) return;
  const int row = at / out.width, inside = at % out.width;
  const int image = row / patches, cell = row % patches;
  const int channel = inside / (patch * patch), dy = inside / patch % patch, dx = inside % patch;
  const int line = (image * channels + channel) * height + cell / columns * patch + dy;
  const float value = read(x, offset_of(x, line) + cell % columns * patch + dx);
  write(out, offset_of(out, row) + inside, value);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_patchify(const OpCall& call) {
  const Tensor& x = call.in[0];
  const int patch = static_cast<int>(call.attrs->integer("patch"));
  const Rows out = rows_of(call.out[0]);
  const int64_t total = int64_t{count_of(out)} * out.width;
  if (total > INT32_MAX)
    throw Error("ERR_SHAPE", "Expected at most 2^31 values for patchify on CUDA but received " + describe(x));
  launch("patchify", "patchify", {static_cast<uint32_t>((total + kElementThreads - 1) / kElementThreads)},
         {kElementThreads}, 0, rows_of(x), out, static_cast<int>(x.shape[1]), static_cast<int>(x.shape[2]), patch,
         static_cast<int>(x.shape[3]) / patch, static_cast<int>(call.out[0].shape[1]), static_cast<int>(total));
}

extern const OpImpl patchify;
const OpImpl patchify = {run_patchify, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
