// Attention over the paged cache and inside segments, and the store that fills the cache: CUDA against the reference. A
// row's bits are the same whether it comes alone (tiles side by side, then merged) or among others (tiles one after the
// other).
#include "ptx/test/ops.h"

namespace ocelli {
namespace ref {
extern const OpImpl attention_paged, attention_varlen, kv_store;
}
}  // namespace ocelli

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

struct Sequence {
  int rows, context;
};
struct Setting {
  std::string what;
  std::vector<Sequence> sequences;
  int heads, kv_heads, dim_k, dim_v;
  DType dtype = DType::kBF16;
  int window = 0;
  double softcap = 0;
  int run = 0;  // the last so many rows of each sequence see each other, as a picture's do
  int block_size = 16;
  uint32_t seed = 1;
  int least_blocks = 0;  // of the block table's room
};

// Values of unit size: scores of a few units.
std::vector<float> calm(size_t n, uint32_t seed) {
  Noise noise(seed);
  std::vector<float> values(n);
  for (float& value : values) value = std::fmin(std::fmax(noise.value(), -2.f), 2.f);
  return values;
}

// One step: q's rows over caches that hold each sequence's keys in blocks out of order. Keys that a sequence does not
// have yet are not written on the device, so that reading them is a fault.
struct Step {
  std::vector<int32_t> cu_rows = {0}, context, table, slot, hi;
  int max_blocks = 0, blocks = 0, rows = 0;

  explicit Step(const Setting& s) : max_blocks(s.least_blocks) {
    for (const Sequence& sequence : s.sequences)
      max_blocks = std::max(max_blocks, (sequence.context + s.block_size - 1) / s.block_size + 1);
    int next = 0;
    blocks = static_cast<int>(s.sequences.size()) * max_blocks;
    for (const Sequence& sequence : s.sequences) {
      rows += sequence.rows;
      cu_rows.push_back(rows);
      context.push_back(sequence.context);
      const size_t first = table.size();
      for (int b = 0; b < max_blocks; b++) table.push_back(blocks - 1 - next++);
      for (int r = 0; r < sequence.rows; r++) {
        const int position = sequence.context - sequence.rows + r;
        hi.push_back(r >= sequence.rows - s.run ? sequence.context : position + 1);
        slot.push_back(table[first + position / s.block_size] * s.block_size + position % s.block_size);
      }
    }
  }
};

struct Cache {
  std::vector<float> k, v;  // as the reference's cache, whole blocks
};

double element(const void* data, DType dtype, size_t at) { return read_element(data, dtype, static_cast<int64_t>(at)); }

uint64_t last_mma = 0;  // of the last call

