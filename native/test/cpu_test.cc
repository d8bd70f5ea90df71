// Kernels of each instruction set against the reference on what JavaScript cannot hand over: rows that are parts of
// wider rows, results written into parts of wider rows, and guards all around that nothing may touch.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "core/model.h"
#include "core/op.h"

namespace {

using namespace ocelli;

int failures = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("failed: %s\n", what.c_str());
  failures++;
}

constexpr float kGuard = -12345.5f;

constexpr WeightFormat kFormats[] = {WeightFormat::kF32,    WeightFormat::kBF16,   WeightFormat::kF16,
                                     WeightFormat::kI8,     WeightFormat::kI4,     WeightFormat::kI8Rows,
                                     WeightFormat::kI4Rows, WeightFormat::kI8Exact, WeightFormat::kI4Exact};

// Memory of f32 rows `stride` apart, of which a view takes `width` from `first` on; everything else is guard.
struct Rows {
  std::vector<float> memory;
  Tensor tensor;
  int64_t first;

  Rows(std::vector<int64_t> shape, int64_t gap, uint32_t seed) : first(gap / 2 + 3) {
    int64_t width = 1;
    for (size_t i = 1; i < shape.size(); i++) width *= shape[i];
    int64_t stride = width + gap;
    memory.assign(static_cast<size_t>(shape[0] * stride + 64), kGuard);
    tensor.rank = static_cast<int8_t>(shape.size());
    tensor.data = memory.data() + first;
    int64_t inner = 1;
    for (int i = tensor.rank - 1; i >= 0; i--) {
      tensor.shape[i] = shape[i];
      tensor.stride[i] = i == 0 ? stride : inner;
      inner *= shape[i];
    }
    std::mt19937 next(seed);
    std::normal_distribution<float> normal;
    for (int64_t r = 0; seed != 0 && r < shape[0]; r++) {
      for (int64_t d = 0; d < width; d++) row(r)[d] = normal(next);
    }
  }

  float* row(int64_t r) { return tensor.as<float>() + r * tensor.stride[0]; }
  int64_t width() const {
    int64_t width = 1;
    for (int i = 1; i < tensor.rank; i++) width *= tensor.shape[i];
    return width;
  }

  // Whether all that lies between and around the rows is as it was.
  bool guarded() {
    int64_t count = static_cast<int64_t>(memory.size());
    for (int64_t i = 0; i < count; i++) {
      int64_t at = i - first;
      bool mine = at >= 0 && at / tensor.stride[0] < tensor.shape[0] && at % tensor.stride[0] < width();
      if (!mine && memory[i] != kGuard) return false;
    }
    return true;
  }
};

struct Weight {
  std::vector<uint64_t> bytes;
  PackedMatrix matrix;
  Tensor tensor;

  Weight(const Backend& backend, Rows& rows, WeightFormat format) {
    int64_t n = rows.tensor.shape[0];
    int64_t k = rows.tensor.shape[1];
    size_t size = backend.packed_bytes(format, n, k);
    bytes.assign(size / 8 + 16, 0);
    char* data = reinterpret_cast<char*>(bytes.data());
    matrix = {n, k, format, data + (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64, size};
    backend.pack(rows.tensor, 0, matrix);
    tensor.packed = &matrix;
    tensor.rank = 2;
    tensor.shape[0] = n;
    tensor.shape[1] = k;
  }
};

struct Case {
  std::string name;
  Op op;
  std::vector<Tensor> in;
  Rows* out;
  Attrs attrs;
  double bound;
  const StepContext* step = nullptr;
};

std::vector<float> run(const Backend& backend, Pool& pool, Case& c) {
  for (int64_t r = 0; r < c.out->tensor.shape[0]; r++) std::memset(c.out->row(r), 0xff, c.out->width() * sizeof(float));
  OpCall call;
  call.path = c.name.c_str();
  call.in = c.in.data();
  call.inputs = static_cast<int>(c.in.size());
  call.out = &c.out->tensor;
  call.outputs = 1;
  call.attrs = &c.attrs;
  call.pool = &pool;
  call.step = c.step;
  contract_of(c.op)->check(call);
  const OpImpl* impl = backend.op[static_cast<int>(c.op)];
  size_t bytes = impl->scratch == nullptr ? 0 : impl->scratch(call);
  constexpr unsigned char kByte = 0xa5;
  std::vector<unsigned char> scratch(bytes + 192, kByte);
  unsigned char* begin = scratch.data() + 64 + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  call.scratch = begin;
  impl->run(call);
  bool intact = true;
  for (int i = 1; i <= 64; i++) intact = intact && begin[-i] == kByte;
  for (unsigned char* at = begin + bytes; at < scratch.data() + scratch.size(); at++) intact = intact && *at == kByte;
  expect(intact, c.name + ": the guards around scratch");
  expect(c.out->guarded(), c.name + ": the guards around the result");
  std::vector<float> result;
  for (int64_t r = 0; r < c.out->tensor.shape[0]; r++)
    result.insert(result.end(), c.out->row(r), c.out->row(r) + c.out->width());
  return result;
}

void compare(const Backend& backend, Pool& pool, Case& c, const std::vector<float>& expected) {
  std::vector<float> found = run(backend, pool, c);
  double worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    double error = std::fabs(static_cast<double>(found[i]) - expected[i]);
    if (!(error <= worst)) {
      worst = error;
      where = i;
    }
  }
  expect(worst <= c.bound, std::string(backend.name) + " " + c.name + ": worst at " + std::to_string(where) + ": " +
                               std::to_string(found[where]) + " for " + std::to_string(expected[where]));
}

