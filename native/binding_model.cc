// Models, and programs that run once.
#include "binding.h"
#include "binding_program.h"
#include "core/device.h"
#include "core/layout.h"
#include "core/single_run.h"

namespace ocelli {

namespace binding {

const Backend* backend_named(const std::string& name) {
  if (name == "ref") return ref_backend();
  if (name == "cpu") return cpu_backend();
  if (name.rfind("device:", 0) == 0) return device_backend(std::atoi(name.c_str() + 7));
  return cpu_backend(name);
}

std::vector<int64_t> symbols_of(const Program& program, const std::map<std::string, int64_t>& sizes) {
  std::vector<int64_t> symbols;
  for (const std::string& symbol : program.symbols) {
    auto found = sizes.find(symbol);
    if (found == sizes.end())
      fail_argument("a size", "symbol '" + symbol + "' of program '" + program.name + "'", "nothing");
    symbols.push_back(found->second);
  }
  return symbols;
}

Pool* pool_of(Napi::Env env, int64_t threads) {
  Addon& state = addon(env);
  if (state.op_pool == nullptr || state.op_pool->threads() != threads)
    state.op_pool = shared_pool(static_cast<int>(threads));
  return state.op_pool.get();
}

int64_t to_threads(Napi::Value value) { return value.IsUndefined() ? 1 : to_integer(value, "threads", 1, 256); }

}  // namespace binding

namespace {

using namespace binding;

WeightOptions to_weight_options(Napi::Object options) {
  WeightOptions weights;
  weights.format = to_weight_format(options.Get("format"), "format");
  weights.dtype = to_dtype(options.Get("dtype"), "dtype");
  if (weights.dtype != DType::kF32 && weights.dtype != DType::kBF16 && weights.dtype != DType::kF16)
    fail_argument("f32, bf16 or f16", "dtype", name_of(weights.dtype));
  weights.dummy = to_boolean(options.Get("dummy"), "dummy", false);
  Napi::Value seed = options.Get("seed");
  if (!seed.IsUndefined()) weights.seed = static_cast<uint64_t>(to_integer(seed, "seed", 0, int64_t{1} << 53));
  return weights;
}

WeightPlaces to_places(Napi::Object options) {
  WeightPlaces places;
  if (!options.Get("names").IsUndefined()) places.names = to_string_map(options.Get("names"), "names");
  if (!options.Get("pairedHeads").IsUndefined())
    places.paired_heads = to_integer_map(options.Get("pairedHeads"), "pairedHeads");
  if (!options.Get("transposed").IsUndefined()) {
    Napi::Object transposed = to_object(options.Get("transposed"), "transposed");
    Napi::Array keys = transposed.GetPropertyNames();
    for (uint32_t i = 0; i < keys.Length(); i++) {
      std::string key = to_string(keys.Get(i), "transposed");
      places.transposed[key] = to_shape(transposed.Get(key), "transposed." + key);
    }
  }
  Napi::Value deltas = options.Get("deltas");
  if (deltas.IsUndefined()) return places;
  if (!deltas.IsArray()) fail_argument("an array", "deltas", "something else");
  for (uint32_t i = 0; i < deltas.As<Napi::Array>().Length(); i++) {
    Napi::Object delta = to_object(deltas.As<Napi::Array>().Get(i), "deltas");
    places.deltas[to_string(delta.Get("part"), "part")].push_back(
        {handle_as<Checkpoint>(delta.Get("checkpoint"), HandleKind::kCheckpoint), to_string(delta.Get("a"), "a"),
         to_string(delta.Get("b"), "b"), static_cast<float>(to_number(delta.Get("scale"), "scale"))});
  }
  return places;
}

std::shared_ptr<Checkpoint> to_checkpoint(Napi::Value value) {
  if (value.IsNull() || value.IsUndefined()) return nullptr;
  return handle_as<Checkpoint>(value, HandleKind::kCheckpoint);
}

// The JavaScript side of loading: who hears of progress, and who may stop it. Touched on the event loop only.
struct Listener {
  Napi::FunctionReference on_progress;
  Napi::ObjectReference signal;
  std::atomic<bool> aborted{false};

