#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

Queue*& current_queue() {
  static thread_local Queue* queue = nullptr;
  return queue;
}

Format format_of(DType dtype) {
  if (dtype == DType::kF32) return kF32;
  if (dtype == DType::kBF16) return kBF16;
  if (dtype == DType::kF16) return kF16;
  throw Error("ERR_DTYPE", std::string("Expected f32, bf16 or f16 for a CUDA kernel but received ") + name_of(dtype));
}

Rows rows_of(const Tensor& tensor) {
  Rows rows{tensor.data, format_of(tensor.dtype), 1, {1, 1, 1}, 0, {0, 0, 0}};
  if (tensor.rank > 0) {
    rows.width = static_cast<int>(tensor.shape[tensor.rank - 1]);
    if (rows.width > 1 && tensor.stride[tensor.rank - 1] != 1)
      throw Error("ERR_SHAPE", "Expected the values of a row side by side for a CUDA kernel but received stride " +
                                   std::to_string(tensor.stride[tensor.rank - 1]) + " in " + describe(tensor));
  }
  // From the inside out; a dimension that goes on where the one inside it ends joins it.
  int used = 0;
  for (int i = tensor.rank - 2; i >= 0; i--) {
    if (tensor.shape[i] == 1) continue;
    if (used > 0) {
      const int last = 3 - used;
      if (tensor.stride[i] == rows.stride[last] * rows.shape[last]) {
        rows.shape[last] *= static_cast<int>(tensor.shape[i]);
        continue;
      }
    }
    if (used == 3)
      throw Error("ERR_SHAPE",
                  "Expected rows in at most three dimensions for a CUDA kernel but received " + describe(tensor));
    used++;
    rows.shape[3 - used] = static_cast<int>(tensor.shape[i]);
    rows.stride[3 - used] = tensor.stride[i];
  }
  const int64_t count = int64_t{rows.shape[0]} * rows.shape[1] * rows.shape[2];
  if (count * ((rows.width + kRun - 1) / kRun) > INT32_MAX) {
    throw Error("ERR_SHAPE",
                "Expected at most 2^31 runs of eight values for a CUDA kernel but received " + describe(tensor));
  }
  const int64_t per = 16 / size_of(tensor.dtype);
  rows.vectors = reinterpret_cast<uintptr_t>(tensor.data) % 16 == 0;
  for (long long stride : rows.stride) rows.vectors = rows.vectors && stride % per == 0;
  return rows;
}

int count_of(const Rows& rows) { return rows.shape[0] * rows.shape[1] * rows.shape[2]; }

uint32_t element_blocks(const Rows& rows) {
  const int64_t runs = int64_t{count_of(rows)} * ((rows.width + kRun - 1) / kRun);
  return static_cast<uint32_t>((runs + kElementThreads - 1) / kElementThreads);
}

int activation_code(const std::string& kind) {
  const char* const kKinds[] = {"", "gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "tanh"};
  for (int i = 0; i < 7; i++) {
    if (kind == kKinds[i]) return i;
  }
  return 0;
}

}  // namespace cuda
}  // namespace ocelli
