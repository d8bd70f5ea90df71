// runOp: one op on one backend, for tests and measurements.
#include <algorithm>
#include <chrono>

#include "binding.h"
#include "binding_program.h"

namespace ocelli {

namespace {

using namespace binding;

Attrs to_attrs(Napi::Value value) {
  Attrs attrs;
  Napi::Object object = to_object(value, "attrs");
  Napi::Array keys = object.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); i++) {
    std::string key = to_string(keys.Get(i), "attrs");
    Napi::Value entry = object.Get(key);
    if (entry.IsString()) {
      attrs.strings.emplace_back(key, to_string(entry, key));
    } else if (entry.IsArray()) {
      Napi::Array array = entry.As<Napi::Array>();
      std::vector<double> list;
      for (uint32_t j = 0; j < array.Length(); j++) list.push_back(to_number(array.Get(j), "attrs." + key));
      attrs.lists.emplace_back(key, std::move(list));
    } else {
      attrs.numbers.emplace_back(key, to_number(entry, "attrs." + key));
    }
  }
  return attrs;
}

// A weight packed by the backend in ranges of 64 rows, as loading does it.
struct PackedWeight {
  OwnedTensor bytes;
  PackedMatrix matrix;
  Tensor tensor;
};

void pack(const Tensor& rows, WeightFormat format, const Backend* backend, PackedWeight* packed) {
  if (rows.rank != 2) fail_argument("rank 2", "the packed operand", describe(rows));
  if (rows.dtype != DType::kF32 && rows.dtype != DType::kBF16 && rows.dtype != DType::kF16) {
    fail_argument("f32, bf16 or f16", "the packed operand", describe(rows));
  }
  packed->matrix.n = rows.shape[0];
  packed->matrix.k = rows.shape[1];
  packed->matrix.format = format;
  packed->matrix.bytes = backend->packed_bytes(format, rows.shape[0], rows.shape[1]);
  packed->bytes = OwnedTensor(DType::kU8, {static_cast<int64_t>(packed->matrix.bytes)});
  packed->matrix.data = packed->bytes.tensor().data;
  for (int64_t row = 0; row < rows.shape[0]; row += 64) {
    Tensor part = rows;
    part.shape[0] = std::min<int64_t>(64, rows.shape[0] - row);
    part.data = rows.as<char>() + row * rows.stride[0] * size_of(rows.dtype);
    backend->pack(part, row, packed->matrix);
  }
  packed->tensor = Tensor();
  packed->tensor.dtype = plain_dtype(format);
  packed->tensor.rank = 2;
  packed->tensor.shape[0] = rows.shape[0];
  packed->tensor.shape[1] = rows.shape[1];
  packed->tensor.packed = &packed->matrix;
}

// The KV cache and step of options.step, for kv_store and attention_paged.
struct OpStep {
  OwnedTensor k;
  OwnedTensor v;
  std::vector<KvLayer> layers;
  KvCache kv;
  std::vector<int32_t> cu_rows, context, block_table, slot, hi;
  StepContext step;
};

std::vector<int32_t> to_int32s(Napi::Object object, const char* key, size_t count) {
  OwnedTensor owned = to_tensor(object.Get(key), std::string("step.") + key);
  const Tensor& tensor = owned.tensor();
  if (tensor.dtype != DType::kI32 || tensor.numel() != static_cast<int64_t>(count)) {
    fail_argument(std::to_string(count) + " i32 numbers", std::string("step.") + key, describe(tensor));
  }
  return std::vector<int32_t>(tensor.as<int32_t>(), tensor.as<int32_t>() + count);
}