std::vector<float> paged(const Setting& s, const std::vector<float>& q_values) {
  const Step step(s);
  const auto fill = [&](int dim, uint32_t seed) {
    // By position and head, so that a sequence's keys do not depend on where its blocks are.
    std::vector<float> cache(static_cast<size_t>(step.blocks) * s.kv_heads * s.block_size * dim, NAN);
    for (size_t i = 0; i < s.sequences.size(); i++) {
      const std::vector<float> values =
          calm(static_cast<size_t>(s.sequences[i].context) * s.kv_heads * dim, seed + static_cast<uint32_t>(i));
      for (int p = 0; p < s.sequences[i].context; p++) {
        for (int h = 0; h < s.kv_heads; h++) {
          const size_t block = static_cast<size_t>(step.table[i * step.max_blocks + p / s.block_size]);
          const size_t to = ((block * s.kv_heads + h) * s.block_size + p % s.block_size) * dim;
          for (int d = 0; d < dim; d++) cache[to + d] = values[(static_cast<size_t>(p) * s.kv_heads + h) * dim + d];
        }
      }
    }
    return floats({static_cast<int64_t>(cache.size())}, cache, s.dtype);
  };
  Both k = fill(s.dim_k, 100 * s.seed), v = fill(s.dim_v, 100 * s.seed + 50);
  Both q = floats({step.rows, s.heads, s.dim_k}, q_values, s.dtype);
  Both out{{step.rows, s.heads, s.dim_v}, s.dtype, {}, {}, {}, 0, 0};

  Pool pool(1);
  Attrs attrs;
  attrs.numbers = {{"layer", 0},
                   {"scale", 1 / std::sqrt(s.dim_k)},
                   {"window", static_cast<double>(s.window)},
                   {"softcap", s.softcap}};
  KvLayer layer{k.values.data(), v.values.data()};
  KvCache kv{DType::kF32, s.block_size, step.blocks, 1, s.kv_heads, s.dim_k, s.dim_v, &layer};
  StepContext context{static_cast<int32_t>(s.sequences.size()),
                      step.cu_rows.data(),
                      step.context.data(),
                      step.table.data(),
                      step.max_blocks,
                      step.slot.data(),
                      step.hi.data(),
                      &kv};
  std::vector<float> expected(out.count()), magnitude(out.count());
  Tensor in = view(q, q.values.data(), DType::kF32), result = view(out, expected.data(), DType::kF32);
  OpCall call;
  call.path = s.what.c_str();
  call.attrs = &attrs;
  call.pool = &pool;
  call.in = &in;
  call.inputs = call.outputs = 1;
  call.out = &result;
  call.step = &context;
  ref::attention_paged.run(call);
  Both absolute = v;
  for (float& value : absolute.values) value = std::fabs(value);
  layer.v = absolute.values.data();
  result.data = magnitude.data();
  ref::attention_paged.run(call);

  Bench bench(s.what);
  // The cache fills through kv_store: only what a sequence has is ever written.
  const auto device_cache = [&](const Both& cache, int dim) {
    const ptx::Address to = bench.arena.allocate(cache.plain.size());
    const size_t bytes = static_cast<size_t>(dim) * size_of(s.dtype);
    for (size_t at = 0; at < cache.plain.size(); at += bytes) {
      if (!std::isnan(element(cache.plain.data() + at, s.dtype, 0)))
        bench.arena.write(to + at, cache.plain.data() + at, bytes);
    }
    return reinterpret_cast<void*>(to);
  };
  layer = {device_cache(k, s.dim_k), device_cache(v, s.dim_v)};
  kv.dtype = s.dtype;
  const auto upload = [&](const std::vector<int32_t>& values) {
    return reinterpret_cast<const int32_t*>(bench.arena.upload(values));
  };
  context = {static_cast<int32_t>(s.sequences.size()),
             upload(step.cu_rows),
             upload(step.context),
             upload(step.table),
             step.max_blocks,
             upload(step.slot),
             upload(step.hi),
             &kv};
  in = view(q, reinterpret_cast<void*>(bench.arena.upload(q.plain)), s.dtype);
  const ptx::Address to = bench.arena.allocate(out.count() * size_of(s.dtype));
  result = view(out, reinterpret_cast<void*>(to), s.dtype);
  const size_t scratch = cuda::attention_paged.scratch(call);
  call.scratch = scratch > 0 ? reinterpret_cast<void*>(bench.arena.allocate(scratch)) : nullptr;
  cuda::attention_paged.run(call);
  std::vector<uint8_t> bytes(out.count() * size_of(s.dtype));
  bench.arena.read(bytes.data(), to, bytes.size());
  last_mma = bench.counters.mma;
  expect(bench.counters.bank_conflicts() == 0 || s.dtype == DType::kF32,
         s.what + ": no bank conflicts\n" + bench.waste);

  // A weight in bf16 is off by 2^-9 of itself; twice that, and the rest in f32.
  const double share = s.dtype == DType::kF32 ? 1e-5 : 0x1p-8 + 1e-4;
  std::vector<float> got(out.count());
  double most = 0;
  size_t worst = 0;
  for (size_t i = 0; i < got.size(); i++) {
    got[i] = read_element(bytes.data(), s.dtype, static_cast<int64_t>(i));
    const double ratio = std::fabs(static_cast<double>(got[i]) - expected[i]) /
                         (share * magnitude[i] + last_place(s.dtype, expected[i]));
    if (ratio > most || std::isnan(ratio)) most = std::isnan(ratio) ? INFINITY : ratio, worst = i;
  }
  expect(most <= 1,
         s.what + ": error " + std::to_string(most) + " times what it may be, the worst at " + std::to_string(worst) +
             (got.empty() ? "" : ": " + std::to_string(got[worst]) + " for " + std::to_string(expected[worst])));
  return got;
}

