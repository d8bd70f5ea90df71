#include "ptx/arena.h"

#include <cstring>

#include "core/check.h"

namespace ocelli {
namespace ptx {

Address Arena::allocate(size_t bytes) {
  if (bytes > capacity_ - used_) {
    throw Error("ERR_OUT_OF_MEMORY", "Expected at most " + std::to_string(capacity_ - used_) +
                                         " bytes for an allocation but received " + std::to_string(bytes));
  }
  Allocation allocation(bytes);
  allocation.address = next_;
  std::memset(allocation.data.get(), 0xcd, bytes);
  // A gap of its own size or a page behind each allocation: what runs over does not land in a neighbour.
  next_ = (next_ + 2 * bytes + 4096 + 255) / 256 * 256;
  used_ += bytes;
  const Address address = allocation.address;
  allocations_.emplace(address, std::move(allocation));
  return address;
}

void Arena::release(Address address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) {
    throw Error("ERR_PTX", "Expected an allocated address to release but received " + std::to_string(address));
  }
  used_ -= found->second.bytes();
  last_ = nullptr;
  allocations_.erase(found);
}

Allocation* Arena::find(Address address) {
  if (last_ != nullptr && address - last_->address < last_->bytes()) return last_;
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return nullptr;
  Allocation& found = std::prev(next)->second;
  if (address - found.address >= found.bytes()) return nullptr;
  return last_ = &found;
}

Allocation& Arena::at(Address address, size_t bytes) const {
  Allocation* found = const_cast<Arena*>(this)->find(address);
  if (found == nullptr || address - found->address + bytes > found->bytes()) {
    throw Error("ERR_PTX", "Expected allocated memory for a copy of " + std::to_string(bytes) +
                               " bytes but received address " + std::to_string(address));
  }
  return *found;
}

void Arena::write(Address to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  Allocation& allocation = at(to, bytes);
  std::memcpy(allocation.data.get() + (to - allocation.address), from, bytes);
  allocation.shadow.set(to - allocation.address, bytes, Shadow::kWritten);
}

void Arena::read(void* to, Address from, size_t bytes) const {
  if (bytes == 0) return;
  const Allocation& allocation = at(from, bytes);
  std::memcpy(to, allocation.data.get() + (from - allocation.address), bytes);
}

void Arena::begin_launch() {
  for (auto& entry : allocations_) entry.second.shadow.begin_launch();
}

Arena::Snapshot Arena::snapshot() const {
  Snapshot snapshot;
  for (const auto& entry : allocations_) {
    const Allocation& allocation = entry.second;
    snapshot.data.emplace_back(allocation.data.get(), allocation.data.get() + allocation.bytes());
    snapshot.shadow.push_back(allocation.shadow);
    snapshot.shadow.back().begin_launch();
  }
  return snapshot;
}

void Arena::restore(const Snapshot& snapshot) {
  size_t i = 0;
  for (auto& entry : allocations_) {
    std::memcpy(entry.second.data.get(), snapshot.data[i].data(), snapshot.data[i].size());
    entry.second.shadow = snapshot.shadow[i++];
  }
}

Address Arena::first_difference(const Snapshot& snapshot) const {
  size_t i = 0;
  for (const auto& entry : allocations_) {
    const std::vector<uint8_t>& before = snapshot.data[i++];
    for (size_t at = 0; at < before.size(); at++) {
      if (entry.second.data[at] != before[at]) return entry.first + at;
    }
  }
  return 0;
}

}  // namespace ptx
}  // namespace ocelli
