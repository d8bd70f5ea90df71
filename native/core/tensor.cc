#include "core/tensor.h"

#include "core/check.h"

namespace ocelli {

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI8:
      return "i8";
    case DType::kU8:
      return "u8";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
  }
  return "unknown";
}

DType dtype_from_name(const std::string& name) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI8, DType::kU8, DType::kI32, DType::kI64}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw Error("ERR_PROGRAM",
              "Expected a dtype (f32, bf16, f16, i8, u8, i32, i64) but received '" + name.substr(0, 40) + "'");
}

namespace {

const struct {
  WeightFormat format;
  const char* name;
} kWeightFormats[] = {
    {WeightFormat::kF32, "f32"},
    {WeightFormat::kBF16, "bf16"},
    {WeightFormat::kF16, "f16"},
    {WeightFormat::kI8, "i8"},
    {WeightFormat::kI4, "i4"},
    {WeightFormat::kI8Rows, "i8_rows"},
    {WeightFormat::kI4Rows, "i4_rows"},
    {WeightFormat::kI8Exact, "i8_exact"},
    {WeightFormat::kI4Exact, "i4_exact"},
};

}  // namespace

const char* name_of(WeightFormat format) { return kWeightFormats[static_cast<int>(format)].name; }

WeightFormat weight_format_from_name(const std::string& name) {
  for (const auto& known : kWeightFormats) {
    if (name == known.name) return known.format;
  }
  throw Error(
      "ERR_PROGRAM",
      "Expected a format of weights (f32, bf16, f16, i8, i4, i8_rows, i4_rows, i8_exact, i4_exact) but received '" +
          name.substr(0, 40) + "'");
}

std::string describe(const Tensor& tensor) {
  if (!tensor.present()) return "nothing";
  if (tensor.packed != nullptr) {
    return std::string("packed ") + name_of(tensor.packed->format) + "[" + std::to_string(tensor.packed->n) + ", " +
           std::to_string(tensor.packed->k) + "]";
  }
  std::string text = name_of(tensor.dtype);
  text += "[";
  for (int i = 0; i < tensor.rank; i++) text += (i > 0 ? ", " : "") + std::to_string(tensor.shape[i]);
  return text + "]";
}

}  // namespace ocelli
