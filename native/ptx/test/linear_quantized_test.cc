// linear with weights in blocks: CUDA against core/quantize.h's arithmetic written out, bit by bit, and against the
// reference; and the facts of the main loop that hold on any GPU.
#include "core/quantize.h"
#include "ptx/test/ops.h"

namespace ocelli {
namespace ref {
extern const Backend backend;
}
}  // namespace ocelli

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

constexpr WeightFormat kFormats[] = {WeightFormat::kI8,     WeightFormat::kI4,      WeightFormat::kI8Rows,
                                     WeightFormat::kI4Rows, WeightFormat::kI8Exact, WeightFormat::kI4Exact};

struct Shape {
  int m, n, k;
};

struct Outcome {
  std::vector<float> y;
  Counters counters;  // of the matrix product
  std::string waste;
};

bool is_rows(WeightFormat format) { return activations_of(format) == Activations::kRows; }
bool is_exact(WeightFormat format) { return activations_of(format) == Activations::kExact; }

float largest_of(const float* x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(x[i])) return NAN;
    largest = std::fmax(largest, std::fabs(x[i]));
  }
  return largest;
}

// One result as every kernel must make it: blocks in ascending order, each exact, one multiply-add in f32 (and one for
// `least`).
float chain(const float* x, const QuantBlock* w, WeightFormat format, int64_t k) {
  const ActivationScale whole = activation_scale(largest_of(x, k), activations_of(format));
  float sum = 0;
  for (int64_t b = 0; b < quant_blocks(k); b++) {
    const int64_t count = std::min(kQuantBlock, k - b * kQuantBlock);
    const float* from = x + b * kQuantBlock;
    const ActivationScale scale =
        is_rows(format) ? whole : activation_scale(largest_of(from, count), activations_of(format));
    int32_t products = 0, quants = 0;
    for (int64_t i = 0; i < count && !std::isnan(scale.scale); i++) {
      const int32_t q = static_cast<int32_t>(round_to_integer(from[i] * scale.inverse));
      products += q * w[b].q[i];
      quants += q;
    }
    const float each = is_rows(format) ? 1.f : scale.scale;
    sum = std::fma(static_cast<float>(products), widen_f16(w[b].scale) * each, sum);
    if (four_bits(format)) sum = std::fma(widen_f16(w[b].least), static_cast<float>(quants) * each, sum);
  }
  return is_rows(format) ? sum * whole.scale : sum;
}

PackedMatrix pack(const Backend& backend, const Shape& shape, WeightFormat format, Both& w,
                  std::vector<uint8_t>* data) {
  data->assign(backend.packed_bytes(format, shape.n, shape.k), 0);
  PackedMatrix packed{shape.n, shape.k, format, data->data(), data->size()};
  // In two parts, as loading does it.
  Tensor part = view(w, w.values.data(), DType::kF32);
  const int64_t half = shape.n / 2;
  part.shape[0] = half;
  backend.pack(part, 0, packed);
  part.shape[0] = shape.n - half;
  part.data = w.values.data() + half * shape.k;
  backend.pack(part, half, packed);
  return packed;
}

