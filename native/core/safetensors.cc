#include "core/safetensors.h"

#include <algorithm>
#include <set>

#include "core/check.h"
#include "core/json.h"

namespace ocelli {

namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 16;
constexpr size_t kMaxName = 4096;

struct StoredType {
  const char* name;
  uint64_t bits;
};
const StoredType kTypes[] = {
    {"BOOL", 8},        {"U8", 8},          {"I8", 8},      {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},        {"F32", 32},    {"I64", 64},    {"U64", 64},    {"F64", 64},
    {"C64", 64},        {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

uint64_t bits_of(const std::string& dtype) {
  for (const StoredType& type : kTypes) {
    if (dtype == type.name) return type.bits;
  }
  return 0;
}

class HeaderReader {
 public:
  HeaderReader(std::string_view header, const std::string& file)
      : json_(header, "ERR_CHECKPOINT_FORMAT", "the header of " + file), file_(file) {}

  std::vector<SafetensorsEntry> read() {
    std::set<std::string> names;
    std::string key;
    bool metadata_seen = false;
    json_.begin_object();
    while (json_.next_key(&key)) {
      if (key == "__metadata__") {
        if (metadata_seen) json_.fail("__metadata__ once");
        metadata_seen = true;
        metadata();
        continue;
      }
      if (key.size() > kMaxName) json_.fail("a tensor's name of at most " + std::to_string(kMaxName) + " bytes");
      if (!names.insert(key).second) json_.fail("each tensor once ('" + key + "')");
      entries_.push_back(entry(key));
    }
    json_.finish();
    return std::move(entries_);
  }

 private:
  void metadata() {
    std::set<std::string> keys;
    std::string key;
    json_.begin_object();
    while (json_.next_key(&key)) {
      if (!keys.insert(key).second) json_.fail("each key of __metadata__ once");
      json_.string(kMaxHeader);
    }
  }

  SafetensorsEntry entry(const std::string& name) {
    SafetensorsEntry entry;
    entry.name = name;
    bool dtype_seen = false;
    bool shape_seen = false;
    bool offsets_seen = false;
    std::string key;
    json_.begin_object();
    while (json_.next_key(&key)) {
      if (key == "dtype") {
        once(&dtype_seen, key, name);
        entry.dtype = json_.string(64);
      } else if (key == "shape") {
        once(&shape_seen, key, name);
        json_.begin_array();
        while (json_.next_element()) {
          if (entry.shape.size() >= kMaxDimensions)
            json_.fail("at most " + std::to_string(kMaxDimensions) + " dimensions of '" + name + "'");
          int64_t size = json_.integer();
          if (size < 0) json_.fail("sizes of 0 or more for '" + name + "'");
          entry.shape.push_back(size);
        }
      } else if (key == "data_offsets") {
        once(&offsets_seen, key, name);
        json_.begin_array();
        int count = 0;
        while (json_.next_element()) {
          uint64_t offset = json_.unsigned64();
          if (count == 0) entry.begin = offset;
          if (count == 1) entry.end = offset;
          if (++count > 2) break;
        }
        if (count != 2) json_.fail("two data_offsets of '" + name + "'");
      } else {
        json_.skip();
      }
    }
    if (!dtype_seen || !shape_seen || !offsets_seen) json_.fail("dtype, shape and data_offsets of '" + name + "'");
    if (bits_of(entry.dtype) == 0) {
      throw Error("ERR_CHECKPOINT_FORMAT", "Expected a dtype of the format for '" + name + "' in " + file_ +
                                               " but received '" + entry.dtype + "'");
    }
    return entry;
  }

  void once(bool* seen, const std::string& key, const std::string& name) {
    if (*seen) json_.fail("'" + key + "' once for '" + name + "'");
    *seen = true;
  }

  JsonReader json_;
  const std::string& file_;
  std::vector<SafetensorsEntry> entries_;
};

[[noreturn]] void fail(const std::string& expected, const std::string& what, const std::string& file,
                       const std::string& found) {
  throw Error("ERR_CHECKPOINT_FORMAT",
              "Expected " + expected + " for " + what + " in " + file + " but received " + found);
}

void check_size(const SafetensorsEntry& entry, const std::string& file) {
  std::string what = "the data of '" + entry.name + "'";
  if (entry.end < entry.begin)
    fail("an end after its begin", what, file, std::to_string(entry.begin) + " to " + std::to_string(entry.end));
  uint64_t bits = bits_of(entry.dtype);
  for (int64_t size : entry.shape) {
    if (__builtin_mul_overflow(bits, static_cast<uint64_t>(size), &bits))
      fail("fewer than 2^64 bits", what, file, "more");
  }
  if (bits % 8 != 0) fail("whole bytes", what, file, std::to_string(bits) + " bits");
  if (entry.end - entry.begin != bits / 8) {
    fail(std::to_string(bits / 8) + " bytes", what, file, std::to_string(entry.end - entry.begin));
  }
}

}  // namespace

SafetensorsFile read_safetensors(std::string_view head, uint64_t file_bytes, const std::string& file) {
  auto truncated = [&](uint64_t needed) {
    throw Error("ERR_CHECKPOINT_TRUNCATED",
                "Expected at least " + std::to_string(needed) + " bytes for " + file + " but received " +
                    std::to_string(file_bytes),
                "Download the file again: it was cut off, or is a pointer of git-lfs.");
  };
  if (file_bytes < 8 || head.size() < 8) truncated(8);
  uint64_t length = 0;
  for (int i = 7; i >= 0; i--) length = length << 8 | static_cast<unsigned char>(head[i]);
  if (length > kMaxHeader) {
    throw Error("ERR_CHECKPOINT_FORMAT",
                "Expected a header of at most " + std::to_string(kMaxHeader) + " bytes for " + file + " but received " +
                    std::to_string(length),
                "The file is not in the safetensors format.");
  }
  if (length > file_bytes - 8 || length > head.size() - 8) truncated(8 + length);
  std::string_view header = head.substr(8, length);
  if (header.empty() || header[0] != '{')
    fail("'{' first", "the header", file, header.empty() ? "nothing" : "another byte");

  SafetensorsFile result;
  result.data_offset = 8 + length;
  result.entries = HeaderReader(header, file).read();
  std::sort(result.entries.begin(), result.entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (const SafetensorsEntry& entry : result.entries) {
    check_size(entry, file);
    if (entry.begin != at) {
      fail("a begin at " + std::to_string(at) + ", where the tensor before it ends,", "'" + entry.name + "'", file,
           std::to_string(entry.begin));
    }
    at = entry.end;
  }
  uint64_t data = file_bytes - result.data_offset;
  if (at > data) truncated(at > UINT64_MAX - result.data_offset ? UINT64_MAX : result.data_offset + at);
  if (at < data) fail(std::to_string(at) + " bytes of data", "all tensors", file, std::to_string(data));
  return result;
}

}  // namespace ocelli
