// runOp: one op on one backend, for tests and measurements.
#include <algorithm>

#include "binding.h"

namespace ocelli {

namespace {

using namespace binding;

const Backend* backend_named(const std::string& name) {
  if (name == "ref") return ref_backend();
  if (name == "cpu") return cpu_backend();
  return cpu_backend(name);
}

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

void pack(const Tensor& rows, DType format, const Backend* backend, PackedWeight* packed) {
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
  packed->tensor.dtype = format;
  packed->tensor.rank = 2;
  packed->tensor.shape[0] = rows.shape[0];
  packed->tensor.shape[1] = rows.shape[1];
  packed->tensor.packed = &packed->matrix;
}

Napi::Value run_op(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Backend* backend = backend_named(to_string(info[0], "backend"));
  std::string name = to_string(info[1], "op");
  Op op;
  if (!op_from_name(name, &op)) fail_argument("an op of ops.def", "op", "'" + name + "'");
  if (!info[2].IsArray()) fail_argument("an array", "inputs", "something else");
  if (!info[3].IsArray()) fail_argument("an array", "outShapes", "something else");
  Attrs attrs = to_attrs(info[4]);
  Napi::Object options = info[5].IsUndefined() ? Napi::Object::New(env) : to_object(info[5], "options");
  int64_t threads =
      options.Get("threads").IsUndefined() ? 1 : to_integer(options.Get("threads"), "options.threads", 1, 256);
  bool packs = !options.Get("packed").IsUndefined();

  Addon& state = addon(env);
  if (state.op_pool == nullptr || state.op_pool->threads() != threads)
    state.op_pool = shared_pool(static_cast<int>(threads));

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
      pack(owned.back().tensor(), to_dtype(options.Get("packed"), "options.packed"), backend, &weight);
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
  call.pool = state.op_pool.get();
  if (op == Op::kv_store || op == Op::attention_paged) fail_argument("an op without a KV cache", "op", name);
  contract_of(op)->check(call);
  const OpImpl* impl = backend->op[static_cast<int>(op)];
  size_t scratch_bytes = impl->scratch == nullptr ? 0 : impl->scratch(call);
  OwnedTensor scratch(DType::kU8, {static_cast<int64_t>(scratch_bytes)});
  call.scratch = scratch.tensor().data;
  impl->run(call);

  Napi::Array array = Napi::Array::New(env, out.size());
  for (size_t i = 0; i < out.size(); i++) array.Set(static_cast<uint32_t>(i), from_tensor(env, out[i]));
  return array;
}

}  // namespace

void register_op(Napi::Env env, Napi::Object exports) { binding::expose<run_op>(env, exports, "runOp"); }

}  // namespace ocelli
