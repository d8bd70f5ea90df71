// q [T, heads, Dk] over the KV cache -> [T, heads, Dv]. Tasks: a sequence, a key-value head and a block of its (row,
// head) pairs.
#include "cpu/attention.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

struct PagedAttention final : AttentionTasks {
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
  int64_t most;  // pairs of one task
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
        items(static_cast<AttentionItem*>(c.scratch)),
        most(most_rows(kv.kv_heads * group * q.shape[0], c.pool->threads())) {
    shape.dk = kv.head_dim_k;
    shape.dv = kv.head_dim_v;
    shape.scale = static_cast<float>(c.attrs->number("scale"));
    shape.softcap = static_cast<float>(c.attrs->number("softcap", 0));
    shape.quantized = kv.dtype == DType::kI8;
    shape.dtype = shape.quantized ? DType::kBF16 : kv.dtype;
    shape.bf16 = shape.dtype == DType::kBF16;
    for (int32_t s = 0; s < step.sequences; s++) {
      if (pairs_of(s) == 0) continue;
      items[count++] = {tasks, s};
      tasks += kv.kv_heads * blocks_of(s);
    }
  }

  int64_t pairs_of(int64_t s) const { return (step.cu_rows[s + 1] - step.cu_rows[s]) * group; }
  int64_t each_of(int64_t s) const { return even_rows(pairs_of(s), most); }
  int64_t blocks_of(int64_t s) const { return (pairs_of(s) + each_of(s) - 1) / each_of(s); }

  // The sequence, key-value head and pairs [begin, end) of a task.
  struct Place {
    int64_t s;
    int64_t kv_head;
    int64_t begin;
    int64_t end;
  };
  Place place_of(int64_t task) const {
    const AttentionItem& item = item_of(items, count, task);
    int64_t inside = task - item.first_task;
    int64_t pairs = pairs_of(item.item);
    int64_t each = each_of(item.item);
    int64_t blocks = blocks_of(item.item);
    int64_t begin = inside % blocks * each;
    return {item.item, inside / blocks, begin, begin + each < pairs ? begin + each : pairs};
  }

  int64_t rows(int64_t task, AttentionRow* block) const override {
    auto [s, kv_head, begin, end] = place_of(task);
    int64_t pairs = end - begin;
    int64_t first = step.context[s] - (step.cu_rows[s + 1] - step.cu_rows[s]);
    for (int64_t i = 0; i < pairs; i++) {
      int64_t row = step.cu_rows[s] + (begin + i) / group;
      int64_t head = kv_head * group + (begin + i) % group;
      int64_t position = first + (begin + i) / group;
      int64_t hi = step.hi[row] < step.context[s] ? step.hi[row] : step.context[s];
      int64_t lo = window > 0 && position + 1 > window ? position + 1 - window : 0;
      block[i] = {q.as<const float>() + row * q.stride[0] + head * q.stride[1],
                  out.as<float>() + row * out.stride[0] + head * out.stride[1], lo, hi};
    }
    return pairs;
  }

  void locate(int64_t task, int64_t begin, int64_t end, const void** k, const void** v) const override {
    Place place = place_of(task);
    const int32_t* blocks = step.block_table + place.s * step.max_blocks;
    int64_t bytes_k = kv_row_bytes(kv.dtype, kv.head_dim_k);
    int64_t bytes_v = kv_row_bytes(kv.dtype, kv.head_dim_v);
    for (int64_t p = begin; p < end;) {
      int64_t inside = p % kv.block_size;
      int64_t block = static_cast<int64_t>(blocks[p / kv.block_size]) * kv.kv_heads + place.kv_head;
      int64_t row = block * kv.block_size + inside;
      const char* from_k = static_cast<const char*>(layer.k) + row * bytes_k;
      const char* from_v = static_cast<const char*>(layer.v) + row * bytes_v;
      const int64_t count = kv.block_size - inside < end - p ? kv.block_size - inside : end - p;
      for (int64_t i = 0; i < count; i++) {
        k[i] = from_k + i * bytes_k;
        v[i] = from_v + i * bytes_v;
      }
      k += count;
      v += count;
      p += count;
    }
  }
};

// The items, then what run_attention needs.
size_t items_bytes(const OpCall& call) { return align64(call.in[0].shape[0] * sizeof(AttentionItem)); }

void run_attention_paged(const OpCall& call) {
  if (call.in[0].shape[0] == 0) return;
  PagedAttention op(call);
  run_attention(op.shape, op, op.tasks, call.pool, static_cast<char*>(call.scratch) + items_bytes(call));
}

size_t scratch_of_paged(const OpCall& call) {
  return items_bytes(call) + attention_scratch(call.in[0].shape[2], call.out[0].shape[2], call.pool->threads());
}

}  // namespace

extern const OpImpl attention_paged;
const OpImpl attention_paged = {run_attention_paged, scratch_of_paged};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
