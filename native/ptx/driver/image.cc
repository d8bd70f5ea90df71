#include "ptx/driver/image.h"

#include <cstdint>
#include <cstring>

namespace ocelli {
namespace ptx {
namespace {

// A fat binary is a header and entries, each with a header of its own; only what is read here is named.
struct FatHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t header_bytes;
  uint64_t bytes;  // of all entries
};
struct EntryHeader {
  uint16_t kind;  // 1: PTX, 2: machine code
  uint16_t version;
  uint32_t header_bytes;
  uint64_t bytes;
};
constexpr uint32_t kMagic = 0xba55ed50;
constexpr uint16_t kPtx = 1;

}  // namespace

std::string ptx_of_image(const void* image) {
  const char* at = static_cast<const char*>(image);
  FatHeader header;
  std::memcpy(&header, at, sizeof header.magic);
  if (header.magic != kMagic) {
    const std::string text(at);
    return text.find(".version") != std::string::npos ? text : "";
  }
  std::memcpy(&header, at, sizeof header);
  at += header.header_bytes;
  const char* end = at + header.bytes;
  while (at < end) {
    EntryHeader entry;
    std::memcpy(&entry, at, sizeof entry);
    const char* body = at + entry.header_bytes;
    if (entry.kind == kPtx) {
      const std::string text(body, strnlen(body, entry.bytes));
      return text.find(".version") != std::string::npos ? text : "";
    }
    at = body + entry.bytes;
  }
  return "";
}

}  // namespace ptx
}  // namespace ocelli