std::vector<float> queries(const Setting& s) {
  std::vector<float> q;
  for (size_t i = 0; i < s.sequences.size(); i++) {
    // By position: the last rows of a sequence are the same whatever came with them.
    const size_t row = static_cast<size_t>(s.heads) * s.dim_k;
    const std::vector<float> all =
        calm(row * static_cast<size_t>(s.sequences[i].context), 7 * s.seed + static_cast<uint32_t>(i));
    q.insert(q.end(), all.end() - static_cast<std::ptrdiff_t>(row * static_cast<size_t>(s.sequences[i].rows)),
             all.end());
  }
  return q;
}

std::vector<float> paged(const Setting& s) { return paged(s, queries(s)); }

void pages() {
  paged({"decode, tile borders",
         {{1, 1}, {1, 63}, {1, 64}, {1, 65}, {1, 255}, {1, 256}, {1, 257}, {1, 520}},
         4,
         2,
         64,
         64});
  paged({"prefill", {{70, 70}, {1, 1}, {40, 300}}, 4, 2, 64, 64});
  paged({"prefill, one head a KV head, head of 128", {{65, 65}, {10, 270}}, 2, 2, 128, 128});
  paged({"decode, head of 80, eight heads a KV head", {{1, 300}, {2, 17}}, 8, 1, 80, 80});
  paged({"window", {{1, 400}, {50, 330}}, 2, 1, 64, 64, DType::kBF16, 100});
  paged({"decode in a window", {{1, 600}, {1, 90}}, 2, 1, 64, 64, DType::kBF16, 100});
  paged({"softcap", {{3, 100}, {40, 40}}, 2, 2, 96, 96, DType::kBF16, 0, 5.0});
  paged({"a picture's rows see each other", {{40, 90}}, 2, 1, 64, 64, DType::kBF16, 30, 0, 20});
  paged({"values narrower than keys", {{2, 70}}, 4, 2, 128, 64});
  paged({"blocks of 32", {{3, 100}}, 2, 2, 64, 64, DType::kBF16, 0, 0, 0, 32});
  paged({"no rows in one sequence", {{0, 5}, {3, 9}, {0, 0}}, 2, 2, 64, 64});
  paged({"f32", {{1, 300}, {20, 150}}, 4, 2, 64, 64, DType::kF32});
  paged({"f32, head of 256, window, softcap", {{2, 140}}, 2, 1, 256, 256, DType::kF32, 50, 4.0});
  paged({"bf16, head of 20, which tensor cores take no part of", {{2, 140}}, 2, 1, 20, 20});
  paged({"decode, head of 256, part and tile borders",
         {{1, 1}, {1, 31}, {1, 32}, {1, 33}, {1, 255}, {1, 257}, {1, 520}},
         4,
         2,
         256,
         256});
  paged({"prefill, head of 256", {{70, 70}, {1, 1}, {20, 300}}, 2, 1, 256, 256});
  paged({"head of 256, window, softcap", {{30, 330}}, 2, 1, 256, 256, DType::kBF16, 100, 5.0});
  paged({"head of 256, a picture's rows see each other", {{40, 90}}, 2, 1, 256, 256, DType::kBF16, 30, 0, 20});
  paged({"keys of 192, values of 128", {{3, 70}, {20, 40}}, 2, 2, 192, 128});
  paged({"two tiles a block", {{1, 1500}, {1, 700}}, 33, 33, 16, 16});
}

// A round has room for 127 tiles of these rows: the last rows' windows begin in one and end in the next, the first
// ones' are in the second alone.
void rounds() {
  Setting setting{"several rounds", {{64, 127 * kKvTile + 90}}, 8, 1, 16, 16, DType::kBF16, 100};
  setting.least_blocks = 400 * kKvTile / setting.block_size;
  const std::vector<float> all = paged(setting);
  setting.what = "the last row in one round";
  setting.sequences[0].rows = 1;
  const std::vector<float> alone = paged(setting);
  expect(std::equal(alone.rbegin(), alone.rend(), all.rbegin()), "attention: rounds change no bit");
}

