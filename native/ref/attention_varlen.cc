// Attention inside segments: q [S, heads, D], k [S, kv_heads, D], v [S, kv_heads, Dv], segments by cu_seqlens [n + 1]
// (absent: all one); or rank 4, [B, L, heads, D], each b a segment. Rows that no segment holds come out as zeros.
// With bf16, k and v are rounded to bf16 (nearest even) first: the result is that of attention_paged over a cache of bf16.
#include <algorithm>
#include <vector>

#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_attention_varlen(const OpCall& call) {
  expect_counts(call, 3, 4, 1);
  const Tensor& q = call.in[0];
  const Tensor& k = call.in[1];
  const Tensor& v = call.in[2];
  const char* names[] = {"q", "k", "v"};
  if (q.rank != 3 && q.rank != 4) fail_shape(call, "q", "rank 3 or 4", describe(q));
  int last = q.rank - 1;
  for (int i = 0; i < 3; i++) {
    expect_f32(call, names[i], call.in[i]);
    expect_rank(call, names[i], call.in[i], q.rank);
    expect_rows(call, names[i], call.in[i]);
    for (int d = 0; d + 2 < q.rank; d++) {
      if (call.in[i].shape[d] != q.shape[d])
        fail_shape(call, names[i], "the tokens of " + describe(q), describe(call.in[i]));
    }
  }
  if (k.shape[last] != q.shape[last]) fail_shape(call, "k", "the head size of " + describe(q), describe(k));
  if (v.shape[last - 1] != k.shape[last - 1]) fail_shape(call, "v", "the heads of " + describe(k), describe(v));
  if (k.shape[last - 1] < 1 || q.shape[last - 1] % k.shape[last - 1] != 0) {
    fail_shape(call, "q", "a multiple of " + std::to_string(k.shape[last - 1]) + " heads", describe(q));
  }
  if (call.inputs > 3 && call.in[3].rank >= 0) {
    expect_i32(call, "cu_seqlens", call.in[3]);
    expect_rank(call, "cu_seqlens", call.in[3], 1);
    expect_contiguous(call, "cu_seqlens", call.in[3]);
    if (call.in[3].shape[0] < 1) fail_shape(call, "cu_seqlens", "at least one element", describe(call.in[3]));
    if (q.rank != 3) fail_shape(call, "q", "rank 3 beside cu_seqlens", describe(q));
  }
  expect_f32(call, "out", call.out[0]);
  expect_rank(call, "out", call.out[0], q.rank);
  expect_rows(call, "out", call.out[0]);
  for (int d = 0; d < last; d++) {
    if (call.out[0].shape[d] != q.shape[d])
      fail_shape(call, "out", "the tokens and heads of " + describe(q), describe(call.out[0]));
  }
  if (call.out[0].shape[last] != v.shape[last])
    fail_shape(call, "out", "the head size of " + describe(v), describe(call.out[0]));
  call.attrs->number("scale");
}

extern const OpContract attention_varlen;
const OpContract attention_varlen = {check_attention_varlen, false};

}  // namespace contract

namespace ref {

static void run_attention_varlen(const OpCall& call) {
  const Tensor& q = call.in[0];
  const Tensor& k = call.in[1];
  const Tensor& v = call.in[2];
  const Tensor& out = call.out[0];
  double scale = call.attrs->number("scale");
  bool causal = call.attrs->number("causal", 0) != 0;
  bool bf16 = call.attrs->number("bf16", 0) != 0;
  auto stored = [&](float x) { return bf16 ? widen_bf16(narrow_bf16(x)) : x; };
  int last = q.rank - 1;
  int64_t heads = q.shape[last - 1];
  int64_t group = heads / k.shape[last - 1];
  int64_t width_k = q.shape[last];
  int64_t width_v = v.shape[last];
  int64_t tokens = q.rank == 3 ? q.shape[0] : q.shape[0] * q.shape[1];
  // Segments as token ranges; a flat token of rank 4 is b * L + l.
  std::vector<int64_t> borders;
  if (q.rank == 4) {
    for (int64_t b = 0; b <= q.shape[0]; b++) borders.push_back(b * q.shape[1]);
  } else if (call.inputs > 3 && call.in[3].present()) {
    for (int64_t i = 0; i < call.in[3].shape[0]; i++) borders.push_back(call.in[3].as<int32_t>()[i]);
  } else {
    borders = {0, tokens};
  }
  for (size_t i = 0; i < borders.size(); i++) {
    int64_t before = i == 0 ? 0 : borders[i - 1];
    if (borders[i] < before || borders[i] > tokens)
      fail_index(call, "cu_seqlens", "ascending borders from 0 to", tokens, borders[i], static_cast<int64_t>(i));
  }
  call.pool->parallel_for(tokens * heads, [&](int64_t task, int) {
    int64_t row = task / heads;
    int64_t head = task % heads;
    float* to = out.as<float>() + row_offset(out, task);
    for (int64_t d = 0; d < width_v; d++) to[d] = 0;
    size_t segment = std::upper_bound(borders.begin(), borders.end(), row) - borders.begin();
    if (segment == 0 || segment == borders.size()) return;
    int64_t lo = borders[segment - 1];
    int64_t hi = causal ? row + 1 : borders[segment];
    const float* from = q.as<float>() + row_offset(q, task);
    std::vector<double> weight(hi - lo);
    double most = -INFINITY;
    for (int64_t p = lo; p < hi; p++) {
      const float* key = k.as<float>() + row_offset(k, p * k.shape[last - 1] + head / group);
      double sum = 0;
      for (int64_t d = 0; d < width_k; d++) sum += static_cast<double>(from[d]) * stored(key[d]);
      weight[p - lo] = sum * scale;
      most = std::max(most, weight[p - lo]);
    }
    double total = 0;
    for (double& w : weight) total += w = std::exp(w - most);
    std::vector<double> sum(width_v, 0.0);
    for (int64_t p = lo; p < hi; p++) {
      const float* value = v.as<float>() + row_offset(v, p * v.shape[last - 1] + head / group);
      for (int64_t d = 0; d < width_v; d++) sum[d] += weight[p - lo] * stored(value[d]);
    }
    for (int64_t d = 0; d < width_v; d++) to[d] = static_cast<float>(sum[d] / total);
  });
}

extern const OpImpl attention_varlen;
const OpImpl attention_varlen = {run_attention_varlen, nullptr};

}  // namespace ref
}  // namespace ocelli