Outcome run(const Shape& shape, WeightFormat format, DType dtype, DType y_dtype, Both x, Both w, bool biased = false,
            const char* act = nullptr) {
  const std::string what = "linear " + std::to_string(shape.m) + " x " + std::to_string(shape.n) + " x " +
                           std::to_string(shape.k) + ", x " + name_of(dtype) + ", w " + name_of(format) +
                           (biased ? ", bias" : "");
  Both bias = noise({shape.n}, 3, DType::kF32);
  Pool pool(1);
  Attrs attrs;
  if (act != nullptr) attrs.strings = {{"act", act}};
  const size_t count = static_cast<size_t>(shape.m) * shape.n;
  std::vector<float> expected(count), got(count);
  Both out{{shape.m, shape.n}, y_dtype, {}, {}, {}, 0, 0};
  OpCall call;
  call.path = what.c_str();
  call.attrs = &attrs;
  call.pool = &pool;
  call.inputs = biased ? 3 : 2;
  call.outputs = 1;

  std::vector<uint8_t> blocks, rows;
  PackedMatrix packed = pack(ref::backend, shape, format, w, &blocks);
  Tensor in[3] = {view(x, x.values.data(), DType::kF32), {}, view(bias, bias.values.data(), DType::kF32)};
  in[1].packed = &packed;
  Tensor result = view(out, expected.data(), DType::kF32);
  call.in = in;
  call.out = &result;
  ref::backend.op[static_cast<int>(Op::linear)]->run(call);

  Bench bench(what);
  packed = pack(cuda::backend, shape, format, w, &rows);
  packed.data = reinterpret_cast<void*>(bench.arena.upload(rows));
  in[0] = view(x, reinterpret_cast<void*>(bench.arena.upload(x.plain)), dtype);
  in[2] = view(bias, reinterpret_cast<void*>(bench.arena.upload(bias.plain)), DType::kF32);
  const ptx::Address to = bench.arena.allocate(count * size_of(y_dtype));
  result = view(out, reinterpret_cast<void*>(to), y_dtype);
  call.scratch = reinterpret_cast<void*>(bench.arena.allocate(cuda::linear.scratch(call)));
  cuda::linear.run(call);
  std::vector<uint8_t> bytes(count * size_of(y_dtype));
  bench.arena.read(bytes.data(), to, bytes.size());

  const QuantBlock* of_w = reinterpret_cast<const QuantBlock*>(blocks.data());
  size_t different = 0, at = 0, worst = 0;
  double most = 0;
  for (int m = 0; m < shape.m; m++) {
    const float* row = x.values.data() + static_cast<int64_t>(m) * shape.k;
    double magnitude = 0;
    for (int i = 0; i < shape.k; i++) magnitude += std::fabs(row[i]);
    for (int n = 0; n < shape.n; n++) {
      const size_t i = static_cast<size_t>(m) * shape.n + n;
      got[i] = read_element(bytes.data(), y_dtype, static_cast<int64_t>(i));
      if (act == nullptr) {
        float sum = chain(row, of_w + n * quant_blocks(shape.k), format, shape.k);
        if (biased) sum += bias.values[n];
        uint8_t rounded[4];
        write_element(rounded, y_dtype, 0, sum);
        sum = read_element(rounded, y_dtype, 0);
        if (!(got[i] == sum || (std::isnan(got[i]) && std::isnan(sum)))) different++, at = i;
      }
      // Weights are at most 80 here, quants off by nothing: a chain of one or two sums a block, and the activation's
      // own few units.
      const double allowed = 80 * magnitude * (2 * std::sqrt(shape.k / 16.0) + 8) * 0x1p-24 +
                             1e-6 * std::fabs(expected[i]) + last_place(y_dtype, expected[i]);
      const double ratio = std::fabs(static_cast<double>(got[i]) - expected[i]) / allowed;
      if (std::isnan(expected[i]) ? !std::isnan(got[i]) : !(ratio <= most)) {
        most = std::isnan(ratio) ? INFINITY : ratio, worst = i;
      }
    }
  }
  expect(different == 0,
         what + ": " + std::to_string(different) + " results have other bits, one at " + std::to_string(at));
  expect(most <= 1,
         what + ": error " + std::to_string(most) + " times what it may be, the worst at " + std::to_string(worst));
  return {got, bench.last, bench.waste};
}

Outcome run(const Shape& shape, WeightFormat format, DType dtype, DType y_dtype, bool biased = false,
            const char* act = nullptr) {
  return run(shape, format, dtype, y_dtype, noise({shape.m, shape.k}, 1, dtype), noise({shape.n, shape.k}, 2), biased,
             act);
}