// What is planned for, when neither rows nor the block table are known, holds whatever comes.
void planned() {
  Attrs attrs;
  OpCall call;
  call.attrs = &attrs;
  call.inputs = call.outputs = 1;
  KvCache kv{DType::kBF16, 16, 1, 1, 2, 64, 64, nullptr};
  StepContext step;
  step.kv = &kv;
  for (int64_t rows : {1, 3, 32, 100, 2048}) {
    for (int64_t heads : {2, 8, 64}) {
      Both q{{rows, heads, 64}, DType::kF32, {}, {}, {}, 0, 0};
      Tensor tensor = view(q, nullptr, DType::kF32);
      call.in = call.out = &tensor;
      call.step = nullptr;
      const size_t planned = cuda::attention_paged.scratch(call);
      call.step = &step;
      for (int32_t blocks : {1, 17, 2048, 8192, 65536}) {
        step.max_blocks = blocks;
        const size_t needed = cuda::attention_paged.scratch(call);
        expect(needed <= planned, "attention: " + std::to_string(needed) + " bytes for " + std::to_string(rows) +
                                      " rows where " + std::to_string(planned) + " were planned");
      }
    }
  }
}

// Matrix instructions: as many as the tiles need, of 64 rows x 64 (32) keys, twice.
void facts() {
  if (!driver_library().empty()) return;  // a GPU does not say
  for (int dim : {64, 128, 256}) {
    Setting setting{"facts, head of " + std::to_string(dim), {{64, 256}}, 1, 1, dim, dim};
    const uint64_t needed = 4 * (256 / 8) * static_cast<uint64_t>(dim / 16) * 2;
    paged(setting);
    expect(last_mma == needed, setting.what + ": " + std::to_string(last_mma) + " mma for " + std::to_string(needed));
  }
}

void same_bits() {
  for (int dim : {64, 256}) {
    for (int window : {0, 200}) {
      Setting many{"the last of 40 rows", {{40, 600}}, 4, 2, dim, dim, DType::kBF16, window};
      Setting one{"the last row alone", {{1, 600}}, 4, 2, dim, dim, DType::kBF16, window};
      Setting other{"the last row, after another sequence", {{1, 600}, {3, 30}}, 4, 2, dim, dim, DType::kBF16, window};
      const std::vector<float> all = paged(many), alone = paged(one), beside = paged(other);
      const std::vector<float> last(all.end() - 4 * dim, all.end());
      expect(last == alone, "attention: a row alone has the bits it has among others");
      expect(std::equal(alone.begin(), alone.end(), beside.begin()), "attention: another sequence changes no bit");
    }
  }
  // 67 blocks are split, 134 are not; the window ends in the tile before.
  for (int dim : {16, 256}) {
    Setting one{"67 heads", {{1, 300}}, 67, 67, dim, dim, DType::kBF16, 60};
    Setting other{"67 heads, two sequences", {{1, 300}, {1, 3}}, 67, 67, dim, dim, DType::kBF16, 60};
    const std::vector<float> alone = paged(one), beside = paged(other);
    expect(std::equal(alone.begin(), alone.end(), beside.begin()), "attention: tiles side by side change no bit");
  }
}

