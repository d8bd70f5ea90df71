// Programs slightly wrong: parsing, sizes and running refuse them with a code or carry them out within their own
// memory. A model's program is the user's: nothing in it may end the process.
#define OCELLI_WATCH_ALLOCATIONS
#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "core/model.h"
#include "core/single_run.h"
#include "test/distant.h"
#include "test/mutate.h"
#include "test/programs.h"

namespace {

using namespace ocelli;
using test::Random;

constexpr uint64_t kSmall = 1 << 20;

// Ops that the small model lacks, with shapes that fit.
const char* const kMore = R"({
  "name": "more", "symbols": ["N", "R"],
  "values": [
    {"kind": "input", "dtype": "act", "shape": [{"terms": [{"sym": "N"}]}, 2, 4, 6]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N"}]}, 6, 8]},
    {"kind": "weight", "dtype": "f32", "shape": [8]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N"}]}, 6, 8]},
    {"kind": "reshape", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 2, 4], "of": 3},
    {"kind": "input", "dtype": "i32", "shape": [{"terms": [{"sym": "N", "mul": 6}]}]},
    {"kind": "constant", "dtype": "f32", "shape": [2]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 2, 4]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 2, 4]},
    {"kind": "reshape", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 8], "of": 8},
    {"kind": "slice", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 4], "of": 9, "dim": 1, "start": 4},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 12]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 6]},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 6]},
    {"kind": "weight", "dtype": "act", "shape": [6]},
    {"kind": "expand", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 6], "of": 14},
    {"kind": "op", "dtype": "act", "shape": [{"terms": [{"sym": "N", "mul": 6}]}, 6]}
  ],
  "inputs": [{"name": "pixels", "kind": "data", "value": 0}, {"name": "places", "kind": "positions", "value": 5}],
  "weights": [{"name": "norm", "shape": [8], "value": 2}, {"name": "row", "shape": [6], "value": 14}],
  "constants": [{"value": 6, "data": [1, 0.01]}],
  "ops": [
    {"op": "patchify", "in": [0], "out": [1], "attrs": {"patch": 2}, "path": "patches"},
    {"op": "layer_norm", "in": [1, 2, null], "out": [3], "attrs": {"eps": 0.00001}, "path": "norm"},
    {"op": "rope", "in": [4, 5, 6], "out": [7], "attrs": {"rotary": 4, "style": "half"}, "path": "rope"},
    {"op": "attention_varlen", "in": [7, 7, 7, null], "out": [8], "attrs": {"scale": 0.5, "causal": 1}, "path": "attn"},
    {"op": "concat", "in": [9, 10], "out": [11], "attrs": {"dim": 1}, "path": "concat"},
    {"op": "gated_act", "in": [11], "out": [12], "attrs": {"kind": "silu"}, "path": "act"},
    {"op": "mul", "in": [12, null], "out": [13], "attrs": {"value": 2}, "path": "mul"},
    {"op": "add", "in": [13, 15], "out": [16], "path": "add"}
  ],
  "outputs": {"y": 16}, "taps": {"attn": 8, "cut": 10}
})";

struct Counts {
  int64_t parsed = 0, sized = 0, ran = 0;
};

struct Given {
  std::vector<uint64_t> words;
  Tensor tensor;
};

int64_t elements(const std::vector<int64_t>& shape) {
  int64_t total = 1;
  for (int64_t size : shape) total = std::min<int64_t>(total * std::min<int64_t>(size, kSmall), kSmall);
  return total;
}

// Sizes that the whole programs fit, or any small ones.
std::vector<int64_t> sizes_of(const Program& program, Random& random) {
  std::vector<int64_t> sizes;
  const bool usual = !random.one_in(8);
  for (const std::string& name : program.symbols) sizes.push_back(usual ? (name == "T" ? 5 : 2) : random.below(7));
  return sizes;
}

