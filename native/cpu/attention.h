// Softmax attention of rows over one range of keys and values each; native/cpu/attention_tile.h says how.
#pragma once

#include "core/op.h"
#include "cpu/gemm.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// (row, head) pairs that share keys and values, at most, since packing a tile costs as much as some of them; and those
// of them that are computed at once.
#if defined(OCELLI_ISA_amx)
constexpr int64_t kBlockRows = 512;
constexpr int64_t kSubTile = 32;
#else
constexpr int64_t kBlockRows = 96;
constexpr int64_t kSubTile = kMR;
#endif

// What all blocks of one op have in common.
struct AttentionShape {
  int64_t dk = 0;
  int64_t dv = 0;
  float scale = 1;
  float softcap = 0;          // 0: none
  DType dtype = DType::kF32;  // of keys and values: f32 or bf16
  bool bf16 = false;          // they are multiplied as bf16 holds them
  bool quantized = false;     // they are int8 with a scale, widened to bf16 tile by tile
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

// Up to the next multiple.
constexpr int64_t padded(int64_t width, int64_t to) { return (width + to - 1) / to * to; }

// As many tasks as these per thread come out even enough; below so many pairs packing would weigh too much.
constexpr int64_t kTasksPerThread = 3;
constexpr int64_t kLeastRows = padded(24, kSubTile);

// Pairs of a task at most, where an op has `pairs`.
inline int64_t most_rows(int64_t pairs, int64_t threads) {
  if (threads == 1) return kBlockRows;
  const int64_t even = padded(pairs / (kTasksPerThread * threads), kSubTile);
  return even < kLeastRows ? kLeastRows : (even > kBlockRows ? kBlockRows : even);
}

// Pairs of each task of an item that has `pairs`, but of its last: about as many in each.
inline int64_t even_rows(int64_t pairs, int64_t most) {
  int64_t blocks = (pairs + most - 1) / most;
  return padded((pairs + blocks - 1) / blocks, kSubTile);
}

inline size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
