// Rotary position embedding of x [T, heads, D] by positions [axes, T]. A thread turns one pair of one head. Angles are
// the reference's: the f32 product of position and frequency.
#ifdef __CUDACC__
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

// Sine and cosine of any f32 within 2e-7: whole turns are taken off in f64, and the rest goes in half turns. sinf
// itself would keep an array on the stack for large angles.
__device__ inline void turn(float angle, float* sine, float* cosine) {
  const double halves = angle * 0.31830988618379067;
  sincospif(static_cast<float>(halves - 2 * rint(halves * 0.5)), sine, cosine);
}

extern "C" __global__ void __launch_bounds__(kElementThreads)
    rope(Rows x, const int* positions, const float* inv_freq, Rows out, RopeAxes axes, int half, int heads, int tokens,
         int pairs, float scale) {
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  const int rest = x.width - 2 * half;  // dimensions that stay
  const int per_head = half + rest;
  if (at / per_head >= tokens * heads) return;
  const int row = at / per_head, j = at % per_head;
  const long long from = offset_of(x, row), to = offset_of(out, row);
  if (j >= half) {
    const int column = half + j;
    write(out, to + column, read(x, from + column));
    return;
  }
  int axis = axes.count - 1;
  if (axes.interleaved) {
    axis = j % axes.count;
    if (j >= axes.end[axis]) axis = 0;
  } else {
    for (int i = axes.count - 2; i >= 0; i--) {
      if (j < axes.end[i]) axis = i;
    }
  }
  const float angle = static_cast<float>(positions[axis * tokens + row / heads]) * inv_freq[j];
  float sine, cosine;
  turn(angle, &sine, &cosine);
  sine *= scale, cosine *= scale;
  const int a = pairs ? 2 * j : j, b = pairs ? 2 * j + 1 : j + half;
  const float first = read(x, from + a), second = read(x, from + b);
  write(out, to + a, first * cosine - second * sine);
  write(out, to + b, second * cosine + first * sine);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static void run_rope(const OpCall& call) {
  const Tensor& positions = call.in[1];
  const int half = static_cast<int>(call.attrs->integer("rotary") / 2);
  const std::vector<double>* sections = call.attrs->list("sections");
  RopeAxes axes{1, call.attrs->number("interleaved", 0) != 0 ? 1 : 0, {half, half, half, half}};
  if (sections != nullptr) {
    axes.count = static_cast<int>(sections->size());
    if (axes.count > 4)
      throw Error("ERR_SHAPE", "Expected at most 4 axes for rope on CUDA but received " + std::to_string(axes.count));
    int end = 0;
    for (int i = 0; i < axes.count; i++) {
      end += static_cast<int>((*sections)[i]);
      axes.end[i] = axes.interleaved ? static_cast<int>((*sections)[i]) * axes.count : end;
    }
  }
  const Rows x = rows_of(call.in[0]);
  const int heads = static_cast<int>(call.in[0].shape[1]), tokens = static_cast<int>(call.in[0].shape[0]);
  const int64_t threads = int64_t{tokens} * heads * (x.width - half);
  launch("rope", "rope", {static_cast<uint32_t>((threads + kElementThreads - 1) / kElementThreads)}, {kElementThreads},
         0, x, positions.data, call.in[2].data, rows_of(call.out[0]), axes, half, heads, tokens,
         call.attrs->string("style") == "pairs" ? 1 : 0, static_cast<float>(call.attrs->number("scale", 1)));
}

extern const OpImpl rope;
const OpImpl rope = {run_rope, nullptr};

}  // namespace cuda
}  // namespace ocelli
#endif
