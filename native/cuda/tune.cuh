// Every tuned number of the CUDA kernels. Plain constants: kernels and launchers read the same.
#pragma once

namespace ocelli {
namespace cuda {

// Elementwise ops: a thread takes eight neighbours of one row.
constexpr int kRun = 8;
constexpr int kElementThreads = 256;

// Norms: a block a row. A function of the width alone, as every row's order of summation must be.
constexpr int row_threads(int width) { return width <= 1024 ? 128 : 256; }

}  // namespace cuda
}  // namespace ocelli
