// The GGUF header: one cursor with checked arithmetic. Everything that the format promises is verified before a pointer
// is made, and nothing is copied but names and the list of tensors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/block_format.h"

namespace ocelli {

// As the file numbers them.
enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};

// One key's value where it lies in the file: `count` elements of a scalar type or strings, each behind its length.
struct GgufValue {
  std::string key;
  GgufType type = GgufType::kU8;  // of the elements
  bool array = false;
  uint64_t count = 1;
  std::string_view bytes;  // as many as the elements take, verified
};

struct GgufTensor {
  std::string name;
  const BlockFormat* format = nullptr;
  std::vector<int64_t> shape;  // slowest dimension first, as everywhere else
  uint64_t offset = 0;         // bytes into the file
  uint64_t bytes = 0;
};

struct GgufFile {
  std::vector<GgufValue> metadata;  // in the file's order
  std::vector<GgufTensor> tensors;
};

bool is_gguf(std::string_view bytes);

// `bytes` is the whole file, `file` names it in errors. ERR_CHECKPOINT_TRUNCATED where the file is shorter than it
// says, ERR_CHECKPOINT_FORMAT for everything else.
GgufFile read_gguf(std::string_view bytes, const std::string& file);

// Reads the elements of a value one after the other; the bytes are checked again, as the file may have changed since.
class GgufElements {
 public:
  explicit GgufElements(const GgufValue& value) : rest_(value.bytes), type_(value.type) {}
  std::string_view string();
  double number();    // of any scalar type; a bool is 0 or 1
  int64_t integer();  // of kI64 and kU64, whose values a double may not hold

 private:
  std::string_view rest_;
  GgufType type_;
};

}  // namespace ocelli