void segments() {
  const struct {
    std::vector<int32_t> borders;
    int heads, kv_heads, dim;
    DType dtype;
    bool causal;
  } kCases[] = {{{0, 1, 64, 129, 400}, 2, 2, 64, DType::kBF16, false}, {{0, 70}, 4, 2, 64, DType::kBF16, true},
                {{2, 40, 40, 63}, 2, 1, 72, DType::kBF16, false},      {{0, 130}, 2, 2, 128, DType::kF16, false},
                {{0, 33, 70}, 2, 2, 80, DType::kF32, false},           {{1, 9}, 1, 1, 20, DType::kBF16, true},
                {{0, 33, 110}, 2, 1, 256, DType::kBF16, true},         {{0, 65}, 2, 2, 160, DType::kF16, false}};
  for (const auto& c : kCases) {
    const int64_t tokens = c.borders.back() + (c.borders[0] > 0 ? 3 : 0);
    const auto values = [&](int heads, uint32_t seed) {
      return floats({tokens, heads, c.dim}, calm(static_cast<size_t>(tokens * heads * c.dim), seed), c.dtype);
    };
    Case test{"attention_varlen " + std::to_string(tokens) + " x " + std::to_string(c.dim) + " " + name_of(c.dtype),
              &cuda::attention_varlen,
              &ref::attention_varlen,
              {values(c.heads, 1), values(c.kv_heads, 2), values(c.kv_heads, 3),
               integers({static_cast<int64_t>(c.borders.size())}, c.borders)},
              {tokens, c.heads, c.dim},
              c.dtype,
              {}};
    test.attrs.numbers = {{"scale", 1 / std::sqrt(c.dim)}, {"causal", c.causal ? 1.0 : 0.0}};
    // Weights of bf16 (f16) are off by 2^-9 (2^-12) of themselves; the values are at most 2.
    const double share = c.dtype == DType::kBF16 ? 0x1p-8 : c.dtype == DType::kF16 ? 0x1p-11 : 1e-5;
    test.allowed = [=](double) { return share + 1e-4; };
    run_case(test);
  }
  Case batch{"attention_varlen of rank 4",
             &cuda::attention_varlen,
             &ref::attention_varlen,
             {},
             {3, 50, 2, 64},
             DType::kBF16,
             {}};
  for (uint32_t seed : {1u, 2u, 3u})
    batch.in.push_back(floats({3, 50, 2, 64}, calm(3 * 50 * 2 * 64, seed), DType::kBF16));
  batch.attrs.numbers = {{"scale", 0.125}};
  batch.allowed = [](double) { return 0x1p-8; };
  run_case(batch);
}

// kv_store against the reference, bit by bit: what it leaves alone stays unwritten.
void stores() {
  for (DType dtype : {DType::kBF16, DType::kF32}) {
    constexpr int kHeads = 2, kDk = 20, kDv = 24, kBlocks = 3, kSize = 16;
    const std::vector<int32_t> slot = {5, -1, 47, 16, 0};
    Both k = noise({5, kHeads, kDk}, 1, dtype), v = noise({5, kHeads, kDv}, 2, dtype);
    std::vector<uint8_t> ref_k(kBlocks * kHeads * kSize * kDk * size_of(dtype)),
        ref_v(kBlocks * kHeads * kSize * kDv * size_of(dtype));
    KvLayer layer{ref_k.data(), ref_v.data()};
    KvCache kv{dtype, kSize, kBlocks, 1, kHeads, kDk, kDv, &layer};
    StepContext step{};
    step.slot = slot.data();
    step.kv = &kv;
    Attrs attrs;
    attrs.numbers = {{"layer", 0}};
    Tensor in[2] = {view(k, k.values.data(), DType::kF32), view(v, v.values.data(), DType::kF32)};
    OpCall call;
    call.attrs = &attrs;
    call.in = in;
    call.inputs = 2;
    call.step = &step;
    ref::kv_store.run(call);
    Bench bench("kv_store");
    const ptx::Address to[2] = {bench.arena.upload(std::vector<uint8_t>(ref_k.size())),
                                bench.arena.upload(std::vector<uint8_t>(ref_v.size()))};
    layer = {reinterpret_cast<void*>(to[0]), reinterpret_cast<void*>(to[1])};
    step.slot = reinterpret_cast<const int32_t*>(bench.arena.upload(slot));
    in[0] = view(k, reinterpret_cast<void*>(bench.arena.upload(k.plain)), dtype);
    in[1] = view(v, reinterpret_cast<void*>(bench.arena.upload(v.plain)), dtype);
    cuda::kv_store.run(call);
    expect(bench.arena.download<uint8_t>(to[0], ref_k.size()) == ref_k,
           std::string("kv_store ") + name_of(dtype) + ": keys");
    expect(bench.arena.download<uint8_t>(to[1], ref_v.size()) == ref_v,
           std::string("kv_store ") + name_of(dtype) + ": values");
  }
}

void body() {
  stores();
  pages();
  rounds();
  planned();
  facts();
  same_bits();
  segments();
}

}  // namespace

int main(int argc, char** argv) { return run_test("attention", argc, argv, body); }
