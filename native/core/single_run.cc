#include "core/single_run.h"

#include <cstring>
#include <set>

#include "core/layout.h"

namespace ocelli {

namespace {

constexpr int32_t kBlockSize = 16;

// The KV cache and step of one sequence of T fresh tokens.
struct PrivateCache {
  Memory& memory;
  std::vector<Allocation> caches;
  std::vector<KvLayer> layers;
  KvCache kv;
  std::vector<int32_t> cu_rows, context, block_table, slot, hi;
  StepContext step;

  PrivateCache(Memory& where, const Program& program, const std::vector<int64_t>& symbols, DType dtype,
               const Tensor* hi_override)
      : memory(where) {
    kv.dtype = dtype;
    kv.block_size = kBlockSize;
    int64_t tokens = -1;
    for (const ProgramOp& op : program.ops) {
      if (op.op == Op::kv_store) measure(program, op, symbols, &tokens);
      if (op.op == Op::attention_paged) kv.layers = std::max(kv.layers, layer_of(op) + 1);
    }
    if (tokens < 0)
      throw Error("ERR_PROGRAM",
                  "Expected a kv_store in program '" + program.name + "' beside attention_paged but received none");
    kv.blocks = static_cast<int32_t>((tokens + kBlockSize - 1) / kBlockSize);
    allocate();
    cu_rows = {0, static_cast<int32_t>(tokens)};
    context = {static_cast<int32_t>(tokens)};
    for (int32_t i = 0; i < kv.blocks; i++) block_table.push_back(i);
    for (int32_t i = 0; i < tokens; i++) {
      slot.push_back(i);
      hi.push_back(i + 1);
    }
    if (hi_override != nullptr) override_hi(*hi_override, tokens);
    block_table.push_back(0);  // never null
    step.sequences = 1;
    step.cu_rows = cu_rows.data();
    step.context = context.data();
    step.block_table = block_table.data();
    step.max_blocks = kv.blocks;
    step.slot = slot.data();
    step.hi = hi.data();
    step.kv = &kv;
  }

 private:
  static int32_t layer_of(const ProgramOp& op) {
    int64_t layer = op.attrs.integer("layer");
    if (layer < 0 || layer > 4095)
      throw Error("ERR_PROGRAM",
                  "Expected a layer below 4096 for " + op.path + " but received " + std::to_string(layer));
    return static_cast<int32_t>(layer);
  }

  void measure(const Program& program, const ProgramOp& op, const std::vector<int64_t>& symbols, int64_t* tokens) {
    if (op.in.size() != 2 || op.in[0] < 0 || op.in[1] < 0)
      throw Error("ERR_PROGRAM", "Expected k and v for " + op.path);
    std::vector<int64_t> k = shape_of(program, op.in[0], symbols);
    std::vector<int64_t> v = shape_of(program, op.in[1], symbols);
    if (k.size() != 3 || v.size() != 3 || k[0] > INT32_MAX / 2)
      throw Error("ERR_SHAPE", "Expected [tokens, heads, headDim] for k and v of " + op.path);
    kv.layers = std::max(kv.layers, layer_of(op) + 1);
    *tokens = k[0];
    kv.kv_heads = static_cast<int32_t>(k[1]);
    kv.head_dim_k = static_cast<int32_t>(k[2]);
    kv.head_dim_v = static_cast<int32_t>(v[2]);
  }

  // All bits set: a NaN wherever a kernel reads what no row has stored.
  void allocate() {
    uint64_t rows = static_cast<uint64_t>(kv.blocks) * kv.block_size * kv.kv_heads;
    for (int32_t i = 0; i < kv.layers; i++) {
      KvLayer layer;
      for (int32_t width : {kv.head_dim_k, kv.head_dim_v}) {
        const std::vector<uint64_t> unset(rows * kv_row_bytes(kv.dtype, width) / 8 + 8, UINT64_MAX);
        caches.emplace_back(memory, unset.size() * 8, Use::kWhole, "a KV cache", "");
        memory.upload(caches.back().data(), unset.data(), unset.size() * 8);
        memory.synchronize();
        (width == kv.head_dim_k && layer.k == nullptr ? layer.k : layer.v) = caches.back().data();
      }
      layers.push_back(layer);
    }
    kv.layer = layers.data();
  }