// k and v are [blocks, kv_heads, block_size, head_dim]: one layer, which every `layer` below `layers` means. Of i8 the last
// dimension is bytes of a row, scale and all (KvLayer).
void to_step(Napi::Object object, int64_t rows, OpStep* step) {
  step->k = to_tensor(object.Get("k"), "step.k");
  step->v = to_tensor(object.Get("v"), "step.v");
  const Tensor& k = step->k.tensor();
  const Tensor& v = step->v.tensor();
  if (k.rank != 4 || v.rank != 4 || k.dtype != v.dtype ||
      (k.dtype != DType::kF32 && k.dtype != DType::kBF16 && k.dtype != DType::kI8)) {
    fail_argument("k and v of rank 4 in f32, bf16 or i8", "step", describe(k) + " and " + describe(v));
  }
  const int64_t scale = k.dtype == DType::kI8 ? kKvScaleBytes : 0;
  for (const Tensor* rows : {&k, &v}) {
    const int64_t bytes = rows->shape[3];
    if (scale > 0 && (bytes <= scale || bytes % 4 != 0))
      fail_argument("rows of i8 that are a scale and a multiple of four quants", "step", describe(*rows));
  }
  KvCache& kv = step->kv;
  kv.dtype = k.dtype;
  kv.blocks = static_cast<int32_t>(k.shape[0]);
  kv.kv_heads = static_cast<int32_t>(k.shape[1]);
  kv.block_size = static_cast<int32_t>(k.shape[2]);
  kv.head_dim_k = static_cast<int32_t>(k.shape[3] - scale);
  kv.head_dim_v = static_cast<int32_t>(v.shape[3] - scale);
  for (int d = 0; d < 3; d++) {
    if (v.shape[d] != k.shape[d]) fail_argument("the blocks of " + describe(k), "step.v", describe(v));
  }
  kv.layers = 1;
  step->layers = {{k.data, v.data}};
  kv.layer = step->layers.data();
  int64_t sequences = to_integer(object.Get("sequences"), "step.sequences", 1, 1 << 20);
  step->step.max_blocks = static_cast<int32_t>(to_integer(object.Get("maxBlocks"), "step.maxBlocks", 1, 1 << 20));
  step->cu_rows = to_int32s(object, "cuRows", sequences + 1);
  step->context = to_int32s(object, "context", sequences);
  step->block_table = to_int32s(object, "blockTable", sequences * step->step.max_blocks);
  step->slot = to_int32s(object, "slot", rows);
  step->hi = to_int32s(object, "hi", rows);
  // An op trusts its step as it trusts pointers; here JavaScript made it.
  if (step->cu_rows[0] != 0 || step->cu_rows[sequences] != rows)
    fail_argument("0 to the number of rows", "step.cuRows", "other ends");
  for (int64_t s = 0; s < sequences; s++) {
    bool ascends = step->cu_rows[s] <= step->cu_rows[s + 1];
    int64_t most = static_cast<int64_t>(step->step.max_blocks) * kv.block_size;
    if (!ascends || step->context[s] < step->cu_rows[s + 1] - step->cu_rows[s] || step->context[s] > most) {
      fail_argument("rows within a context within its blocks", "step", "sequence " + std::to_string(s) + " otherwise");
    }
  }
  for (int32_t block : step->block_table) {
    if (block < 0 || block >= kv.blocks)
      fail_argument("blocks below " + std::to_string(kv.blocks), "step.blockTable", std::to_string(block));
  }
  for (int32_t slot : step->slot) {
    if (slot < -1 || slot >= static_cast<int64_t>(kv.blocks) * kv.block_size)
      fail_argument("slots of the cache", "step.slot", std::to_string(slot));
  }
  for (int32_t hi : step->hi) {
    if (hi < 0) fail_argument("positions", "step.hi", std::to_string(hi));
  }
  step->step.sequences = static_cast<int32_t>(sequences);
  step->step.cu_rows = step->cu_rows.data();
  step->step.context = step->context.data();
  step->step.block_table = step->block_table.data();
  step->step.slot = step->slot.data();
  step->step.hi = step->hi.data();
  step->step.kv = &kv;
}

