// The device's global memory: allocations that know their bounds, at addresses that are never used twice.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "ptx/shadow.h"

namespace ocelli {
namespace ptx {

using Address = uint64_t;

// Windows of the generic address space.
constexpr Address kGlobalBase = Address{1} << 40;
constexpr Address kSharedWindow = Address{2} << 48;
constexpr Address kLocalWindow = Address{3} << 48;

struct Allocation {
  Address address = 0;
  std::unique_ptr<uint8_t[]> data;
  Shadow shadow;

  explicit Allocation(size_t bytes) : data(new uint8_t[bytes]), shadow(bytes) {}
  size_t bytes() const { return shadow.size(); }
};

class Arena {
 public:
  // `capacity`: bytes after which allocate throws ERR_OUT_OF_MEMORY.
  explicit Arena(size_t capacity = SIZE_MAX) : capacity_(capacity) {}

  // Aligned to 256, as the driver's. The contents are noise and count as unwritten.
  Address allocate(size_t bytes);
  void release(Address address);  // throws ERR_PTX where nothing was allocated
  size_t used() const { return used_; }
  size_t capacity() const { return capacity_; }

  // The host's side; both throw ERR_PTX outside of allocations.
  void write(Address to, const void* from, size_t bytes);
  void read(void* to, Address from, size_t bytes) const;

  template <class T>
  Address upload(const std::vector<T>& values) {
    const Address address = allocate(values.size() * sizeof(T));
    write(address, values.data(), values.size() * sizeof(T));
    return address;
  }
  template <class T>
  std::vector<T> download(Address from, size_t count) const {
    std::vector<T> values(count);
    read(values.data(), from, count * sizeof(T));
    return values;
  }

  // The allocation that holds `address`, or null.
  Allocation* find(Address address);
  void begin_launch();  // see Shadow

  // All bytes and what is known of them, for running a kernel again on the same memory.
  struct Snapshot {
    std::vector<std::vector<uint8_t>> data;
    std::vector<Shadow> shadow;
  };
  Snapshot snapshot() const;
  void restore(const Snapshot& snapshot);
  // The first address at which memory differs from the snapshot's, or 0.
  Address first_difference(const Snapshot& snapshot) const;

 private:
  Allocation& at(Address address, size_t bytes) const;

  mutable std::map<Address, Allocation> allocations_;
  mutable Allocation* last_ = nullptr;
  Address next_ = kGlobalBase;
  size_t used_ = 0;
  size_t capacity_;
};

}  // namespace ptx
}  // namespace ocelli
