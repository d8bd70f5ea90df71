// Pictures of megabytes are written once and freed: with pages of 4 KiB, most of that is the system handing them out
// one by one.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ocelli {
namespace image {

constexpr size_t kLargePage = 2 << 20;
// Below this the allocator keeps freed room, and nothing is handed out anew: large pages would be cleared each time.
constexpr size_t kLargePicture = 8 << 20;

// How far behind `data` a large page begins.
inline size_t to_large_page(const void* data) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  return (address + kLargePage - 1) / kLargePage * kLargePage - address;
}

// Asks for large pages for the whole ones in [data, data + bytes), before anything is written there. A hint: nothing
// fails.
inline void prefer_large_pages(void* data, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  const size_t before = to_large_page(data);
  if (before + kLargePage > bytes) return;
  madvise(static_cast<char*>(data) + before, (bytes - before) / kLargePage * kLargePage, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace image
}  // namespace ocelli