  void hear(Napi::Env env, uint64_t loaded, uint64_t total) {
    look(env);
    if (on_progress.IsEmpty()) return;
    on_progress.Call(
        {Napi::Number::New(env, static_cast<double>(loaded)), Napi::Number::New(env, static_cast<double>(total))});
  }

  void look(Napi::Env) {
    if (!signal.IsEmpty() && signal.Get("aborted").ToBoolean()) aborted.store(true);
  }
};

struct Loading {
  std::vector<std::string> programs;
  WeightPlaces places;
  WeightOptions weights;
  const Backend* backend = nullptr;
  int threads = 0;
  std::shared_ptr<Checkpoint> checkpoint;
  std::shared_ptr<Listener> listener;
  Background* background = nullptr;
  std::shared_ptr<Model> model;

  void load(const std::atomic<bool>& cancel) {
    auto loaded = std::make_shared<Model>();
    loaded->backend = backend;
    loaded->checkpoint = checkpoint;
    loaded->pool = shared_pool(threads);
    std::vector<const Program*> pointers;
    for (const std::string& text : programs) loaded->programs.push_back(Program::parse(text));
    for (const Program& program : loaded->programs) pointers.push_back(&program);
    std::shared_ptr<Listener> hears = listener;
    Background* loop = background;
    loaded->weights = Weights::load(
        pointers, checkpoint, places, backend, weights, *loaded->pool, [&](uint64_t done, uint64_t total) {
          loop->post([hears, done, total](Napi::Env env) { hears->hear(env, done, total); });
          return !cancel.load() && !hears->aborted.load();
        });
    model = std::move(loaded);
  }
};

Napi::Value create_model(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto loading = std::make_shared<Loading>();
  loading->checkpoint = to_checkpoint(info[0]);
  Napi::Object options = to_object(info[1], "options");
  loading->programs = to_strings(options.Get("programs"), "programs");
  loading->places = to_places(options);
  loading->weights = to_weight_options(options);
  loading->backend = backend_named(to_string(options.Get("backend"), "backend"));
  loading->threads = static_cast<int>(to_integer(options.Get("threads"), "threads", 0, 256));
  loading->background = addon(env).background;
  loading->listener = std::make_shared<Listener>();
  if (!info[2].IsUndefined()) {
    if (!info[2].IsFunction()) fail_argument("a function", "onProgress", "something else");
    loading->listener->on_progress = Napi::Persistent(info[2].As<Napi::Function>());
  }
  if (!info[3].IsUndefined()) {
    loading->listener->signal = Napi::Persistent(to_object(info[3], "signal"));
    loading->listener->look(env);
  }
  return loading->background->submit(
      [loading](const std::atomic<bool>& cancel) { loading->load(cancel); },
      [loading](Napi::Env e) { return make_handle(e, HandleKind::kModel, loading->model); });
}

Napi::Value dispose_model(const Napi::CallbackInfo& info) {
  dispose_handle(info[0], HandleKind::kModel);
  return info.Env().Undefined();
}

Napi::Value weight_bytes(const Napi::CallbackInfo& info) {
  std::shared_ptr<Checkpoint> checkpoint = to_checkpoint(info[0]);
  Napi::Object options = to_object(info[1], "options");
  std::vector<Program> programs;
  std::vector<const Program*> pointers;
  for (const std::string& text : to_strings(options.Get("programs"), "programs"))
    programs.push_back(Program::parse(text));
  for (const Program& program : programs) pointers.push_back(&program);
  const Backend* backend = backend_named(to_string(options.Get("backend"), "backend"));
  uint64_t bytes =
      Weights::resident_bytes(pointers, checkpoint.get(), to_places(options), backend, to_weight_options(options));
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

Napi::Value program_peak(const Napi::CallbackInfo& info) {
  Program program = Program::parse(to_string(info[0], "program"));
  const Backend* backend = backend_named(to_string(info[1], "backend"));
  std::vector<int64_t> symbols = symbols_of(program, to_integer_map(info[2], "symbols"));
  Executor executor(program, backend, nullptr, 0, pool_of(info.Env(), to_threads(info[3])));
  return Napi::Number::New(info.Env(), static_cast<double>(executor.peak_bytes(symbols)));
}

Napi::Value program_shape(const Napi::CallbackInfo& info) {
  Program program = Program::parse(to_string(info[0], "program"));
  std::string output = to_string(info[1], "output");
  auto found = program.outputs.find(output);
  if (found == program.outputs.end())
    fail_argument("an output of program '" + program.name + "'", "output", "'" + output + "'");
  std::vector<int64_t> symbols = symbols_of(program, to_integer_map(info[2], "symbols"));
  Executor executor(program, ref_backend(), nullptr, 0, nullptr);
  return from_shape(info.Env(), executor.shape_of(found->second, symbols));
}

Napi::Value model_shape(const Napi::CallbackInfo& info) {
  auto model = handle_as<Model>(info[0], HandleKind::kModel);
  const Program& program =
      model->programs[to_integer(info[1], "program", 0, static_cast<int64_t>(model->programs.size()) - 1)];
  std::string output = to_string(info[2], "output");
  auto found = program.outputs.find(output);
  if (found == program.outputs.end())
    fail_argument("an output of program '" + program.name + "'", "output", "'" + output + "'");
  return from_shape(info.Env(),
                    shape_of(program, found->second, symbols_of(program, to_integer_map(info[3], "symbols"))));
}

// A run and everything it reads, alive until its promise settles.
struct Running {
  std::shared_ptr<Model> model;
  std::map<std::string, OwnedTensor> owned;
  SingleRun run;
  SingleRunResult result;
};

Napi::Object from_results(Napi::Env env, const std::map<std::string, RunTensor>& tensors) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& entry : tensors) object.Set(entry.first, from_tensor(env, entry.second.tensor));
  return object;
}

Napi::Value run_program(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto running = std::make_shared<Running>();
  running->model = handle_as<Model>(info[0], HandleKind::kModel);
  SingleRun& run = running->run;
  run.model = running->model.get();
  run.program =
      static_cast<int>(to_integer(info[1], "program", 0, static_cast<int64_t>(run.model->programs.size()) - 1));
  running->owned = to_tensor_map(info[2], "inputs");
  for (const auto& entry : running->owned) run.inputs[entry.first] = entry.second.tensor();
  run.symbols = symbols_of(run.model->programs[run.program], to_integer_map(info[3], "symbols"));
  if (!info[4].IsUndefined()) {
    Napi::Object options = to_object(info[4], "options");
    if (!options.Get("taps").IsUndefined()) run.taps = to_strings(options.Get("taps"), "options.taps");
    if (!options.Get("kvDtype").IsUndefined()) run.kv_dtype = to_dtype(options.Get("kvDtype"), "options.kvDtype");
    if (run.kv_dtype != DType::kF32 && run.kv_dtype != DType::kBF16 && run.kv_dtype != DType::kI8)
      fail_argument("f32, bf16 or i8", "options.kvDtype", name_of(run.kv_dtype));
  }
  return addon(env).background->submit(
      [running](const std::atomic<bool>&) { running->result = run_once(running->run); },
      [running](Napi::Env e) {
        Napi::Object object = Napi::Object::New(e);
        object.Set("outputs", from_results(e, running->result.outputs));
        object.Set("taps", from_results(e, running->result.taps));
        return object;
      });
}

Napi::Value open_device_at(const Napi::CallbackInfo& info) {
  const std::string path = to_string(info[0], "path");
  const int ordinal = static_cast<int>(to_integer(info[1], "ordinal", 0, 999));
  auto opened = std::make_shared<DeviceInfo>();
  return addon(info.Env())
      .background->submit([opened, path, ordinal](const std::atomic<bool>&) { *opened = open_device(path, ordinal); },
                          [opened](Napi::Env env) {
                            Napi::Object object = Napi::Object::New(env);
                            object.Set("name", opened->name);
                            object.Set("freeBytes", static_cast<double>(opened->free_bytes));
                            return object;
                          });
}

}  // namespace

void register_model(Napi::Env env, Napi::Object exports) {
  expose<open_device_at>(env, exports, "openDevice");
  expose<create_model>(env, exports, "createModel");
  expose<dispose_model>(env, exports, "disposeModel");
  expose<weight_bytes>(env, exports, "weightBytes");
  expose<program_peak>(env, exports, "programPeak");
  expose<program_shape>(env, exports, "programShape");
  expose<model_shape>(env, exports, "modelShape");
  expose<run_program>(env, exports, "runProgram");
}

}  // namespace ocelli