Attrs numbers(std::vector<std::pair<std::string, double>> list) {
  Attrs attrs;
  attrs.numbers = std::move(list);
  return attrs;
}

// A row alone has the bits that it has among thirteen, whatever the tiles are.
void check_rows(const Backend& backend, Pool& pool, Rows& weight, WeightFormat format) {
  Rows all({13, 37}, 21, 8);
  Rows result({13, 41}, 7, 0);
  Weight packed(backend, weight, format);
  Case c = {"linear", Op::linear, {all.tensor, packed.tensor}, &result, {}, 0};
  std::vector<float> together = run(backend, pool, c);
  for (int64_t r = 0; r < 13; r++) {
    Rows one({1, 41}, 7, 0);
    c.in[0].data = all.row(r);
    c.in[0].shape[0] = 1;
    c.out = &one;
    std::vector<float> alone = run(backend, pool, c);
    bool same = std::memcmp(alone.data(), together.data() + r * 41, 41 * sizeof(float)) == 0;
    expect(same, std::string(backend.name) + " linear: the bits of row " + std::to_string(r) + " alone");
  }
}

// A cache of two sequences, stored by kv_store of the reference, the blocks of one between those of the other.
struct Cache {
  static constexpr int kHeads = 2, kWidth = 24, kBlock = 8, kBlocks = 80;
  std::vector<uint64_t> k, v;
  KvLayer layer;
  KvCache kv;
  std::vector<int32_t> cu_rows = {0, 3, 4}, context = {290, 21}, table, slot = {-1, -1, -1, -1},
                       hi = {280, 289, 290, 21};
  StepContext step;

  Cache(DType dtype, Rows& keys, Pool& pool) : k(kBlocks * kHeads * kBlock * kWidth / 2), v(k.size()) {
    layer = {k.data(), v.data()};
    kv.dtype = dtype;
    kv.block_size = kBlock;
    kv.blocks = kBlocks;
    kv.layers = 1;
    kv.kv_heads = kHeads;
    kv.head_dim_k = kv.head_dim_v = kWidth;
    kv.layer = &layer;
    step.kv = &kv;
    step.max_blocks = 40;
    for (int s = 0; s < 2; s++) {
      for (int b = 0; b < 40; b++) table.push_back(2 * b + s);
    }
    for (int s = 0; s < 2; s++) {
      std::vector<int32_t> slots;
      for (int p = 0; p < context[s]; p++) slots.push_back(table[s * 40 + p / kBlock] * kBlock + p % kBlock);
      Tensor rows = keys.tensor;
      rows.shape[0] = context[s];
      Tensor in[] = {rows, rows};
      OpCall call;
      call.path = "kv_store";
      call.in = in;
      call.inputs = 2;
      Attrs attrs = numbers({{"layer", 0}});
      call.attrs = &attrs;
      call.pool = &pool;
      step.slot = slots.data();
      call.step = &step;
      ref_backend()->op[static_cast<int>(Op::kv_store)]->run(call);
    }
    step.sequences = 2;
    step.cu_rows = cu_rows.data();
    step.context = context.data();
    step.block_table = table.data();
    step.slot = slot.data();
    step.hi = hi.data();
  }
};

}  // namespace

