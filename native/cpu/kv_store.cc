// Writes k [T, kv_heads, Dk] and v [T, kv_heads, Dv] to the slots of this step in layer `layer` of the KV cache.
#include <limits>

#include "cpu/quantize_row.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void store_row(const float* from, int64_t n, float* to) { std::memcpy(to, from, n * sizeof(float)); }

void store_row(const float* from, int64_t n, uint16_t* to) {
  for_vectors<F32>(from, n, [&](int64_t i, Vec v, int lanes) {
    if (lanes == kLanes) {
      store_bf16(to + i, v);
      return;
    }
    uint16_t rest[kLanes];
    store_bf16(rest, v);
    std::memcpy(to + i, rest, lanes * sizeof(uint16_t));
  });
}

// A row that is not finite is 0 times NaN.
void store_row(const float* from, int64_t n, int8_t* to) {
  const ActivationScale scale = activation_scale(largest_of(from, n), Activations::kRows);
  const bool finite = scale.scale == scale.scale;
  const float stored = finite ? scale.scale : std::numeric_limits<float>::quiet_NaN();  // of one sign on all sets
  std::memcpy(to, &stored, kKvScaleBytes);
  to += kKvScaleBytes;
  for_vectors<F32>(from, n, [&](int64_t i, Vec v, int lanes) {
    int8_t q[64] = {};
    if (finite) store_i8(q, to_int(v * set1(scale.inverse)));
    std::memcpy(to + i, q, static_cast<size_t>(lanes));
  });
}

template <class T>
void store_token(const Tensor& rows, int64_t token, T* layer, const StepContext& step, int64_t width) {
  const KvCache& kv = *step.kv;
  int64_t block = step.slot[token] / kv.block_size;
  int64_t inside = step.slot[token] % kv.block_size;
  for (int64_t h = 0; h < kv.kv_heads; h++) {
    const float* from = rows.as<float>() + token * rows.stride[0] + h * rows.stride[1];
    const int64_t row = (block * kv.kv_heads + h) * kv.block_size + inside;
    store_row(from, width, layer + row * (kv_row_bytes(kv.dtype, width) / static_cast<int64_t>(sizeof(T))));
  }
}

void run_kv_store(const OpCall& call) {
  const Tensor& k = call.in[0];
  const Tensor& v = call.in[1];
  const StepContext& step = *call.step;
  const KvCache& kv = *step.kv;
  const KvLayer& layer = kv.layer[call.attrs->integer("layer")];
  for_rows(call.pool, k.shape[0], kv.kv_heads * (kv.head_dim_k + kv.head_dim_v), [&](int64_t token) {
    if (step.slot[token] < 0) return;
    if (kv.dtype == DType::kI8) {
      store_token(k, token, static_cast<int8_t*>(layer.k), step, kv.head_dim_k);
      store_token(v, token, static_cast<int8_t*>(layer.v), step, kv.head_dim_v);
    } else if (kv.dtype == DType::kBF16) {
      store_token(k, token, static_cast<uint16_t*>(layer.k), step, kv.head_dim_k);
      store_token(v, token, static_cast<uint16_t*>(layer.v), step, kv.head_dim_v);
    } else {
      store_token(k, token, static_cast<float*>(layer.k), step, kv.head_dim_k);
      store_token(v, token, static_cast<float*>(layer.v), step, kv.head_dim_v);
    }
  });
}

}  // namespace

extern const OpImpl kv_store;
const OpImpl kv_store = {run_kv_store, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
