// q [T, heads, Dk] over the KV cache -> [T, heads, Dv]. Tasks: a sequence, a key-value head and a block of its (row,
// head) pairs.
#include "cpu/attention.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

// One sequence's blocks at one key-value head.
struct Pages final : KeyValueSource {
  const KvCache& kv;
  const KvLayer& layer;
  const int32_t* blocks;
  int64_t head;

  Pages(const KvCache& cache, const KvLayer& at, const int32_t* table, int64_t kv_head)
      : kv(cache), layer(at), blocks(table), head(kv_head) {}

  void locate(int64_t begin, int64_t end, const void** k, const void** v) const override {
    int64_t bytes_k = kv.head_dim_k * size_of(kv.dtype);
    int64_t bytes_v = kv.head_dim_v * size_of(kv.dtype);
    for (int64_t p = begin; p < end;) {
      int64_t inside = p % kv.block_size;
      int64_t row = (blocks[p / kv.block_size] * static_cast<int64_t>(kv.kv_heads) + head) * kv.block_size + inside;
      for (; inside < kv.block_size && p < end; inside++, row++, p++) {
        *k++ = static_cast<const char*>(layer.k) + row * bytes_k;
        *v++ = static_cast<const char*>(layer.v) + row * bytes_v;
      }
    }
  }
};

struct PagedAttention {
  const OpCall& call;
  const Tensor& q;
  const Tensor& out;
  const StepContext& step;
  const KvCache& kv;
  const KvLayer& layer;
  int64_t window;
  int64_t group;
  AttentionShape shape;
  AttentionItem* items;
  int64_t count = 0;
  int64_t tasks = 0;

  explicit PagedAttention(const OpCall& c)
      : call(c),
        q(c.in[0]),
        out(c.out[0]),
        step(*c.step),
        kv(*step.kv),
        layer(kv.layer[c.attrs->integer("layer")]),
        window(c.attrs->integer("window", 0)),
        group(q.shape[1] / kv.kv_heads),
        items(static_cast<AttentionItem*>(c.scratch)) {
    shape.dk = kv.head_dim_k;
    shape.dv = kv.head_dim_v;
    shape.scale = static_cast<float>(c.attrs->number("scale"));
    shape.softcap = static_cast<float>(c.attrs->number("softcap", 0));
    shape.dtype = kv.dtype;
    for (int32_t s = 0; s < step.sequences; s++) {
      if (pairs_of(s) == 0) continue;
      items[count++] = {tasks, s};
      tasks += kv.kv_heads * blocks_of(s);
    }
  }

  int64_t pairs_of(int64_t s) const { return (step.cu_rows[s + 1] - step.cu_rows[s]) * group; }
  int64_t blocks_of(int64_t s) const { return (pairs_of(s) + kBlockRows - 1) / kBlockRows; }

  void run(int64_t task, void* scratch) const {
    const AttentionItem& item = item_of(items, count, task);
    int64_t s = item.item;
    int64_t kv_head = (task - item.first_task) / blocks_of(s);
    int64_t begin = (task - item.first_task) % blocks_of(s) * kBlockRows;
    int64_t pairs = pairs_of(s) - begin < kBlockRows ? pairs_of(s) - begin : kBlockRows;
    int64_t rows = step.cu_rows[s + 1] - step.cu_rows[s];
    AttentionRow block[kBlockRows];
    for (int64_t i = 0; i < pairs; i++) {
      int64_t row = step.cu_rows[s] + (begin + i) / group;
      int64_t head = kv_head * group + (begin + i) % group;
      int64_t position = step.context[s] - rows + (begin + i) / group;
      int64_t hi = step.hi[row] < step.context[s] ? step.hi[row] : step.context[s];
      int64_t lo = window > 0 && position + 1 > window ? position + 1 - window : 0;
      block[i] = {q.as<const float>() + row * q.stride[0] + head * q.stride[1],
                  out.as<float>() + row * out.stride[0] + head * out.stride[1], lo, hi};
    }
    attend(shape, block, pairs, Pages(kv, layer, step.block_table + s * step.max_blocks, kv_head), scratch);
  }
};

// The items, then each worker's share.
size_t items_bytes(const OpCall& call) { return align64(call.in[0].shape[0] * sizeof(AttentionItem)); }

void run_attention_paged(const OpCall& call) {
  if (call.in[0].shape[0] == 0) return;
  PagedAttention op(call);
  size_t each = attention_scratch(op.shape.dk, op.shape.dv);
  char* scratch = static_cast<char*>(call.scratch) + items_bytes(call);
  call.pool->parallel_for(op.tasks, [&](int64_t task, int worker) { op.run(task, scratch + worker * each); });
}

size_t scratch_of_paged(const OpCall& call) {
  size_t each = attention_scratch(call.in[0].shape[2], call.out[0].shape[2]);
  return items_bytes(call) + each * call.pool->threads();
}

}  // namespace

extern const OpImpl attention_paged;
const OpImpl attention_paged = {run_attention_paged, scratch_of_paged};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
