// Softmax attention of rows over one range of keys and values each; native/cpu/attention_tile.h says how.
#pragma once

#include "core/op.h"
#include "cpu/gemm.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

constexpr int64_t kBlockRows = 96;  // (row, head) pairs that share keys and values: packing a tile costs three of them

// What all blocks of one op have in common.
struct AttentionShape {
  int64_t dk = 0;
  int64_t dv = 0;
  float scale = 1;
  float softcap = 0;          // 0: none
  DType dtype = DType::kF32;  // of keys and values: f32 or bf16
};

// One (row, head) pair: it sees positions [lo, hi).
struct AttentionRow {
  const float* q;
  float* out;
  int64_t lo;
  int64_t hi;
};

// An op's tasks: blocks of pairs that share a key-value head.
struct AttentionTasks {
  // The pairs of a task, at most kBlockRows, in one order for all callers: neighbours share their ranges.
  virtual int64_t rows(int64_t task, AttentionRow* rows) const = 0;
  // Pointers to its keys and values of positions [begin, end).
  virtual void locate(int64_t task, int64_t begin, int64_t end, const void** k, const void** v) const = 0;

 protected:
  ~AttentionTasks() = default;
};

size_t attention_scratch(int64_t dk, int64_t dv, int threads);
void run_attention(const AttentionShape& shape, const AttentionTasks& tasks, int64_t count, Pool* pool, void* scratch);

// Items with rows (sequences, segments), the tasks of each numbered through: how a flat task number finds its item.
struct AttentionItem {
  int64_t first_task;
  int64_t item;
};

inline const AttentionItem& item_of(const AttentionItem* items, int64_t count, int64_t task) {
  int64_t low = 0;
  while (count - low > 1) {
    int64_t middle = (low + count) / 2;
    if (items[middle].first_task <= task) {
      low = middle;
    } else {
      count = middle;
    }
  }
  return items[low];
}

inline size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
