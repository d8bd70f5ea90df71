// Writes k [T, kv_heads, Dk] and v [T, kv_heads, Dv] to the slots of this step's rows in layer `layer` of the KV cache.
#include <cmath>
#include <cstring>
#include <limits>

#include "core/quantize.h"
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_kv_store(const OpCall& call) {
  expect_counts(call, 2, 2, 0);
  const Tensor& k = call.in[0];
  const Tensor& v = call.in[1];
  expect_f32(call, "k", k);
  expect_rank(call, "k", k, 3);
  expect_rows(call, "k", k);
  expect_f32(call, "v", v);
  expect_shape(call, "v", v, {k.shape[0], k.shape[1], -1});
  expect_rows(call, "v", v);
  int64_t layer = call.attrs->integer("layer");
  if (layer < 0) fail_attr(call, "layer", "0 or more", std::to_string(layer));
  if (call.step == nullptr || call.step->kv == nullptr) return;
  const KvCache& kv = *call.step->kv;
  if (layer >= kv.layers) fail_attr(call, "layer", "less than " + std::to_string(kv.layers), std::to_string(layer));
  expect_shape(call, "k", k, {-1, kv.kv_heads, kv.head_dim_k});
  expect_shape(call, "v", v, {-1, kv.kv_heads, kv.head_dim_v});
}

extern const OpContract kv_store;
const OpContract kv_store = {check_kv_store, false};

}  // namespace contract

namespace ref {

// A row that is not finite is 0 times NaN.
static void store_quants(const float* from, int64_t width, int8_t* to) {
  float largest = 0;
  bool finite = true;
  for (int64_t d = 0; d < width; d++) {
    finite = finite && std::isfinite(from[d]);
    largest = std::fmax(largest, std::fabs(from[d]));
  }
  const ActivationScale scale = activation_scale(finite ? largest : NAN, Activations::kRows);
  const float stored = finite ? scale.scale : std::numeric_limits<float>::quiet_NaN();
  std::memcpy(to, &stored, kKvScaleBytes);
  for (int64_t d = 0; d < width; d++)
    to[kKvScaleBytes + d] = finite ? static_cast<int8_t>(round_to_integer(from[d] * scale.inverse)) : 0;
}

static void store(const Tensor& rows, void* layer, const StepContext& step, int64_t width) {
  const KvCache& kv = *step.kv;
  for (int64_t t = 0; t < rows.shape[0]; t++) {
    if (step.slot[t] < 0) continue;
    int64_t block = step.slot[t] / kv.block_size;
    int64_t inside = step.slot[t] % kv.block_size;
    for (int64_t h = 0; h < kv.kv_heads; h++) {
      const float* from = rows.as<float>() + t * rows.stride[0] + h * rows.stride[1];
      const int64_t row = (block * kv.kv_heads + h) * kv.block_size + inside;
      if (kv.dtype == DType::kI8) {
        store_quants(from, width, static_cast<int8_t*>(layer) + row * kv_row_bytes(kv.dtype, width));
        continue;
      }
      const int64_t to = row * width;
      for (int64_t d = 0; d < width; d++) {
        if (kv.dtype == DType::kBF16) {
          static_cast<uint16_t*>(layer)[to + d] = narrow_bf16(from[d]);
        } else {
          static_cast<float*>(layer)[to + d] = from[d];
        }
      }
    }
  }
}

static void run_kv_store(const OpCall& call) {
  const KvLayer& layer = call.step->kv->layer[call.attrs->integer("layer")];
  store(call.in[0], layer.k, *call.step, call.step->kv->head_dim_k);
  store(call.in[1], layer.v, *call.step, call.step->kv->head_dim_v);
}

extern const OpImpl kv_store;
const OpImpl kv_store = {run_kv_store, nullptr};

}  // namespace ref
}  // namespace ocelli
