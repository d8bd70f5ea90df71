// Paged KV blocks: reference counts, a free list in LRU order, and a prefix cache by content key.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/request.h"

namespace ocelli {

class BlockManager {
 public:
  BlockManager(int32_t blocks, int32_t block_size, bool prefix_caching);

  int32_t block_size() const { return block_size_; }
  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t free_blocks() const { return free_count_; }
  int32_t used_blocks() const { return total() - free_count_; }

  // Blocks that `sequence` lacks to hold `tokens` tokens.
  int32_t missing(const Sequence& sequence, int32_t tokens) const;
  // Gives the sequence blocks for `tokens` tokens; false (and nothing changed) when too few are free.
  bool grow(Sequence& sequence, int32_t tokens);
  // Gives all blocks back, last first, so that a prefix's beginning is evicted last.
  void release(Sequence& sequence);

  // Lets a sequence without blocks start from cached ones: sets blocks and computed. At least one token is left to
  // compute.
  void adopt_prefix(Sequence& sequence);
  // The same from another output of the request, whose prompt is computed: full blocks of it become both's. Neither
  // ever writes to a shared block: what follows the last full one each computes in blocks of its own.
  void share_prompt(Sequence& sequence, const Sequence& leader, int32_t window);
  // Gives back the blocks that hold only tokens below `first`: no later token looks at them.
  void release_below(Sequence& sequence, int32_t first);
  // Once for each sequence that comes in with what it adopted.
  void count_prefix(const Sequence& sequence);
  // Makes the full blocks below sequence.computed findable.
  void publish(Sequence& sequence);

  uint64_t prefix_queries = 0;  // tokens
  uint64_t prefix_hits = 0;

  // For tests: throws std::logic_error when counts and lists disagree.
  void verify(const std::vector<const Sequence*>& sequences) const;

  // What the keys and values of tokens [start, start + count) depend on beside `previous`, all that came before.
  static Digest block_key(const Digest& previous, const Request& request, const int32_t* tokens, int32_t start,
                          int32_t count);

 private:
  void drop(int32_t block);
  void keep_whole_spans(Sequence& sequence);
  bool looks_up(const Sequence& sequence) const { return prefix_caching_ && !sequence.request->reads_all_rows(); }
  const Digest& key_of(Sequence& sequence, int32_t index) const;
  struct Block {
    int32_t references = 0;
    int32_t previous = -1, next = -1;  // the free list
    bool keyed = false;
    Digest key{};
  };
  int32_t take();
  void give(int32_t block);
  void unlink(int32_t block);

  std::vector<Block> blocks_;
  int32_t block_size_;
  bool prefix_caching_;
  int32_t head_ = -1, tail_ = -1;  // least recently used first
  int32_t free_count_ = 0;
  std::unordered_map<Digest, int32_t, DigestHash> cached_;
};

}  // namespace ocelli