int main() {
  Pool pool(2);
  Rows x({13, 37}, 21, 1);
  Rows y({13, 41}, 7, 0);
  Rows same({13, 37}, 5, 0);
  Rows half({13, 18}, 5, 0);
  Rows even({13, 36}, 9, 2);
  Rows vector({1, 37}, 0, 3);
  vector.tensor.rank = 1;
  vector.tensor.shape[0] = 37;
  vector.tensor.stride[0] = 1;
  Rows weight({41, 37}, 0, 4);
  Rows qkv({30, 8, 24}, 5, 5);  // 4 heads of queries, 2 each of keys and values
  auto heads = [&](int64_t from, int64_t count) {
    Tensor part = qkv.tensor;
    part.data = part.as<float>() + from * part.stride[1];
    part.shape[1] = count;
    return part;
  };
  Rows attended({30, 4, 24}, 11, 0);
  Rows turned({30, 4, 24}, 11, 0);
  std::vector<int32_t> positions(30);
  for (int i = 0; i < 30; i++) positions[i] = i * 3;
  Tensor position;
  position.data = positions.data();
  position.dtype = DType::kI32;
  position.rank = 1;
  position.shape[0] = 30;
  position.stride[0] = 1;
  Rows frequency({1, 12}, 0, 6);
  frequency.tensor.rank = 1;
  frequency.tensor.shape[0] = 12;
  frequency.tensor.stride[0] = 1;
  Rows picture({2, 3, 9, 11}, 13, 7);
  Rows patches({2, 4, 48}, 17, 0);
  Rows joined({13, 73}, 3, 0);

  Attrs kind;
  kind.strings = {{"kind", "gelu"}};
  Attrs rope = numbers({{"rotary", 24}});
  rope.strings = {{"style", "half"}};
  // Results are of order 1 to 10: a few units in the last place, or k of them where k products are added.
  std::vector<Case> cases = {
      {"rms_norm", Op::rms_norm, {x.tensor, vector.tensor}, &same, numbers({{"eps", 1e-5}}), 4e-6},
      {"layer_norm", Op::layer_norm, {x.tensor, vector.tensor, vector.tensor}, &same, numbers({{"eps", 1e-5}}), 4e-6},
      {"act", Op::act, {x.tensor}, &same, kind, 2e-6},
      {"gated_act", Op::gated_act, {even.tensor}, &half, kind, 4e-6},
      {"add", Op::add, {x.tensor, vector.tensor}, &same, {}, 0},
      {"mul", Op::mul, {x.tensor, x.tensor}, &same, {}, 0},
      {"concat", Op::concat, {x.tensor, even.tensor}, &joined, numbers({{"dim", 1}}), 0},
      {"patchify", Op::patchify, {picture.tensor}, &patches, numbers({{"patch", 4}}), 0},
      {"rope", Op::rope, {heads(0, 4), position, frequency.tensor}, &turned, rope, 4e-6},
      {"attention_varlen",
       Op::attention_varlen,
       {heads(0, 4), heads(4, 2), heads(6, 2)},
       &attended,
       numbers({{"scale", 0.2}}),
       4e-6},
  };

  std::vector<std::vector<float>> expected;
  for (Case& c : cases) expected.push_back(run(*ref_backend(), pool, c));
  for (const std::string& isa : cpu_isas()) {
    const Backend& backend = *cpu_backend(isa);
    for (size_t i = 0; i < cases.size(); i++) compare(backend, pool, cases[i], expected[i]);
    for (WeightFormat format : kFormats) {
      for (int64_t rows : {1, 2, 3, 5, 12, 13}) {
        Rows some({rows, 37}, 21, 8);
        Rows result({rows, 41}, 7, 0);
        Weight truth(*ref_backend(), weight, format);
        Weight packed(backend, weight, format);
        Case c = {"linear", Op::linear, {some.tensor, truth.tensor},
                  &result,  {},         format == WeightFormat::kBF16 ? 0.15 : 2e-5};
        std::vector<float> exact = run(*ref_backend(), pool, c);
        c.in[1] = packed.tensor;
        compare(backend, pool, c, exact);
        // 20 and 32 of k make halves within a panel and whole ones.
        for (int64_t half : {20, 32}) {
          Rows both({2 * half, 37}, 23, 11);
          Rows gated({rows, half}, 7, 0);
          Weight both_truth(*ref_backend(), both, format);
          Weight both_packed(backend, both, format);
          Case g = {"linear with a gate", Op::linear, {some.tensor, both_truth.tensor}, &gated, {}, 0};
          g.attrs.strings = {{"gate", "silu"}};
          // The gate's error times what it is multiplied by, up to 30, and the other way round.
          g.bound = 60 * c.bound;
          std::vector<float> gates = run(*ref_backend(), pool, g);
          g.in[1] = both_packed.tensor;
          compare(backend, pool, g, gates);
        }
      }
    }
  }
  Rows keys({290, 2, 24}, 3, 9);
  Rows query({4, 6, 24}, 13, 10);
  Rows seen({4, 6, 24}, 7, 0);
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    Cache cache(dtype, keys, pool);
    // bf16 by bf16 rounds queries and weights: 2^-9 of values up to 4.
    Case c = {"attention_paged",
              Op::attention_paged,
              {query.tensor},
              &seen,
              numbers({{"layer", 0}, {"scale", 0.2}}),
              dtype == DType::kBF16 ? 1e-2 : 4e-6,
              &cache.step};
    std::vector<float> exact = run(*ref_backend(), pool, c);
    for (const std::string& isa : cpu_isas()) compare(*cpu_backend(isa), pool, c, exact);
  }
  for (const std::string& isa : cpu_isas()) {
    for (WeightFormat format : kFormats) check_rows(*cpu_backend(isa), pool, weight, format);
  }
  std::printf("%d failure(s)\n", failures);
  return failures > 0 ? 1 : 0;
}
