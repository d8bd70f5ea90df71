// linear: tensor cores and plain, CUDA against the reference, and the facts of the main loop that hold on any GPU.
#include "ptx/test/ops.h"

namespace ocelli {
namespace ref {
extern const OpImpl linear;
}
}  // namespace ocelli

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

struct Shape {
  int m, n, k;
};

struct Outcome {
  std::vector<float> y;
  Counters counters;
  std::string waste;
};

// x as the product sees it: rounded to the format of the weights, for f16 as a multiple of the row's power of two.
Both rounded(const Shape& shape, const Both& x, DType x_dtype, DType w_dtype) {
  if (w_dtype == DType::kF32 || x_dtype == w_dtype) return x;
  Both seen = x;
  for (int m = 0; m < shape.m; m++) {
    float* row = seen.values.data() + static_cast<int64_t>(m) * shape.k;
    float largest = 0;
    for (int k = 0; k < shape.k; k++) largest = std::fmax(largest, std::fabs(row[k]));
    const int shift = w_dtype == DType::kF16 && largest > 0 ? 14 - std::ilogb(largest) : 0;
    for (int k = 0; k < shape.k; k++) {
      uint8_t bytes[2];
      write_element(bytes, w_dtype, 0, std::ldexp(row[k], shift));
      row[k] = std::ldexp(read_element(bytes, w_dtype, 0), -shift);
    }
  }
  return seen;
}

Outcome run(const Shape& shape, DType x_dtype, DType w_dtype, DType y_dtype, bool biased, const char* act,
            const Both& x, const Both& w) {
  const std::string what = "linear " + std::to_string(shape.m) + " x " + std::to_string(shape.n) + " x " +
                           std::to_string(shape.k) + ", x " + name_of(x_dtype) + ", w " + name_of(w_dtype) +
                           (biased ? ", bias" : "");
  const Both bias = noise({shape.n}, 3, DType::kF32);
  Pool pool(1);
  Attrs attrs;
  if (act != nullptr) attrs.strings = {{"act", act}};
  OpCall call;
  call.path = what.c_str();
  call.attrs = &attrs;
  call.pool = &pool;
  call.inputs = biased ? 3 : 2;
  call.outputs = 1;
  const size_t count = static_cast<size_t>(shape.m) * shape.n;
  std::vector<float> expected(count), magnitude(count), got(count);
  Both out{{shape.m, shape.n}, y_dtype, {}, {}, {}, 0, 0};

  // The reference, and what the products of a result add up to without their signs: errors are shares of that.
  Both x_copy = rounded(shape, x, x_dtype, w_dtype);
  Both x_abs = x_copy, w_abs = w, bias_abs = bias;
  for (Both* both : {&x_abs, &w_abs, &bias_abs}) {
    for (float& value : both->values) value = std::fabs(value);
  }
  const auto refer = [&](Both& from, Both& weights, Both& shift, std::vector<float>* to) {
    PackedMatrix packed{shape.n, shape.k, WeightFormat::kF32, weights.values.data(), weights.values.size() * 4};
    Tensor in[3] = {view(from, from.values.data(), DType::kF32), {}, view(shift, shift.values.data(), DType::kF32)};
    in[1].packed = &packed;
    Tensor result = view(out, to->data(), DType::kF32);
    call.in = in;
    call.out = &result;
    ref::linear.run(call);
  };
  Both w_copy = w, bias_copy = bias;
  refer(x_copy, w_copy, bias_copy, &expected);
  const Attrs with_act = attrs;
  attrs.strings.clear();
  refer(x_abs, w_abs, bias_abs, &magnitude);
  attrs = with_act;

  Bench bench(what);
  // Packed in two parts, as loading does it.
  const WeightFormat format = weight_format_from_name(name_of(w_dtype));
  std::vector<uint8_t> rows(cuda::backend.packed_bytes(format, shape.n, shape.k));
  PackedMatrix packed{shape.n, shape.k, format, rows.data(), rows.size()};
  Both w_copies = w;
  Tensor all = view(w_copies, w_copies.values.data(), DType::kF32), part = all;
  const int64_t half = shape.n / 2;
  part.shape[0] = half;
  cuda::backend.pack(part, 0, packed);
  part.shape[0] = shape.n - half;
  part.data = w_copies.values.data() + half * shape.k;
  cuda::backend.pack(part, half, packed);
  packed.data = reinterpret_cast<void*>(bench.arena.upload(rows));
  Tensor in[3] = {view(x, reinterpret_cast<void*>(bench.arena.upload(x.plain)), x_dtype),
                  {},
                  view(bias, reinterpret_cast<void*>(bench.arena.upload(bias.plain)), DType::kF32)};
  in[1].packed = &packed;
  const ptx::Address to = bench.arena.allocate(count * size_of(y_dtype));
  Tensor result = view(out, reinterpret_cast<void*>(to), y_dtype);
  call.in = in;
  call.out = &result;
  call.scratch = reinterpret_cast<void*>(bench.arena.allocate(cuda::linear.scratch(call)));
  cuda::linear.run(call);
  std::vector<uint8_t> bytes(count * size_of(y_dtype));
  bench.arena.read(bytes.data(), to, bytes.size());
  size_t worst = 0;
  double most = 0;
  for (size_t i = 0; i < count; i++) {
    got[i] = read_element(bytes.data(), y_dtype, static_cast<int64_t>(i));
    // A chain of k sums in f32, as a naive kernel makes it, is off by at most k / 2 units of 2^-24 of the magnitude and
    // by about the square root of that; twice the latter, and the activation's own few units.
    const double allowed = magnitude[i] * (2 * std::sqrt(shape.k) + 8) * 0x1p-24 + last_place(y_dtype, expected[i]);
    const double ratio = std::fabs(static_cast<double>(got[i]) - expected[i]) / allowed;
    if (ratio > most || std::isnan(ratio)) most = std::isnan(ratio) ? INFINITY : ratio, worst = i;
  }
  expect(most <= 1,
         what + ": error " + std::to_string(most) + " times what it may be, the worst at " + std::to_string(worst) +
             (count == 0 ? "" : ": " + std::to_string(got[worst]) + " for " + std::to_string(expected[worst])));
  return {got, bench.counters, bench.waste};
}

