// cuBLAS beside our products, where the machine has it: opened when asked for, never linked.
#pragma once

#include <dlfcn.h>

#include <initializer_list>

#include "cuda/driver_types.h"

namespace ocelli {
namespace ptx {

class Cublas {
 public:
  Cublas() {
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library_ == nullptr) return;
    using Create = int (*)(void**);
    const auto create = reinterpret_cast<Create>(dlsym(library_, "cublasCreate_v2"));
    set_stream_ = reinterpret_cast<SetStream>(dlsym(library_, "cublasSetStream_v2"));
    multiply_ = reinterpret_cast<Multiply>(dlsym(library_, "cublasGemmEx"));
    if (create == nullptr || set_stream_ == nullptr || multiply_ == nullptr || create(&handle_) != 0) handle_ = nullptr;
  }
  bool found() const { return handle_ != nullptr; }

  // y f32 [rows, width] = x bf16 [rows, width] times w bf16 [width, width], transposed: in cuBLAS's order of columns,
  // y^T = w x^T.
  void linear(CUstream stream, const void* x, const void* w, void* y, int rows, int width) const {
    const float one = 1, zero = 0;
    set_stream_(handle_, stream);
    multiply_(handle_, kTransposed, kPlain, width, rows, width, &one, w, kBF16, width, x, kBF16, width, &zero, y, kF32,
              width, kSumsInF32, kAnyAlgorithm);
  }

 private:
  using SetStream = int (*)(void*, CUstream);
  using Multiply = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int,
                           const void*, void*, int, int, int, int);
  // CUBLAS_OP_N and _T, CUDA_R_32F and _16BF, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT.
  static constexpr int kPlain = 0, kTransposed = 1, kF32 = 0, kBF16 = 14, kSumsInF32 = 68, kAnyAlgorithm = -1;

  void* library_ = nullptr;
  void* handle_ = nullptr;
  SetStream set_stream_ = nullptr;
  Multiply multiply_ = nullptr;
};

}  // namespace ptx
}  // namespace ocelli