  void override_hi(const Tensor& given, int64_t tokens) {
    if (given.dtype != DType::kI32 || given.rank != 1 || given.shape[0] != tokens) {
      throw Error("ERR_SHAPE", "Expected i32[" + std::to_string(tokens) + "] for 'hi' but received " + describe(given));
    }
    for (int64_t i = 0; i < tokens; i++) {
      hi[i] = given.as<int32_t>()[i];
      if (hi[i] < 0 || hi[i] > tokens) {
        throw Error("ERR_INDEX",
                    "Expected 0 to " + std::to_string(tokens) + " for 'hi' but received " + std::to_string(hi[i]));
      }
    }
  }
};

RunTensor copy_dense(Memory& memory, Tensor from) {
  RunTensor copy;
  int64_t count = from.numel();
  int64_t size = size_of(from.dtype);
  std::vector<uint64_t> read;
  if (!memory.host() && count > 0) {
    int64_t last = 0;
    for (int i = 0; i < from.rank; i++) last += (from.shape[i] - 1) * from.stride[i];
    read.resize(static_cast<size_t>((last + 1) * size) / 8 + 1);
    memory.download(read.data(), from.data, static_cast<uint64_t>((last + 1) * size));
    memory.synchronize();
    from.data = read.data();
  }
  copy.words.resize(static_cast<size_t>(count * size) / 8 + 1);
  copy.tensor = from;
  copy.tensor.data = copy.words.data();
  int64_t stride = 1;
  for (int i = from.rank - 1; i >= 0; i--) {
    copy.tensor.stride[i] = stride;
    stride *= from.shape[i];
  }
  char* to = copy.tensor.as<char>();
  for (int64_t n = 0; n < count; n++) {
    int64_t rest = n;
    int64_t offset = 0;
    for (int i = from.rank - 1; i >= 0; i--) {
      offset += rest % from.shape[i] * from.stride[i];
      rest /= from.shape[i];
    }
    std::memcpy(to + n * size, from.as<char>() + offset * size, static_cast<size_t>(size));
  }
  return copy;
}

}  // namespace

bool has_kv_cache(const Program& program) {
  for (const ProgramOp& op : program.ops) {
    if (op.op == Op::kv_store || op.op == Op::attention_paged) return true;
  }
  return false;
}

SingleRunResult run_once(const SingleRun& run) {
  const Program& program = run.model->programs.at(run.program);
  std::set<int32_t> keep;
  for (const std::string& tap : run.taps) {
    auto found = program.taps.find(tap);
    if (found == program.taps.end()) {
      throw Error("ERR_INVALID_ARGUMENT", "Expected taps of program '" + program.name + "' but received '" + tap + "'");
    }
    keep.insert(found->second);
  }
  Memory& memory = memory_of(*run.model->backend);
  std::unique_ptr<PrivateCache> cache;
  if (has_kv_cache(program)) {
    bool own = false;
    for (const ProgramInput& input : program.inputs) own = own || input.name == "hi";
    auto hi = run.inputs.find("hi");
    cache.reset(new PrivateCache(memory, program, run.symbols, run.kv_dtype,
                                 own || hi == run.inputs.end() ? nullptr : &hi->second));
  }
  Executor executor(program, run.model->backend, run.model->weights.get(), run.program, run.model->pool.get());
  executor.bind(run.symbols, run.inputs, cache != nullptr ? &cache->step : nullptr,
                std::vector<int32_t>(keep.begin(), keep.end()));
  executor.run();
  SingleRunResult result;
  for (const auto& output : program.outputs)
    result.outputs.emplace(output.first, copy_dense(memory, executor.value(output.second)));
  for (const std::string& tap : run.taps)
    result.taps.emplace(tap, copy_dense(memory, executor.value(program.taps.at(tap))));
  return result;
}

}  // namespace ocelli
