// Attention inside segments of q [S, heads, D], k [S, kv_heads, D], v [S, kv_heads, Dv]; rank 4: each b of [B, L,
// heads, D] is a segment. Positions count from the start of a segment: where it lies in the batch leaves no trace in
// its bits.
#include "cpu/attention.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

struct VarlenAttention final : AttentionTasks {
  const OpCall& call;
  const Tensor& q;
  const Tensor& k;
  const Tensor& v;
  const Tensor& out;
  const int32_t* borders;  // null: one segment, or of rank 4
  bool causal;
  int64_t heads;
  int64_t kv_heads;
  int64_t group;
  int64_t tokens;
  int64_t most;  // pairs of one task
  AttentionShape shape;
  AttentionItem* items;
  int64_t count = 0;
  int64_t tasks = 0;

  explicit VarlenAttention(const OpCall& c)
      : call(c),
        q(c.in[0]),
        k(c.in[1]),
        v(c.in[2]),
        out(c.out[0]),
        borders(c.inputs > 3 && c.in[3].present() ? c.in[3].as<int32_t>() : nullptr),
        causal(c.attrs->number("causal", 0) != 0),
        heads(q.shape[q.rank - 2]),
        kv_heads(k.shape[k.rank - 2]),
        group(heads / kv_heads),
        tokens(q.rank == 3 ? q.shape[0] : q.shape[0] * q.shape[1]),
        most(most_rows(tokens * heads, c.pool->threads())),
        items(static_cast<AttentionItem*>(c.scratch)) {
    shape.dk = q.shape[q.rank - 1];
    shape.dv = v.shape[v.rank - 1];
    shape.scale = static_cast<float>(c.attrs->number("scale"));
    shape.bf16 = c.attrs->number("bf16", 0) != 0;
    check_borders();
    for (int64_t s = 0; s < segments(); s++) {
      if (end_of(s) == start_of(s)) continue;
      items[count++] = {tasks, s};
      tasks += kv_heads * blocks_of(s);
    }
  }

  int64_t segments() const {
    if (borders != nullptr) return call.in[3].shape[0] - 1;
    return q.rank == 4 ? q.shape[0] : 1;
  }
  int64_t start_of(int64_t s) const {
    if (borders != nullptr) return borders[s];
    return q.rank == 4 ? s * q.shape[1] : s * tokens;
  }
  int64_t end_of(int64_t s) const { return start_of(s + 1); }
  int64_t pairs_of(int64_t s) const { return (end_of(s) - start_of(s)) * group; }
  int64_t each_of(int64_t s) const { return even_rows(pairs_of(s), most); }
  int64_t blocks_of(int64_t s) const { return (pairs_of(s) + each_of(s) - 1) / each_of(s); }

  void check_borders() const {
    if (borders == nullptr) return;
    for (int64_t i = 0; i <= segments(); i++) {
      int64_t before = i == 0 ? 0 : borders[i - 1];
      if (borders[i] < before || borders[i] > tokens)
        fail_index(call, "cu_seqlens", "ascending borders from 0 to", tokens, borders[i], i);
    }
  }

  // Rows that no segment holds.
  void clear_outside() const {
    if (borders == nullptr) return;
    auto clear = [&](int64_t begin, int64_t end) {
      for (int64_t row = begin * heads; row < end * heads; row++)
        std::memset(row_at(out, row), 0, shape.dv * sizeof(float));
    };
    clear(0, borders[0]);
    clear(borders[segments()], tokens);
  }

  // The segment, key-value head and first pair of a task.
  struct Place {
    int64_t s;
    int64_t kv_head;
    int64_t begin;
  };
  Place place_of(int64_t task) const {
    const AttentionItem& item = item_of(items, count, task);
    int64_t inside = task - item.first_task;
    return {item.item, inside / blocks_of(item.item), inside % blocks_of(item.item) * each_of(item.item)};
  }

  int64_t rows(int64_t task, AttentionRow* block) const override {
    auto [s, kv_head, begin] = place_of(task);
    int64_t pairs = pairs_of(s) - begin < each_of(s) ? pairs_of(s) - begin : each_of(s);
    const float* from = row_at(q, start_of(s) * heads + kv_head * group);
    float* to = row_at(out, start_of(s) * heads + kv_head * group);
    for (int64_t i = 0; i < pairs; i++) {
      int64_t token = (begin + i) / group;
      int64_t head = (begin + i) % group;
      block[i] = {from + token * token_stride(q) + head * head_stride(q),
                  to + token * token_stride(out) + head * head_stride(out), 0,
                  causal ? token + 1 : end_of(s) - start_of(s)};
    }
    return pairs;
  }

  void locate(int64_t task, int64_t begin, int64_t end, const void** to_k, const void** to_v) const override {
    Place place = place_of(task);
    const float* first_k = row_at(k, start_of(place.s) * kv_heads + place.kv_head);
    const float* first_v = row_at(v, start_of(place.s) * kv_heads + place.kv_head);
    for (int64_t p = begin; p < end; p++) {
      *to_k++ = first_k + p * token_stride(k);
      *to_v++ = first_v + p * token_stride(v);
    }
  }

  // Inside a segment.
  static int64_t token_stride(const Tensor& x) { return x.stride[x.rank - 3]; }
  static int64_t head_stride(const Tensor& x) { return x.stride[x.rank - 2]; }
};

int64_t tokens_of(const OpCall& call) {
  const Tensor& q = call.in[0];
  return q.rank == 3 ? q.shape[0] : q.shape[0] * q.shape[1];
}

// The items (segments with rows: not more than tokens), then what run_attention needs.
size_t items_bytes(const OpCall& call) { return align64(tokens_of(call) * sizeof(AttentionItem)); }

void run_attention_varlen(const OpCall& call) {
  VarlenAttention op(call);
  op.clear_outside();
  run_attention(op.shape, op, op.tasks, call.pool, static_cast<char*>(call.scratch) + items_bytes(call));
}

size_t scratch_of_varlen(const OpCall& call) {
  int last = call.in[0].rank - 1;
  return items_bytes(call) + attention_scratch(call.in[0].shape[last], call.in[2].shape[last], call.pool->threads());
}

}  // namespace

extern const OpImpl attention_varlen;
const OpImpl attention_varlen = {run_attention_varlen, scratch_of_varlen};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
