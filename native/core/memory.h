// Where a backend's tensors lie: the host's memory, or a device's, which the host reaches by copies alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ocelli {

// How an allocation is going to be used: all of it, or parts of it that come into being one after the other.
enum class Use : uint8_t { kWhole, kInParts };

class Memory {
 public:
  virtual ~Memory() = default;
  // Whether the host reads and writes it as it is; copies are then memcpy, and done at their return.
  virtual bool host() const = 0;
  // Memory of the host that copies to and from this one are fast with.
  virtual Memory& staging() = 0;
  // At least 64-byte aligned, contents undefined; null where there is no room.
  virtual void* allocate(uint64_t bytes, Use use) = 0;
  virtual void release(void* data, uint64_t bytes) noexcept = 0;
  // Copies from the host, to the host, and inside. In the order of the backend's work; the host's side has to stay as
  // it is until synchronize().
  virtual void upload(void* to, const void* from, uint64_t bytes) = 0;
  virtual void download(void* to, const void* from, uint64_t bytes) = 0;
  virtual void copy(void* to, const void* from, uint64_t bytes) = 0;
  // Waits for copies and ops so far. Throws what went wrong in them.
  virtual void synchronize() = 0;
};

// Anonymous memory that is committed when touched, and zero before.
Memory& host_memory();

// One allocation and its owner.
class Allocation {
 public:
  Allocation() = default;
  // Throws `code`: "Expected <bytes> bytes for <what> but the system refused them".
  Allocation(Memory& memory, uint64_t bytes, Use use, const char* what, const char* remedy,
             const char* code = "ERR_OUT_OF_MEMORY");
  ~Allocation() { reset(); }
  Allocation(Allocation&& other) noexcept { *this = std::move(other); }
  Allocation& operator=(Allocation&& other) noexcept;

  void reset() noexcept;
  char* data() const { return static_cast<char*>(data_); }  // null while nothing is allocated
  uint64_t bytes() const { return bytes_; }

 private:
  Memory* memory_ = nullptr;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace ocelli
