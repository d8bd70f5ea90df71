// A tensor is a view: a pointer, a dtype, a shape and strides in elements. It owns nothing.
#pragma once

#include <cstdint>
#include <string>

namespace ocelli {

enum class DType : uint8_t { kF32, kBF16, kF16, kI8, kU8, kI32, kI64 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kI8:
    case DType::kU8:
      return 1;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kI64:
      return 8;
    default:
      return 4;
  }
}

constexpr int kMaxRank = 6;

// What a linear layer's weight is packed in, and how activations meet it (core/quantize.h).
enum class WeightFormat : uint8_t { kF32, kBF16, kF16, kI8, kI4, kI8Rows, kI4Rows, kI8Exact, kI4Exact };

constexpr bool quantized(WeightFormat format) { return format >= WeightFormat::kI8; }

// Quantised formats come in pairs, of eight bits and of four, that activations meet in the same way.
constexpr WeightFormat in_bits(WeightFormat format, bool four) {
  int pair = (static_cast<int>(format) - static_cast<int>(WeightFormat::kI8)) / 2;
  return static_cast<WeightFormat>(static_cast<int>(WeightFormat::kI8) + 2 * pair + (four ? 1 : 0));
}
constexpr bool four_bits(WeightFormat format) { return quantized(format) && in_bits(format, true) == format; }

// Of formats that are not quantised.
constexpr DType plain_dtype(WeightFormat format) {
  return format == WeightFormat::kBF16 ? DType::kBF16 : (format == WeightFormat::kF16 ? DType::kF16 : DType::kF32);
}

// A linear layer's weight as a backend packed it at load: [n, k] rows. The bytes behind it are the backend's own.
struct PackedMatrix {
  int64_t n = 0;
  int64_t k = 0;
  WeightFormat format = WeightFormat::kF32;
  void* data = nullptr;  // the weight arena's; 64-byte aligned
  size_t bytes = 0;
};

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int8_t rank = 0;
  int64_t shape[kMaxRank] = {};
  int64_t stride[kMaxRank] = {};         // in elements
  const PackedMatrix* packed = nullptr;  // set for the weight operand of `linear`; data is null then

  bool present() const { return data != nullptr || packed != nullptr; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; i++) n *= shape[i];
    return n;
  }
  // Elements follow each other with no gap (dimensions of size 1 may have any stride).
  bool contiguous() const {
    int64_t expected = 1;
    for (int i = rank - 1; i >= 0; i--) {
      if (shape[i] != 1 && stride[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
};

// "f32", "bf16" ...: the names that programs and errors use.
const char* name_of(DType dtype);
// Throws ERR_PROGRAM for an unknown name.
DType dtype_from_name(const std::string& name);
const char* name_of(WeightFormat format);
// Throws ERR_PROGRAM for an unknown name.
WeightFormat weight_format_from_name(const std::string& name);
std::string describe(const Tensor& tensor);  // "f32[3, 64]"

}  // namespace ocelli
