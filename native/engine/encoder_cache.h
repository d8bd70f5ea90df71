// Picture features by content hash, bounded in bytes: pinned while a sequence needs them, then kept until room is
// needed.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <unordered_map>

#include "core/memory.h"
#include "engine/sha256.h"

namespace ocelli {

class EncoderCache {
 public:
  explicit EncoderCache(uint64_t capacity, Memory& memory = host_memory()) : capacity_(capacity), memory_(memory) {}

  struct Entry {
    Digest hash;
    Allocation rows;  // [rows, width] of the activation dtype
    uint64_t bytes = 0;
    int32_t references = 0;
    bool ready = false;
    std::list<Entry*>::iterator unused;  // its place among the unreferenced
  };

  // The entry, or null; does not count as a use.
  Entry* find(const Digest& hash);
  // A new, unready, referenced entry after evicting unreferenced ones, least recently used first; null when room is
  // lacking now.
  Entry* insert(const Digest& hash, uint64_t bytes);
  void pin(Entry* entry);
  // An unready entry that nobody refers to any more is dropped.
  void unpin(Entry* entry);

  uint64_t capacity() const { return capacity_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t freeable() const;  // free bytes plus those of unreferenced entries
  uint64_t queries = 0;
  uint64_t hits = 0;

 private:
  void erase(Entry* entry);
  uint64_t capacity_;
  Memory& memory_;
  uint64_t bytes_ = 0;
  std::unordered_map<Digest, std::unique_ptr<Entry>, DigestHash> entries_;
  std::list<Entry*> unused_;  // least recently used first
};

}  // namespace ocelli
