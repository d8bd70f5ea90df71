// Pillow's resampling and the packing of pixels, bit for bit those of native/image: integer sums, a rounding, a clip;
// then a table. Bound by memory: each pass reads its windows from the L1 cache and writes its result once.
#ifdef __CUDACC__
#include "cuda/image.h"
#include "cuda/kernel.cuh"

namespace ocelli {
namespace cuda {

constexpr int kPrecisionBits = 22;  // image/filters.h

__device__ inline uint8_t clipped(int sum) { return static_cast<uint8_t>(min(max(sum >> kPrecisionBits, 0), 255)); }

// A thread a byte of dst.
extern "C" __global__ void __launch_bounds__(kElementThreads) image_horizontal(const __grid_constant__ ImagePass pass) {
  const int at = blockIdx.x * kElementThreads + threadIdx.x, y = blockIdx.y;
  const int x = at / pass.channels, channel = at % pass.channels;
  if (x >= pass.count) return;
  const uint8_t* from = pass.src + y * pass.src_stride + (pass.lo[x] - pass.first) * pass.channels + channel;
  const int* weights = pass.weights + x * pass.taps;
  int sum = 1 << (kPrecisionBits - 1);
  for (int k = 0; k < pass.taps; k++) sum += from[k * pass.channels] * weights[k];
  pass.dst[y * pass.dst_stride + at] = clipped(sum);
}

// A thread four neighbouring bytes of dst: as one word where rows allow it.
extern "C" __global__ void __launch_bounds__(kElementThreads) image_vertical(const __grid_constant__ ImagePass pass) {
  const int x = (blockIdx.x * kElementThreads + threadIdx.x) * 4, y = blockIdx.y;
  if (x >= pass.lines) return;
  const uint8_t* from = pass.src + (pass.lo[y] - pass.first) * pass.src_stride + x;
  uint8_t* to = pass.dst + y * pass.dst_stride + x;
  const int* weights = pass.weights + y * pass.taps;
  const int bytes = min(4, pass.lines - x);
  const bool word = pass.vectors && bytes == 4;
  int sums[4];
#pragma unroll
  for (int i = 0; i < 4; i++) sums[i] = 1 << (kPrecisionBits - 1);
  for (int k = 0; k < pass.taps; k++, from += pass.src_stride) {
    const int weight = weights[k];
    if (word) {
      const uchar4 four = *reinterpret_cast<const uchar4*>(from);
      sums[0] += four.x * weight, sums[1] += four.y * weight, sums[2] += four.z * weight, sums[3] += four.w * weight;
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) sums[i] += i < bytes ? from[i] * weight : 0;
    }
  }
  if (word) {
    *reinterpret_cast<uchar4*>(to) =
        make_uchar4(clipped(sums[0]), clipped(sums[1]), clipped(sums[2]), clipped(sums[3]));
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (i < bytes) to[i] = clipped(sums[i]);
    }
  }
}

// A thread a value of dst.
extern "C" __global__ void __launch_bounds__(kElementThreads)
    image_pack(const __grid_constant__ ImagePack pack, int total) {
  const int at = blockIdx.x * kElementThreads + threadIdx.x;
  if (at >= total) return;
  const int x = at % pack.width, y = at / pack.width % pack.height;
  const int channel = at / (pack.width * pack.height) % 3, tile = at / (pack.width * pack.height) / 3;
  const int row = tile / pack.cols * pack.height + y, column = tile % pack.cols * pack.width + x;
  const float value = pack.table[channel * 256 + pack.src[row * pack.src_stride + column * 3 + channel]];
  write(Rows{pack.dst, pack.format, total, {1, 1, 1}, 0, {0, 0, 0}}, at, value);
}

}  // namespace cuda
}  // namespace ocelli
#else
#include "cuda/image.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

static uint32_t blocks(int64_t threads) {
  return static_cast<uint32_t>((threads + kElementThreads - 1) / kElementThreads);
}

void image_horizontal(const ImagePass& pass) {
  launch("image", "image_horizontal", {blocks(int64_t{pass.count} * pass.channels), static_cast<uint32_t>(pass.lines)},
         {kElementThreads}, 0, pass);
}

void image_vertical(ImagePass pass) {
  const auto aligned = [](const void* data, long long stride) {
    return reinterpret_cast<uintptr_t>(data) % 4 == 0 && stride % 4 == 0;
  };
  pass.vectors = aligned(pass.src, pass.src_stride) && aligned(pass.dst, pass.dst_stride);
  launch("image", "image_vertical", {blocks((pass.lines + 3) / 4), static_cast<uint32_t>(pass.count)},
         {kElementThreads}, 0, pass);
}

void image_pack(const ImagePack& pack) {
  const int64_t total = int64_t{pack.width} * pack.height * 3 * pack.cols * pack.rows;
  if (total > INT32_MAX)
    throw Error("ERR_SHAPE",
                "Expected at most 2^31 values for image_pack on CUDA but received " + std::to_string(total));
  launch("image", "image_pack", {blocks(total)}, {kElementThreads}, 0, pack, static_cast<int>(total));
}

}  // namespace cuda
}  // namespace ocelli
#endif
