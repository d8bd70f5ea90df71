// What an op's host half leaves behind: a kernel's name, a grid and arguments. The backend hands them to the driver,
// the tests to the emulator.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/op.h"
#include "cuda/rows.h"
#include "cuda/tune.cuh"

namespace ocelli {
namespace cuda {

struct Extent {
  uint32_t x = 1, y = 1, z = 1;
};

// Arguments by value, each in the order and of the size of the kernel's parameters.
class Arguments {
 public:
  template <class T>
  void add(const T& argument) {
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&argument);
    values_.emplace_back(bytes, bytes + sizeof argument);
  }
  const std::vector<std::vector<uint8_t>>& values() const { return values_; }

 private:
  std::vector<std::vector<uint8_t>> values_;
};

// Where launches go, in order.
class Queue {
 public:
  virtual ~Queue() = default;
  // `kernel` is the op's, in the module of the op's name.
  virtual void launch(const char* module, const char* kernel, Extent grid, Extent block, size_t dynamic_shared,
                      const Arguments& arguments) = 0;
};

// The queue of this thread's device, while ops run.
Queue*& current_queue();

template <class... A>
void launch(const char* module, const char* kernel, Extent grid, Extent block, size_t dynamic_shared,
            const A&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  Arguments list;
  (list.add(arguments), ...);
  current_queue()->launch(module, kernel, grid, block, dynamic_shared, list);
}

// Throws ERR_DTYPE for what is no f32, bf16 or f16.
Format format_of(DType dtype);
// Throws ERR_SHAPE for a tensor of more than 2^31 rows or of strides that three dimensions do not describe.
Rows rows_of(const Tensor& tensor);
int count_of(const Rows& rows);
// Blocks of kElementThreads for one thread per run of eight values.
uint32_t element_blocks(const Rows& rows);

// Columns of a packed weight's rows: k rounded up to whole slices, zeros behind k.
constexpr int64_t packed_width(int64_t k) { return (k + kSliceK - 1) / kSliceK * kSliceK; }

// What a weight of linear takes, and how it is packed: see Backend in core/op.h.
size_t packed_bytes(WeightFormat format, int64_t n, int64_t k);
void pack(const Tensor& rows, int64_t row, PackedMatrix& dst);

// "gelu" and its kin as kernels know them (activation.cuh); 0 where there is none.
int activation_code(const std::string& kind);

}  // namespace cuda
}  // namespace ocelli