SingleRunResult run(const Program& program, Random& random, Pool& pool, Counts* counts,
                    const Backend* backend = ref_backend()) {
  const std::vector<int64_t> symbols = sizes_of(program, random);
  Executor executor(program, backend, nullptr, 0, nullptr);
  const uint64_t peak = executor.peak_bytes(symbols);
  counts->sized++;
  WeightOptions options;
  options.dummy = true;
  if (peak > kSmall || Weights::resident_bytes({&program}, nullptr, {}, backend, options) > kSmall) return {};
  std::map<std::string, Given> given;
  for (const ProgramInput& input : program.inputs) {
    const std::vector<int64_t> shape = executor.shape_of(input.value, symbols);
    const int64_t count = elements(shape);
    if (count >= static_cast<int64_t>(kSmall)) return {};
    Given& g = given[input.name];
    g.words.assign(count / 2 + 1, 0);
    g.tensor.dtype = program.values[input.value].dtype;
    g.tensor.rank = static_cast<int8_t>(shape.size());
    g.tensor.data = g.words.data();
    int64_t stride = 1;
    for (int32_t d = g.tensor.rank - 1; d >= 0; d--) {
      g.tensor.shape[d] = shape[d];
      g.tensor.stride[d] = stride;
      stride *= shape[d];
    }
    // Rows that are there, mostly.
    for (int64_t i = 0; i < count; i++) {
      if (g.tensor.dtype == DType::kI32) {
        g.tensor.as<int32_t>()[i] = random.one_in(40) ? random.below(100) - 50 : random.below(2);
      } else {
        g.tensor.as<float>()[i] = static_cast<float>(random.unit() - 0.5);
      }
    }
  }
  Model model;
  model.backend = backend;
  model.programs.push_back(program);
  model.weights = Weights::load({&model.programs[0]}, nullptr, {}, model.backend, options, pool, nullptr);
  // The pool is the test's.
  model.pool = std::shared_ptr<Pool>(&pool, [](Pool*) {});
  SingleRun single;
  single.model = &model;
  single.symbols = symbols;
  for (const auto& entry : given) single.inputs[entry.first] = entry.second.tensor;
  for (const auto& tap : program.taps) single.taps.push_back(tap.first);
  counts->ran++;
  return run_once(single);
}

void one(Random& random, Pool& pool, Counts* counts) {
  static const std::string kWhole[] = {test::kText, test::kEncoder, kMore};
  const bool spoiled = !random.one_in(100);
  const std::string& whole = kWhole[random.below(3)];
  const std::string text = !spoiled           ? whole
                           : random.one_in(5) ? test::mutate(whole, kWhole[random.below(3)], random)
                                              : test::alter(whole, random);
  test::largest_allocation = 0;
  std::string code, message;
  try {
    const Program program = Program::parse(text);
    counts->parsed++;
    run(program, random, pool, counts);
  } catch (const Error& e) {
    code = e.code();
    message = e.what();
  } catch (const std::exception& e) {
    test::expect(false, std::string("it threw ") + e.what() + ": " + text);
  }
  test::expect(code.empty() || code.rfind("ERR_", 0) == 0, "the code '" + code + "'");
  test::expect(test::largest_allocation <= 64 * kSmall,
               "an allocation of " + std::to_string(test::largest_allocation) + " bytes: " + text);
}

bool equal(const std::map<std::string, RunTensor>& a, const std::map<std::string, RunTensor>& b) {
  bool same = a.size() == b.size();
  for (const auto& [name, tensor] : a) {
    const auto found = b.find(name);
    const size_t bytes = static_cast<size_t>(tensor.tensor.numel() * size_of(tensor.tensor.dtype));
    same = same && found != b.end() && std::memcmp(tensor.words.data(), found->second.words.data(), bytes) == 0;
  }
  return same;
}

// What is right runs, with the same bits where the host has no access to the backend's memory.
void whole_programs(Pool& pool) {
  Random random(1);
  Counts counts;
  for (const char* text : {test::kText, test::kEncoder, kMore}) {
    const Program program = Program::parse(text);
    const std::string code = test::code_of([&] {
      Random usual(2), again(2);
      const SingleRunResult near = run(program, usual, pool, &counts);
      const SingleRunResult far = run(program, again, pool, &counts, test::distant_backend());
      EXPECT(equal(near.outputs, far.outputs) && equal(near.taps, far.taps) && !near.outputs.empty());
    });
    test::expect(code.empty(), std::string("a whole program was refused with ") + code);
  }
  test::expect(counts.ran == 6, "whole programs run");
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t rounds = test::repeats(argc, argv, 20000, 5000000);
  const std::shared_ptr<Pool> pool = shared_pool(1);
  whole_programs(*pool);
  Random random(30);
  Counts counts;
  const auto started = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < rounds && test::failures < 10; i++) one(random, *pool, &counts);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  std::printf("%lld programs: %lld parsed, %lld sized, %lld ran; %.1f microseconds each\n",
              static_cast<long long>(rounds), static_cast<long long>(counts.parsed),
              static_cast<long long>(counts.sized), static_cast<long long>(counts.ran),
              seconds / static_cast<double>(rounds) * 1e6);
  test::expect(rounds < 1000 || (counts.parsed > rounds / 10 && counts.ran > rounds / 50), "too little variety");
  return test::report("program_fuzz");
}
