#include "engine/block_manager.h"

#include <algorithm>
#include <stdexcept>

namespace ocelli {

BlockManager::BlockManager(int32_t blocks, int32_t block_size, bool prefix_caching)
    : blocks_(blocks), block_size_(block_size), prefix_caching_(prefix_caching) {
  for (int32_t i = 0; i < blocks; i++) give(i);
}

void BlockManager::give(int32_t block) {
  Block& b = blocks_[block];
  b.previous = tail_;
  b.next = -1;
  (tail_ >= 0 ? blocks_[tail_].next : head_) = block;
  tail_ = block;
  free_count_++;
}

void BlockManager::unlink(int32_t block) {
  Block& b = blocks_[block];
  (b.previous >= 0 ? blocks_[b.previous].next : head_) = b.next;
  (b.next >= 0 ? blocks_[b.next].previous : tail_) = b.previous;
  free_count_--;
}

int32_t BlockManager::take() {
  int32_t block = head_;
  unlink(block);
  Block& b = blocks_[block];
  if (b.keyed) {
    cached_.erase(b.key);
    b.keyed = false;
  }
  b.references = 1;
  return block;
}

int32_t BlockManager::missing(const Sequence& sequence, int32_t tokens) const {
  int32_t needed = (tokens + block_size_ - 1) / block_size_ - static_cast<int32_t>(sequence.blocks.size());
  return needed > 0 ? needed : 0;
}

bool BlockManager::grow(Sequence& sequence, int32_t tokens) {
  int32_t needed = missing(sequence, tokens);
  if (needed > free_count_) return false;
  for (int32_t i = 0; i < needed; i++) sequence.blocks.push_back(take());
  return true;
}

void BlockManager::drop(int32_t block) {
  if (block >= 0 && --blocks_[block].references == 0) give(block);
}

void BlockManager::release(Sequence& sequence) {
  for (auto it = sequence.blocks.rbegin(); it != sequence.blocks.rend(); ++it) drop(*it);
  sequence.blocks.clear();
  sequence.published = 0;
  sequence.computed = 0;
}

Digest BlockManager::block_key(const Digest& previous, const Request& request, const int32_t* tokens, int32_t start,
                               int32_t count) {
  // Rows of a span that attends both ways depend on all of it, and so on what lies behind the block.
  int32_t end = start + count;
  for (auto [from, length] : request.atomic) {
    if (from < start + count && from + length > start) end = std::max(end, from + length);
  }
  // Each part says what it is and how long: no two contents are spelled alike.
  enum class Part : int32_t { kSpan = 1, kItem, kPositions };
  Sha256 hash;
  hash.update(previous.data(), previous.size());
  hash.number<int32_t>(end - start).update(tokens + start, sizeof(int32_t) * (end - start));
  for (auto [from, length] : request.atomic) {
    if (from < end && from + length > start) hash.number(Part::kSpan).number<int32_t>(from - start).number(length);
  }
  // Placeholder ids are equal for all pictures: which picture, and which of its rows, makes the difference.
  for (const Item& item : request.items) {
    int32_t row = 0;
    for (auto [from, length] : item.ranges) {
      if (from < end && from + length > start) {
        hash.number(Part::kItem).update(item.hash.data(), item.hash.size());
        hash.number<int32_t>(from - start).number<int32_t>(row);
      }
      row += length;
    }
  }
  // Rotary positions are not always the index (M-RoPE): what they are belongs to the content.
  if (!request.positions.empty()) {
    size_t length = request.prompt.size();
    hash.number(Part::kPositions);
    for (size_t axis = 0; axis * length < request.positions.size(); axis++) {
      for (int32_t i = start; i < end; i++) hash.number(request.position(static_cast<int32_t>(axis), i));
    }
  }
  return hash.digest();
}

const Digest& BlockManager::key_of(Sequence& sequence, int32_t index) const {
  while (static_cast<int32_t>(sequence.keys.size()) <= index) {
    const Digest& previous = sequence.keys.empty() ? sequence.request->salt : sequence.keys.back();
    const int32_t start = static_cast<int32_t>(sequence.keys.size()) * block_size_;
    sequence.keys.push_back(block_key(previous, *sequence.request, sequence.tokens.data(), start, block_size_));
  }
  return sequence.keys[index];
}

void BlockManager::adopt_prefix(Sequence& sequence) {
  if (!looks_up(sequence) || !sequence.blocks.empty()) return;
  int32_t usable = (sequence.length() - 1) / block_size_;
  for (int32_t i = 0; i < usable; i++) {
    auto found = cached_.find(key_of(sequence, i));
    if (found == cached_.end()) break;
    Block& b = blocks_[found->second];
    if (b.references++ == 0) unlink(found->second);
    sequence.blocks.push_back(found->second);
  }
  keep_whole_spans(sequence);
}

// A span that attends both ways is computed in one piece or not at all.
void BlockManager::keep_whole_spans(Sequence& sequence) {
  int32_t kept = static_cast<int32_t>(sequence.blocks.size()) * block_size_;
  for (auto it = sequence.request->atomic.rbegin(); it != sequence.request->atomic.rend(); ++it) {
    if (kept > it->first && kept < it->first + it->second) kept = it->first;
    kept -= kept % block_size_;
  }
  while (static_cast<int32_t>(sequence.blocks.size()) * block_size_ > kept) {
    drop(sequence.blocks.back());
    sequence.blocks.pop_back();
  }
  sequence.published = static_cast<int32_t>(sequence.blocks.size());
  sequence.computed = sequence.published * block_size_;
}

void BlockManager::share_prompt(Sequence& sequence, const Sequence& leader, int32_t window) {
  if (!sequence.blocks.empty()) return;
  const int32_t usable = std::min(leader.computed, std::min(sequence.prompt_length(), sequence.length() - 1));
  for (int32_t i = 0; i < usable / block_size_; i++) {
    // A windowed leader has given its first blocks back.
    if (leader.blocks[i] >= 0) blocks_[leader.blocks[i]].references++;
    sequence.blocks.push_back(leader.blocks[i]);
  }
  keep_whole_spans(sequence);
  // The leader may be so far ahead that its window has left what this one's still sees.
  const int32_t seen = window > 0 ? std::max(0, sequence.computed - window + 1) : 0;
  if (std::count(sequence.blocks.begin() + seen / block_size_, sequence.blocks.end(), -1) > 0) release(sequence);
}

void BlockManager::release_below(Sequence& sequence, int32_t first) {
  for (int32_t i = std::min(first / block_size_, static_cast<int32_t>(sequence.blocks.size())) - 1; i >= 0; i--) {
    if (sequence.blocks[i] < 0) break;
    drop(sequence.blocks[i]);
    sequence.blocks[i] = -1;
  }
}

void BlockManager::count_prefix(const Sequence& sequence) {
  if (!looks_up(sequence)) return;
  prefix_queries += sequence.length();
  prefix_hits += sequence.computed;
}

void BlockManager::publish(Sequence& sequence) {
  if (!prefix_caching_) return;
  const int32_t full = sequence.computed / block_size_;
  for (; sequence.published < full; sequence.published++) {
    const Digest& key = key_of(sequence, sequence.published);
    const int32_t index = sequence.blocks[sequence.published];
    Block& b = blocks_[index];
    if (!b.keyed && cached_.emplace(key, index).second) {
      b.keyed = true;
      b.key = key;
    }
  }
}

void BlockManager::verify(const std::vector<const Sequence*>& sequences) const {
  std::vector<int32_t> references(blocks_.size(), 0);
  for (const Sequence* s : sequences) {
    for (int32_t b : s->blocks) {
      if (b >= 0) references[b]++;
    }
  }
  int32_t unused = 0;
  for (size_t i = 0; i < blocks_.size(); i++) {
    if (references[i] != blocks_[i].references) throw std::logic_error("reference count differs");
    if (references[i] == 0) unused++;
    if (blocks_[i].keyed) {
      auto found = cached_.find(blocks_[i].key);
      if (found == cached_.end() || found->second != static_cast<int32_t>(i))
        throw std::logic_error("a key points elsewhere");
    }
  }
  int32_t listed = 0;
  for (int32_t b = head_; b >= 0; b = blocks_[b].next) {
    listed++;
    if (blocks_[b].references != 0) throw std::logic_error("a used block is listed as free");
  }
  if (listed != free_count_ || unused != free_count_) throw std::logic_error("free + used differs from total");
}

}  // namespace ocelli