Outcome run(const Shape& shape, DType x_dtype, DType w_dtype, DType y_dtype, bool biased = false,
            const char* act = nullptr) {
  return run(shape, x_dtype, w_dtype, y_dtype, biased, act, noise({shape.m, shape.k}, 1, x_dtype),
             noise({shape.n, shape.k}, 2, w_dtype));
}

// Main loop and results: no bank conflicts; 16 bytes a lane of whole sectors; as many mma as the tiles need.
void facts(const char* what, const Outcome& outcome, uint64_t mma) {
  if (!driver_library().empty()) return;  // a GPU does not say
  const Counters& counters = outcome.counters;
  expect(counters.bank_conflicts() == 0,
         std::string(what) + ": " + std::to_string(counters.bank_conflicts()) + " bank conflicts\n" + outcome.waste);
  expect(counters.global_sectors == counters.global_sectors_needed,
         std::string(what) + ": " + std::to_string(counters.global_sectors) + " sectors for " +
             std::to_string(counters.global_sectors_needed) + "\n" + outcome.waste);
  expect(counters.mma == mma,
         std::string(what) + ": " + std::to_string(counters.mma) + " mma for " + std::to_string(mma));
}

void tensor_cores() {
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    for (const Shape& shape : {Shape{0, 64, 64}, Shape{1, 64, 64}, Shape{1, 8, 8}, Shape{16, 65, 72},
                               Shape{5, 130, 200}, Shape{17, 64, 64}, Shape{64, 63, 328}, Shape{65, 72, 128}}) {
      run(shape, dtype, dtype, dtype, true, "silu");
      run(shape, dtype, dtype, DType::kF32);
    }
    run({257, 130, 136}, dtype, dtype, dtype, true, "gelu");
  }
  facts("decode tile", run({16, 64, 256}, DType::kBF16, DType::kBF16, DType::kBF16), 8u * 16);
  facts("middle tile", run({64, 128, 256}, DType::kBF16, DType::kBF16, DType::kBF16), 4u * 16 * 16);
  facts("prefill tile", run({384, 128, 192}, DType::kBF16, DType::kBF16, DType::kBF16), 24u * 16 * 12);
}

// Activations of another format, as whole models have them; K in no whole runs of eight.
void rounding() {
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    for (const Shape& shape :
         {Shape{0, 8, 8}, Shape{1, 1, 1}, Shape{3, 65, 17}, Shape{17, 64, 64}, Shape{65, 7, 130}}) {
      run(shape, DType::kF32, dtype, DType::kF32, true, "quick_gelu");
      run(shape, dtype, dtype, dtype);
    }
    run({257, 66, 2100}, DType::kF32, dtype, DType::kF32);
  }
  run({3, 65, 17}, DType::kBF16, DType::kF16, DType::kBF16, true);
  run({3, 65, 17}, DType::kF16, DType::kBF16, DType::kF16, true);
  // Rows whose largest value f16 does not have, and one of zeros.
  const Shape shape{4, 40, 72};
  std::vector<float> values = noise({shape.m, shape.k}, 1).values;
  const float scales[] = {0x1p-100f, 0x1p+100f, 0, 0x1p-30f};
  for (size_t i = 0; i < values.size(); i++) values[i] *= scales[i / static_cast<size_t>(shape.k)];
  run(shape, DType::kF32, DType::kF16, DType::kF32, false, nullptr, floats({shape.m, shape.k}, values),
      noise({shape.n, shape.k}, 2, DType::kF16));
}

