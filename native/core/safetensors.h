// The safetensors header: one checked-arithmetic reader. Everything the format promises is verified before a pointer is
// made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ocelli {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // as the file spells it: "F32", "BF16", "F8_E4M3"
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes into the data
  uint64_t end = 0;
};

struct SafetensorsFile {
  uint64_t data_offset = 0;               // bytes into the file
  std::vector<SafetensorsEntry> entries;  // by offset
};

// `head` is the file's beginning, at least the header if `file_bytes` allows it; `file` names it in errors.
// ERR_CHECKPOINT_TRUNCATED where the file is shorter than it says, ERR_CHECKPOINT_FORMAT for everything else.
SafetensorsFile read_safetensors(std::string_view head, uint64_t file_bytes, const std::string& file);

}  // namespace ocelli