// Runs as often as `seconds` has elements and writes what each run took.
void time_runs(const OpImpl* impl, const OpCall& call, Napi::Value seconds) {
  if (!seconds.IsTypedArray() || seconds.As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    fail_argument("a Float64Array", "options.seconds", "something else");
  Napi::Float64Array array = seconds.As<Napi::Float64Array>();
  for (size_t i = 0; i < array.ElementLength(); i++) {
    auto start = std::chrono::steady_clock::now();
    impl->run(call);
    array[i] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
}

Napi::Value run_op(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Backend* backend = backend_named(to_string(info[0], "backend"));
  if (!memory_of(*backend).host()) fail_argument("a backend of the host", "backend", backend->name);
  std::string name = to_string(info[1], "op");
  Op op;
  if (!op_from_name(name, &op)) fail_argument("an op of ops.def", "op", "'" + name + "'");
  if (!info[2].IsArray()) fail_argument("an array", "inputs", "something else");
  if (!info[3].IsArray()) fail_argument("an array", "outShapes", "something else");
  Attrs attrs = to_attrs(info[4]);
  Napi::Object options = info[5].IsUndefined() ? Napi::Object::New(env) : to_object(info[5], "options");
  bool packs = !options.Get("packed").IsUndefined();

  Napi::Array input_values = info[2].As<Napi::Array>();
  std::vector<OwnedTensor> owned;
  std::vector<Tensor> in;
  PackedWeight weight;
  for (uint32_t i = 0; i < input_values.Length(); i++) {
    Napi::Value value = input_values.Get(i);
    Tensor absent;
    absent.rank = -1;
    if (value.IsNull() || value.IsUndefined()) {
      in.push_back(absent);
      continue;
    }
    owned.push_back(to_tensor(value, "inputs[" + std::to_string(i) + "]"));
    in.push_back(owned.back().tensor());
    if (packs && i == 1) {
      pack(owned.back().tensor(), to_weight_format(options.Get("packed"), "options.packed"), backend, &weight);
      in.back() = weight.tensor;
    }
  }
  Napi::Array output_values = info[3].As<Napi::Array>();
  std::vector<OwnedTensor> results;
  std::vector<Tensor> out;
  for (uint32_t i = 0; i < output_values.Length(); i++) {
    std::string at = "outShapes[" + std::to_string(i) + "]";
    Napi::Object entry = to_object(output_values.Get(i), at);
    results.emplace_back(to_dtype(entry.Get("dtype"), at + ".dtype"), to_shape(entry.Get("shape"), at + ".shape"));
    out.push_back(results.back().tensor());
  }

  OpCall call;
  call.path = name.c_str();
  call.in = in.data();
  call.inputs = static_cast<int>(in.size());
  call.out = out.data();
  call.outputs = static_cast<int>(out.size());
  call.attrs = &attrs;
  call.pool = pool_of(env, to_threads(options.Get("threads")));
  OpStep step;
  bool caches = op == Op::kv_store || op == Op::attention_paged;
  if (caches) {
    if (in.empty() || in[0].rank < 1) fail_argument("a tensor of rows", "inputs[0]", "nothing");
    to_step(to_object(options.Get("step"), "options.step"), in[0].shape[0], &step);
    call.step = &step.step;
  }
  contract_of(op)->check(call);
  const OpImpl* impl = backend->op[static_cast<int>(op)];
  size_t scratch_bytes = impl->scratch == nullptr ? 0 : impl->scratch(call);
  OwnedTensor scratch(DType::kU8, {static_cast<int64_t>(scratch_bytes)});
  call.scratch = scratch.tensor().data;
  if (options.Get("seconds").IsUndefined()) {
    impl->run(call);
  } else {
    time_runs(impl, call, options.Get("seconds"));
  }

  if (op == Op::kv_store) {  // its results are the cache
    out = {step.k.tensor(), step.v.tensor()};
  }
  Napi::Array array = Napi::Array::New(env, out.size());
  for (size_t i = 0; i < out.size(); i++) array.Set(static_cast<uint32_t>(i), from_tensor(env, out[i]));
  return array;
}

}  // namespace

void register_op(Napi::Env env, Napi::Object exports) { binding::expose<run_op>(env, exports, "runOp"); }

}  // namespace ocelli