// One row has the same bits alone, among 16, 64 and 300 others.
void same_bits() {
  constexpr int kN = 72, kK = 328;
  const Both all = noise({300, kK}, 1);
  for (DType dtype : {DType::kBF16, DType::kF16}) {
    const Both w = noise({kN, kK}, 2, dtype);
    for (DType x_dtype : {DType::kF32, dtype}) {
      std::vector<float> row;
      for (int m : {300, 65, 17, 16, 1}) {
        const std::vector<float> part(all.values.begin(), all.values.begin() + m * kK);
        const Outcome outcome =
            run({m, kN, kK}, x_dtype, dtype, DType::kF32, false, nullptr, floats({m, kK}, part, x_dtype), w);
        const std::vector<float> first(outcome.y.begin(), outcome.y.begin() + kN);
        if (row.empty()) row = first;
        expect(row == first, "linear: row 0 of " + std::to_string(m) + " has the bits it has among 300");
      }
    }
  }
}

void plain() {
  for (const Shape& shape : {Shape{0, 3, 3}, Shape{1, 1, 1}, Shape{3, 65, 17}, Shape{64, 64, 64}, Shape{65, 7, 130}}) {
    run(shape, DType::kF32, DType::kF32, DType::kF32, true, "quick_gelu");
    run(shape, DType::kBF16, DType::kF32, DType::kBF16, true);
  }
  const Counters counters = run({64, 64, 64}, DType::kF32, DType::kF32, DType::kF32).counters;
  expect(counters.bank_conflicts() == 0, "plain: " + std::to_string(counters.bank_conflicts()) + " bank conflicts");
}

// A gate has the bits of gated_act behind the product, in each format of weights.
void gates() {
  constexpr int64_t kM = 17, kN = 72, kK = 96;
  const Both x = noise({kM, kK}, 1), bias = noise({kN}, 3);
  Both w = noise({kN, kK}, 2);
  Pool pool(1);
  for (const char* name : {"f32", "bf16", "f16", "i8", "i4_rows"}) {
    const std::string what = std::string("linear with a gate, ") + name;
    const WeightFormat format = weight_format_from_name(name);
    Bench bench(what);
    std::vector<uint8_t> rows(cuda::backend.packed_bytes(format, kN, kK));
    PackedMatrix packed{kN, kK, format, rows.data(), rows.size()};
    cuda::backend.pack(view(w, w.values.data(), DType::kF32), 0, packed);
    packed.data = reinterpret_cast<void*>(bench.arena.upload(rows));
    Tensor in[3] = {view(x, reinterpret_cast<void*>(bench.arena.upload(x.plain)), DType::kF32),
                    {},
                    view(bias, reinterpret_cast<void*>(bench.arena.upload(bias.plain)), DType::kF32)};
    in[1].packed = &packed;
    const auto run_op = [&](const OpImpl& op, const Tensor* from, int inputs, int64_t width, const Attrs& attrs) {
      const Both out{{kM, width}, DType::kF32, {}, {}, {}, 0, 0};
      const size_t bytes = static_cast<size_t>(kM * width) * sizeof(float);
      const Tensor result = view(out, reinterpret_cast<void*>(bench.arena.allocate(bytes)), DType::kF32);
      OpCall call;
      call.path = what.c_str();
      call.in = from;
      call.inputs = inputs;
      call.out = &result;
      call.outputs = 1;
      call.attrs = &attrs;
      call.pool = &pool;
      if (op.scratch != nullptr) call.scratch = reinterpret_cast<void*>(bench.arena.allocate(op.scratch(call)));
      op.run(call);
      return result;
    };
    Attrs plain, gate, kind;
    gate.strings = {{"gate", "silu"}};
    kind.strings = {{"kind", "silu"}};
    const Tensor product = run_op(cuda::linear, in, 3, kN, plain);
    const Tensor apart = run_op(cuda::gated_act, &product, 1, kN / 2, kind);
    const Tensor gated = run_op(cuda::linear, in, 3, kN / 2, gate);
    const auto values = [&](const Tensor& tensor) {
      return bench.arena.download<uint32_t>(reinterpret_cast<ptx::Address>(tensor.data), kM * kN / 2);
    };
    expect(values(gated) == values(apart), what + ": the bits of gated_act behind the product");
  }
}

void body() {
  tensor_cores();
  rounding();
  same_bits();
  plain();
  gates();
}

}  // namespace

int main(int argc, char** argv) { return run_test("linear", argc, argv, body); }
