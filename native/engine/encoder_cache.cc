#include "engine/encoder_cache.h"

namespace ocelli {

EncoderCache::Entry* EncoderCache::find(const Digest& hash) {
  auto found = entries_.find(hash);
  return found == entries_.end() ? nullptr : found->second.get();
}

EncoderCache::Entry* EncoderCache::insert(const Digest& hash, uint64_t bytes) {
  if (bytes > freeable()) return nullptr;
  while (bytes_ + bytes > capacity_) erase(unused_.front());
  auto entry = std::make_unique<Entry>();
  entry->hash = hash;
  entry->rows = Allocation(memory_, bytes, Use::kInParts, "picture features", "Lower encoderCacheBytes.");
  entry->bytes = bytes;
  entry->references = 1;
  entry->unused = unused_.end();
  Entry* raw = entry.get();
  entries_[hash] = std::move(entry);
  bytes_ += bytes;
  return raw;
}

void EncoderCache::pin(Entry* entry) {
  if (entry->references++ == 0) {
    unused_.erase(entry->unused);
    entry->unused = unused_.end();
  }
}

void EncoderCache::unpin(Entry* entry) {
  if (--entry->references > 0) return;
  entry->unused = unused_.insert(unused_.end(), entry);
  if (!entry->ready) erase(entry);
}

void EncoderCache::erase(Entry* entry) {
  unused_.erase(entry->unused);
  bytes_ -= entry->bytes;
  entries_.erase(Digest(entry->hash));
}

uint64_t EncoderCache::freeable() const {
  uint64_t free = capacity_ - bytes_;
  for (const Entry* e : unused_) free += e->bytes;
  return free;
}

}  // namespace ocelli
