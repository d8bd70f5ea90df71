#include "core/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <string>

#include "core/check.h"

namespace ocelli {

namespace {

class HostMemory final : public Memory {
 public:
  bool host() const override { return true; }
  Memory& staging() override { return *this; }

  void* allocate(uint64_t bytes, Use use) override {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
    if (use == Use::kWhole) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return data;
  }
  void release(void* data, uint64_t bytes) noexcept override { munmap(data, bytes); }

  void upload(void* to, const void* from, uint64_t bytes) override { copy(to, from, bytes); }
  void download(void* to, const void* from, uint64_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, uint64_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void synchronize() override {}
};

}  // namespace

Memory& host_memory() {
  static HostMemory* one = new HostMemory;  // nothing is destroyed at exit, when threads may be alive
  return *one;
}

Allocation::Allocation(Memory& memory, uint64_t bytes, Use use, const char* what, const char* remedy, const char* code)
    : memory_(&memory), bytes_(bytes) {
  if (bytes == 0) return;
  data_ = memory.allocate(bytes, use);
  if (data_ == nullptr) {
    throw Error(code, "Expected " + std::to_string(bytes) + " bytes for " + what + " but the system refused them",
                remedy);
  }
}

Allocation& Allocation::operator=(Allocation&& other) noexcept {
  if (this == &other) return *this;
  reset();
  memory_ = other.memory_;
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

void Allocation::reset() noexcept {
  if (data_ != nullptr) memory_->release(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace ocelli