// No rows and one, tile borders, widths that end inside a run, a block, a slice; every format of x and y.
void shapes() {
  for (WeightFormat format : kFormats) {
    run({0, 64, 64}, format, DType::kBF16, DType::kBF16);
    run({1, 1, 1}, format, DType::kF32, DType::kF32);
    run({1, 64, 128}, format, DType::kBF16, DType::kF32);
    run({15, 63, 200}, format, DType::kF16, DType::kF16, true);
    run({17, 65, 33}, format, DType::kF32, DType::kF32, true, "silu");
    run({65, 72, 520}, format, DType::kBF16, DType::kBF16, true);
    run({257, 66, 96}, format, DType::kF32, DType::kF32);
  }
}

// What the tiles need and no more: mma, sectors, wavefronts.
void facts() {
  const struct {
    const char* what;
    Shape shape;
    uint64_t mma;
  } kCases[] = {{"decode tile", {16, 64, 512}, 8 * 16},
                {"middle tile", {64, 128, 512}, 4 * 16 * 16},
                {"prefill tile", {384, 64, 256}, 24 * 8 * 8}};
  for (WeightFormat format : kFormats) {
    for (const auto& c : kCases) {
      const Outcome outcome = run(c.shape, format, DType::kBF16, DType::kBF16);
      if (!driver_library().empty()) continue;  // a GPU does not say
      const Counters& counters = outcome.counters;
      const std::string what = std::string(name_of(format)) + ", " + c.what + ": ";
      expect(counters.bank_conflicts() == 0,
             what + std::to_string(counters.bank_conflicts()) + " bank conflicts\n" + outcome.waste);
      expect(counters.global_sectors == counters.global_sectors_needed,
             what + std::to_string(counters.global_sectors) + " sectors for " +
                 std::to_string(counters.global_sectors_needed) + "\n" + outcome.waste);
      const uint64_t mma = c.mma * (is_exact(format) ? 2 : 1);
      expect(counters.mma == mma, what + std::to_string(counters.mma) + " mma for " + std::to_string(mma));
    }
  }
}

// One row has the same bits alone, among 16, 64 and 300 others.
void same_bits() {
  constexpr int kN = 72, kK = 328;
  const Both w = noise({kN, kK}, 2), all = noise({300, kK}, 1);
  for (WeightFormat format : kFormats) {
    std::vector<float> row;
    for (int m : {300, 65, 17, 16, 1}) {
      const std::vector<float> part(all.values.begin(), all.values.begin() + m * kK);
      const Outcome outcome = run({m, kN, kK}, format, DType::kF32, DType::kF32, floats({m, kK}, part), w);
      const std::vector<float> first(outcome.y.begin(), outcome.y.begin() + kN);
      if (row.empty()) row = first;
      expect(row == first, std::string("linear ") + name_of(format) + ": row 0 of " + std::to_string(m) +
                               " has the bits it has among 300");
    }
  }
}

// What is not finite makes its block (or row) NaN and leaves other rows alone; rows of zeros are zeros.
void special() {
  for (WeightFormat format : kFormats) {
    Both x = noise({4, 200}, 1);
    std::vector<float> values = x.values;
    values[37] = INFINITY;
    values[200 + 150] = NAN;
    std::fill(values.begin() + 400, values.begin() + 600, 0.f);
    const Outcome outcome =
        run({4, 40, 200}, format, DType::kF32, DType::kF32, floats({4, 200}, values), noise({40, 200}, 2));
    expect(std::isnan(outcome.y[0]) && std::isnan(outcome.y[40]) && outcome.y[80] == 0 && std::isfinite(outcome.y[120]),
           std::string("linear ") + name_of(format) + ": NaN stays in its row");
  }
}

void body() {
  shapes();
  facts();
  same_bits();
  special();
}

}  // namespace

int main(int argc, char** argv) { return run_test("linear_quantized", argc, argv, body); }
