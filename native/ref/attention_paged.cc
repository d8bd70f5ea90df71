// q [T, heads, Dk] over the KV cache -> [T, heads, Dv]: softmax(softcap(q k^T scale)) v over cache positions [lo, hi).
// hi is the step's; lo = max(0, own position + 1 - window), so that a row which sees beyond itself (inside a picture)
// still reaches `window` positions back.
#include <algorithm>
#include <cstring>
#include <vector>

#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_attention_paged(const OpCall& call) {
  expect_counts(call, 1, 1, 1);
  const Tensor& q = call.in[0];
  expect_f32(call, "q", q);
  expect_rank(call, "q", q, 3);
  expect_rows(call, "q", q);
  expect_f32(call, "out", call.out[0]);
  expect_shape(call, "out", call.out[0], {q.shape[0], q.shape[1], -1});
  expect_rows(call, "out", call.out[0]);
  int64_t layer = call.attrs->integer("layer");
  if (layer < 0) fail_attr(call, "layer", "0 or more", std::to_string(layer));
  call.attrs->number("scale");
  if (call.attrs->number("window", 0) < 0) fail_attr(call, "window", "0 (none) or more", "a negative number");
  if (call.step == nullptr || call.step->kv == nullptr) return;
  const KvCache& kv = *call.step->kv;
  if (layer >= kv.layers) fail_attr(call, "layer", "less than " + std::to_string(kv.layers), std::to_string(layer));
  expect_shape(call, "q", q, {-1, -1, kv.head_dim_k});
  expect_shape(call, "out", call.out[0], {-1, -1, kv.head_dim_v});
  if (q.shape[1] % kv.kv_heads != 0) {
    fail_shape(call, "q", "a multiple of " + std::to_string(kv.kv_heads) + " heads", describe(q));
  }
}

extern const OpContract attention_paged;
const OpContract attention_paged = {check_attention_paged, false};

}  // namespace contract

namespace ref {

static void run_attention_paged(const OpCall& call) {
  const Tensor& q = call.in[0];
  const Tensor& out = call.out[0];
  const StepContext& step = *call.step;
  const KvCache& kv = *step.kv;
  const KvLayer& layer = kv.layer[call.attrs->integer("layer")];
  double scale = call.attrs->number("scale");
  double softcap = call.attrs->number("softcap", 0);
  int64_t window = call.attrs->integer("window", 0);
  int64_t heads = q.shape[1];
  int64_t group = heads / kv.kv_heads;
  for (int32_t s = 0; s < step.sequences; s++) {
    int64_t first = step.cu_rows[s];
    int64_t count = step.cu_rows[s + 1] - first;
    const int32_t* blocks = step.block_table + static_cast<int64_t>(s) * step.max_blocks;
    call.pool->parallel_for(count * heads, [&](int64_t task, int) {
      int64_t row = first + task / heads;
      int64_t head = task % heads;
      int64_t position = step.context[s] - count + (row - first);
      int64_t hi = std::min<int64_t>(step.hi[row], step.context[s]);
      int64_t lo = window > 0 ? std::max<int64_t>(0, position + 1 - window) : 0;
      const float* from = q.as<float>() + row * q.stride[0] + head * q.stride[1];
      float* to = out.as<float>() + row * out.stride[0] + head * out.stride[1];
      // Element d of the row of position p.
      auto read_at = [&](const void* cache, int64_t p, int64_t width, int64_t d) {
        const int64_t at = (blocks[p / kv.block_size] * static_cast<int64_t>(kv.kv_heads) + head / group) * kv.block_size +
                           p % kv.block_size;
        if (kv.dtype != DType::kI8) return read(cache, kv.dtype, at * width + d);
        const char* quants = static_cast<const char*>(cache) + at * kv_row_bytes(kv.dtype, width);
        float scale;
        std::memcpy(&scale, quants, kKvScaleBytes);
        return scale * static_cast<float>(static_cast<const int8_t*>(static_cast<const void*>(quants))[kKvScaleBytes + d]);
      };
      std::vector<double> weight(hi > lo ? hi - lo : 0);
      double most = -INFINITY;
      for (int64_t p = lo; p < hi; p++) {
        double sum = 0;
        for (int64_t d = 0; d < kv.head_dim_k; d++)
          sum += static_cast<double>(from[d]) * read_at(layer.k, p, kv.head_dim_k, d);
        sum *= scale;
        if (softcap > 0) sum = softcap * std::tanh(sum / softcap);
        weight[p - lo] = sum;
        most = std::max(most, sum);
      }
      double total = 0;
      for (double& w : weight) total += w = std::exp(w - most);
      std::vector<double> sum(kv.head_dim_v, 0.0);
      for (int64_t p = lo; p < hi; p++) {
        for (int64_t d = 0; d < kv.head_dim_v; d++) sum[d] += weight[p - lo] * read_at(layer.v, p, kv.head_dim_v, d);
      }
      for (int64_t d = 0; d < kv.head_dim_v; d++) to[d] = total > 0 ? static_cast<float>(sum[d] / total) : 0.f;
    });
  }
}

extern const OpImpl attention_paged;
const OpImpl attention_paged = {run_attention_paged, nullptr};

}  // namespace ref
}  // namespace ocelli
