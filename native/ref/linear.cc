// y [.., N] = act(x [.., K] w^T + bias), w packed [N, K]; with a gate, [.., N / 2]: gate(first half) times second half
// (Shazeer 2020, arXiv:2002.05202).
#include <algorithm>

#include "core/gated_linear.h"
#include "core/quantize.h"
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_linear(const OpCall& call) {
  expect_counts(call, 2, 3, 1);
  const Tensor& x = call.in[0];
  const Tensor& w = call.in[1];
  const Tensor& y = call.out[0];
  expect_f32(call, "x", x);
  expect_rows(call, "x", x);
  if (w.packed == nullptr) fail_dtype(call, "w", "a packed matrix", describe(w));
  if (w.packed->k != x.shape[x.rank - 1]) {
    fail_shape(call, "x", "rows of " + std::to_string(w.packed->k) + " (" + describe(w) + ")", describe(x));
  }
  if (call.inputs > 2 && call.in[2].rank >= 0) {
    expect_plain(call, "bias", call.in[2]);
    expect_shape(call, "bias", call.in[2], {w.packed->n});
    expect_contiguous(call, "bias", call.in[2]);
  }
  expect_f32(call, "y", y);
  expect_rows(call, "y", y);
  const std::string* gate = gate_of(*call.attrs);
  if (gate != nullptr && w.packed->n % 2 != 0)
    fail_shape(call, "w", "an even number of rows, of gates and what they are multiplied by", describe(w));
  const int64_t width = gate != nullptr ? w.packed->n / 2 : w.packed->n;
  bool matches = y.rank == x.rank && y.shape[y.rank - 1] == width;
  for (int i = 0; matches && i + 1 < x.rank; i++) matches = y.shape[i] == x.shape[i];
  if (!matches)
    fail_shape(call, "y", "the leading dimensions of " + describe(x) + " and " + std::to_string(width), describe(y));
  for (const auto& entry : call.attrs->strings) {
    if (entry.first == "act" || entry.first == "gate") expect_activation(call, entry.second, entry.first.c_str());
    if (entry.first == "act" && gate != nullptr) fail_attr(call, "act", "none beside a gate", "'" + entry.second + "'");
  }
}

extern const OpContract linear;
const OpContract linear = {check_linear, false};

}  // namespace contract

namespace ref {

static double dot(const float* x, const PackedMatrix& w, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < w.k; k++) {
    sum += static_cast<double>(x[k]) * read(w.data, plain_dtype(w.format), n * w.k + k);
  }
  return sum;
}

// A row of activations as core/quantize.h has it: per block, quants, scale.
struct QuantizedRow {
  std::vector<int32_t> q;
  std::vector<float> scales;
};

static float largest_of(const float* x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(x[i])) return NAN;
    largest = std::fmax(largest, std::fabs(x[i]));
  }
  return largest;
}

static QuantizedRow quantize_row(const float* x, const PackedMatrix& w) {
  Activations activations = activations_of(w.format);
  bool rows = activations == Activations::kRows;
  QuantizedRow row;
  row.q.assign(static_cast<size_t>(quant_blocks(w.k) * kQuantBlock), 0);
  float whole = largest_of(x, w.k);
  for (int64_t at = 0; at < w.k; at += kQuantBlock) {
    int64_t count = std::min(kQuantBlock, w.k - at);
    ActivationScale scale = activation_scale(rows ? whole : largest_of(x + at, count), activations);
    for (int64_t i = 0; i < count && !std::isnan(scale.scale); i++)
      row.q[at + i] = static_cast<int32_t>(round_to_integer(x[at + i] * scale.inverse));
    row.scales.push_back(scale.scale);
  }
  return row;
}

static double dot_blocks(const QuantizedRow& row, const PackedMatrix& w, int64_t n) {
  int64_t blocks = quant_blocks(w.k);
  const QuantBlock* block = static_cast<const QuantBlock*>(w.data) + n * blocks;
  double sum = 0;
  for (int64_t b = 0; b < blocks; b++, block++) {
    int32_t products = 0;
    int32_t quants = 0;
    for (int64_t i = 0; i < kQuantBlock; i++) {
      int32_t q = row.q[b * kQuantBlock + i];
      products += q * block->q[i];
      quants += q;
    }
    double scaled =
        static_cast<double>(widen_f16(block->scale)) * products + static_cast<double>(widen_f16(block->least)) * quants;
    sum += scaled * row.scales[b];
  }
  return sum;
}

static void run_linear(const OpCall& call) {
  const Tensor& x = call.in[0];
  const PackedMatrix& w = *call.in[1].packed;
  const Tensor& y = call.out[0];
  bool biased = call.inputs > 2 && call.in[2].present();
  Activation act = Activation::kNone;
  for (const auto& entry : call.attrs->strings) act = activation_from_name(entry.second);
  const bool gated = gate_of(*call.attrs) != nullptr;
  const int64_t width = gated ? w.n / 2 : w.n;
  call.pool->parallel_for(rows_of(x), [&](int64_t row, int) {
    int64_t from = row_offset(x, row);
    float* to = y.as<float>() + row_offset(y, row);
    QuantizedRow quants;
    if (quantized(w.format)) quants = quantize_row(x.as<float>() + from, w);
    const auto column = [&](int64_t n) {
      const double sum = quantized(w.format) ? dot_blocks(quants, w, n) : dot(x.as<float>() + from, w, n);
      return biased ? sum + read_row(call.in[2], 0, n) : sum;
    };
    for (int64_t n = 0; n < width; n++)
      to[n] = static_cast<float>(activate(act, column(n)) * (gated ? column(width + n) : 1));
  });
}

extern const OpImpl linear;
const OpImpl linear = {run_linear, nullptr};

}  // namespace ref
}  // namespace ocelli
