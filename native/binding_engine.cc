// Engines in JavaScript: requests in, one packed event per step out.
#include <algorithm>
#include <mutex>

#include "binding.h"
#include "engine/engine.h"

namespace ocelli {
namespace {

using namespace binding;

// An engine and the way its events reach the event loop. The thread-safe function is unreferenced while the engine is
// idle.
struct EngineHolder {
  std::mutex mutex;
  napi_threadsafe_function deliver = nullptr;  // null once released or closing
  std::unique_ptr<Engine> engine;

  void notify(const std::shared_ptr<EngineHolder>& self) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!deliver) return;
    auto* data = new std::shared_ptr<EngineHolder>(self);
    napi_status status = napi_call_threadsafe_function(deliver, data, napi_tsfn_nonblocking);
    if (status == napi_ok) return;
    delete data;
    if (status == napi_closing) deliver = nullptr;  // not to be touched again
  }
  // Ends the thread, then lets go of the event loop.
  void stop() {
    if (engine) engine->stop();
    std::lock_guard<std::mutex> lock(mutex);
    if (deliver) napi_release_threadsafe_function(deliver, napi_tsfn_release);
    deliver = nullptr;
  }
  ~EngineHolder() { stop(); }
};

Napi::Object event_object(Napi::Env env, const EngineEvents& events) {
  Napi::Float64Array data = Napi::Float64Array::New(env, events.data.size());
  std::copy(events.data.begin(), events.data.end(), data.Data());
  Napi::Array errors = Napi::Array::New(env, events.errors.size());
  for (size_t i = 0; i < events.errors.size(); i++) {
    const Error& e = events.errors[i];
    errors.Set(static_cast<uint32_t>(i), error_object(env, {e.code(), e.what(), e.hint()}));
  }
  Napi::Object event = Napi::Object::New(env);
  event.Set("data", data);
  event.Set("errors", errors);
  return event;
}

void on_events(napi_env raw, napi_value callback, void*, void* data) {
  std::unique_ptr<std::shared_ptr<EngineHolder>> holder(static_cast<std::shared_ptr<EngineHolder>*>(data));
  if (raw == nullptr || callback == nullptr) return;  // the environment is ending
  Napi::Env env(raw);
  Napi::HandleScope scope(env);
  try {
    EngineEvents events = (*holder)->engine->take();
    if (events.empty()) return;
    Napi::Function(env, callback).Call({event_object(env, events)});
  } catch (const Napi::Error& e) {
    e.ThrowAsJavaScriptException();
  } catch (...) {
    napi_throw(env, error_object(env, current_failure()));
  }
}

int32_t field(const Napi::Object& object, const char* name, int64_t min, int64_t max) {
  return static_cast<int32_t>(to_integer(object.Get(name), name, min, max));
}

uint64_t bytes_field(const Napi::Object& object, const char* name) {
  return static_cast<uint64_t>(to_integer(object.Get(name), name, 0, int64_t{1} << 50));
}

std::vector<int32_t> to_ids(Napi::Value value, const char* name) {
  if (value.IsUndefined()) return {};
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
    fail_argument("an Int32Array", name, "something else");
  }
  Napi::Int32Array array = value.As<Napi::Int32Array>();
  return std::vector<int32_t>(array.Data(), array.Data() + array.ElementLength());
}

Digest to_digest(Napi::Value value, const char* name) {
  Digest digest{};
  if (value.IsUndefined()) return digest;
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    fail_argument("a Uint8Array", name, "something else");
  }
  Napi::Uint8Array array = value.As<Napi::Uint8Array>();
  // Salts may have any length; hashes are digests already.
  if (array.ByteLength() == digest.size()) {
    std::copy(array.Data(), array.Data() + digest.size(), digest.begin());
  } else {
    digest = Sha256().update(array.Data(), array.ByteLength()).digest();
  }
  return digest;
}

HeldTensor hold(OwnedTensor tensor) {
  auto held = std::make_shared<OwnedTensor>(std::move(tensor));
  return {held->tensor(), held};
}

std::vector<std::pair<int32_t, int32_t>> to_ranges(Napi::Value value, const char* name) {
  std::vector<int32_t> flat = to_ids(value, name);
  if (flat.size() % 2 != 0) fail_argument("start, length pairs", name, std::to_string(flat.size()) + " numbers");
  std::vector<std::pair<int32_t, int32_t>> ranges;
  for (size_t i = 0; i < flat.size(); i += 2) ranges.push_back({flat[i], flat[i + 1]});
  return ranges;
}

Item to_item(const Napi::Object& object) {
  Item item;
  item.encoder = field(object, "encoder", -1, 64);
  item.rows = field(object, "rows", 1, INT32_MAX);
  // Rows belong to the key: an entry of the encoder cache can never be read beyond its end.
  Digest hash = to_digest(object.Get("hash"), "hash");
  item.hash = Sha256().update(hash.data(), hash.size()).number(item.encoder).number(item.rows).digest();
  item.ranges = to_ranges(object.Get("ranges"), "ranges");
  if (item.ranges.empty()) fail_argument("at least one range", "ranges", "none");
  if (item.encoder >= 0) {
    for (auto& [name, tensor] : to_tensor_map(object.Get("inputs"), "inputs"))
      item.inputs[name] = hold(std::move(tensor));
    item.symbols = to_integer_map(object.Get("symbols"), "symbols");
  } else {
    item.features = hold(to_tensor(object.Get("features"), "features"));
  }
  return item;
}

void read_sampling(const Napi::Object& object, Request* request) {
  SamplingParams& s = request->sampling;
  auto number = [&](const char* name) { return static_cast<float>(to_number(object.Get(name), name)); };
  request->n = field(object, "n", 1, 4096);
  request->max_tokens = field(object, "maxTokens", 1, INT32_MAX);
  request->prompt_logprobs = field(object, "promptLogprobs", -1, INT32_MAX);
  request->eos_token_ids = to_ids(object.Get("eosTokenIds"), "eosTokenIds");
  request->ignore_eos = to_boolean(object.Get("ignoreEos"), "ignoreEos", false);
  s.temperature = number("temperature");
  s.top_p = number("topP");
  s.top_k = field(object, "topK", -1, INT32_MAX);
  s.min_p = number("minP");
  bool lossless = false;
  Napi::Value seed = object.Get("seed");
  if (!seed.IsBigInt()) fail_argument("a bigint", "seed", "something else");
  s.seed = seed.As<Napi::BigInt>().Uint64Value(&lossless);
  s.presence_penalty = number("presencePenalty");
  s.frequency_penalty = number("frequencyPenalty");
  s.repetition_penalty = number("repetitionPenalty");
  s.min_tokens = field(object, "minTokens", 0, INT32_MAX);
  s.logprobs = field(object, "logprobs", -1, INT32_MAX);
  s.stop_token_ids = to_ids(object.Get("stopTokenIds"), "stopTokenIds");
  s.allowed_token_ids = to_ids(object.Get("allowedTokenIds"), "allowedTokenIds");
  Napi::Value bias = object.Get("logitBias");
  if (bias.IsArray()) {
    Napi::Array pairs = bias.As<Napi::Array>();
    for (uint32_t i = 0; i < pairs.Length(); i++) {
      Napi::Object pair = to_object(pairs.Get(i), "logitBias");
      s.logit_bias.push_back({static_cast<int32_t>(to_integer(pair.Get(0u), "logitBias", 0, INT32_MAX)),
                              static_cast<float>(to_number(pair.Get(1u), "logitBias"))});
    }
  }
  Napi::Value words = object.Get("badWords");
  if (words.IsArray()) {
    Napi::Array list = words.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); i++) {
      std::vector<int32_t> word = to_ids(list.Get(i), "badWords");
      if (!word.empty()) s.bad_words_ids.push_back(std::move(word));
    }
  }
}

Napi::Value create_engine(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto model = handle_as<Model>(info[0], HandleKind::kModel);
  Napi::Object object = to_object(info[1], "config");
  if (!info[2].IsFunction()) fail_argument("a function", "onEvent", "something else");
  EngineConfig config;
  config.scheduler.max_sequences = field(object, "maxNumSeqs", 1, 1 << 20);
  config.scheduler.max_tokens = field(object, "maxNumBatchedTokens", 1, 1 << 24);
  config.scheduler.max_model_len = field(object, "maxModelLen", 1, INT32_MAX);
  config.scheduler.chunked_prefill = to_boolean(object.Get("enableChunkedPrefill"), "enableChunkedPrefill", true);
  config.scheduler.max_logits = field(object, "maxLogits", 1, INT32_MAX);
  config.scheduler.window = field(object, "window", 0, INT32_MAX);
  config.scheduler.draft_tokens = field(object, "draftTokens", 0, 64);
  config.scheduler.lookup_max = field(object, "lookupMax", 2, 64);
  config.block_size = field(object, "blockSize", 1, kKvTile);
  if (kKvTile % config.block_size != 0)
    fail_argument("a divisor of " + std::to_string(kKvTile), "blockSize", std::to_string(config.block_size));
  config.kv_blocks = field(object, "kvBlocks", 1, INT32_MAX / config.block_size);
  config.kv_dtype = to_dtype(object.Get("kvDtype"), "kvDtype");
  config.kv_layers = field(object, "kvLayers", 0, 1 << 16);
  config.kv_heads = field(object, "kvHeads", 0, 1 << 16);
  config.head_dim_k = field(object, "headDimK", 0, 1 << 16);
  config.head_dim_v = field(object, "headDimV", 0, 1 << 16);
  config.encoder_cache_bytes = bytes_field(object, "encoderCacheBytes");
  config.prefix_caching = to_boolean(object.Get("enablePrefixCaching"), "enablePrefixCaching", true);
  config.position_axes = field(object, "positionAxes", 1, 8);
  config.feature_width = field(object, "featureWidth", 0, 1 << 24);
  config.vocab = field(object, "vocabSize", 1, 1 << 26);
  config.max_queued = field(object, "maxNumQueuedReqs", 0, INT32_MAX);
  config.text_arena_bytes = bytes_field(object, "textArenaBytes");
  Napi::Value trace = object.Get("traceFile");
  if (!trace.IsUndefined()) config.trace_file = to_string(trace, "traceFile");
  config.encoder_arena_bytes = bytes_field(object, "encoderArenaBytes");

  EngineModel parts;
  parts.text = &model->programs.at(0);
  for (size_t i = 1; i < model->programs.size(); i++) parts.encoders.push_back(&model->programs[i]);
  parts.weights = model->weights.get();
  parts.backend = model->backend;
  parts.pool = model->pool.get();
  parts.owner = model;

  auto holder = std::make_shared<EngineHolder>();
  napi_value name;
  if (napi_create_string_utf8(env, "ocelli", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, info[2], nullptr, name, 0, 1, nullptr, nullptr, nullptr, on_events,
                                      &holder->deliver) != napi_ok) {
    throw Napi::Error::New(env);
  }
  napi_unref_threadsafe_function(env, holder->deliver);
  std::weak_ptr<EngineHolder> weak = holder;
  holder->engine = std::make_unique<Engine>(std::move(parts), config, [weak] {
    if (auto self = weak.lock()) self->notify(self);
  });
  // Runs before the thread-safe function's own hook: an environment never ends under a running engine.
  napi_add_env_cleanup_hook(
      env,
      [](void* data) {
        std::unique_ptr<std::weak_ptr<EngineHolder>> weak(static_cast<std::weak_ptr<EngineHolder>*>(data));
        if (auto self = weak->lock()) self->stop();
      },
      new std::weak_ptr<EngineHolder>(holder));
  return make_handle(env, HandleKind::kEngine, holder);
}

Pooling to_pooling(Napi::Value value) {
  if (value.IsUndefined()) return Pooling::kNone;
  const std::string name = to_string(value, "pooling");
  if (name == "last") return Pooling::kLast;
  if (name == "mean") return Pooling::kMean;
  if (name == "cls") return Pooling::kCls;
  fail_argument("'last', 'mean' or 'cls'", "pooling", "'" + name + "'");
}

std::shared_ptr<Request> to_request(const Napi::Object& object) {
  auto request = std::make_shared<Request>();
  request->id = field(object, "id", 0, INT32_MAX);
  request->prompt = to_ids(object.Get("promptTokenIds"), "promptTokenIds");
  request->positions = to_ids(object.Get("positions"), "positions");
  request->position_delta = to_ids(object.Get("positionDelta"), "positionDelta");
  request->priority = field(object, "priority", INT32_MIN, INT32_MAX);
  request->atomic = to_ranges(object.Get("atomicSpans"), "atomicSpans");
  request->salt = to_digest(object.Get("cacheSalt"), "cacheSalt");
  request->pooling = to_pooling(object.Get("pooling"));
  Napi::Value items = object.Get("items");
  if (!items.IsArray()) fail_argument("an array", "items", "something else");
  for (uint32_t i = 0; i < items.As<Napi::Array>().Length(); i++) {
    request->items.push_back(to_item(to_object(items.As<Napi::Array>().Get(i), "items")));
  }
  std::stable_sort(request->items.begin(), request->items.end(),
                   [](const Item& a, const Item& b) { return a.first() < b.first(); });
  read_sampling(to_object(object.Get("sampling"), "sampling"), request.get());
  return request;
}

Napi::Value engine_submit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto holder = handle_as<EngineHolder>(info[0], HandleKind::kEngine);
  if (!info[1].IsArray()) fail_argument("an array", "requests", "something else");
  Napi::Array list = info[1].As<Napi::Array>();
  std::vector<std::shared_ptr<Request>> requests;
  for (uint32_t i = 0; i < list.Length(); i++) {
    try {
      requests.push_back(to_request(to_object(list.Get(i), "requests")));
      holder->engine->check(*requests.back());
    } catch (const Error&) {
      // The caller learns which one.
      Napi::Object error = error_object(env, current_failure());
      error.Set("index", i);
      napi_throw(env, error);
      return Napi::Value();
    }
  }
  holder->engine->submit(std::move(requests));
  return env.Undefined();
}

Napi::Value engine_abort(const Napi::CallbackInfo& info) {
  auto holder = handle_as<EngineHolder>(info[0], HandleKind::kEngine);
  int32_t id = static_cast<int32_t>(to_integer(info[1], "id", 0, INT32_MAX));
  int32_t output = info[2].IsUndefined() ? -1 : static_cast<int32_t>(to_integer(info[2], "output", -1, INT32_MAX));
  holder->engine->abort(id, output);
  return info.Env().Undefined();
}

Napi::Value engine_hold(const Napi::CallbackInfo& info) {
  auto holder = handle_as<EngineHolder>(info[0], HandleKind::kEngine);
  holder->engine->hold(static_cast<int32_t>(to_integer(info[1], "id", 0, INT32_MAX)),
                       to_boolean(info[2], "held", false));
  return info.Env().Undefined();
}

Napi::Value engine_stats(const Napi::CallbackInfo& info) {
  EngineStats s = handle_as<EngineHolder>(info[0], HandleKind::kEngine)->engine->stats();
  Napi::Object out = Napi::Object::New(info.Env());
  auto set = [&](const char* name, double value) { out.Set(name, value); };
  set("running", s.running);
  set("waiting", s.waiting);
  set("kvBlocksTotal", s.kv_blocks_total);
  set("kvBlocksUsed", s.kv_blocks_used);
  set("prefixCacheQueries", static_cast<double>(s.prefix_queries));
  set("prefixCacheHits", static_cast<double>(s.prefix_hits));
  set("encoderCacheHits", static_cast<double>(s.encoder_hits));
  set("encoderCacheQueries", static_cast<double>(s.encoder_queries));
  set("encoderCacheBytes", static_cast<double>(s.encoder_bytes));
  set("encoderRuns", static_cast<double>(s.encoder_runs));
  set("draftTokens", static_cast<double>(s.draft_tokens));
  set("acceptedTokens", static_cast<double>(s.accepted_tokens));
  set("preemptions", static_cast<double>(s.preemptions));
  set("steps", static_cast<double>(s.steps));
  set("promptTokens", static_cast<double>(s.prompt_tokens));
  set("generationTokens", static_cast<double>(s.generation_tokens));
  set("stepSeconds", s.step_seconds);
  set("forwardSeconds", s.forward_seconds);
  set("schedulerSeconds", s.scheduler_seconds);
  return out;
}

Napi::Value engine_ref(const Napi::CallbackInfo& info) {
  auto holder = handle_as<EngineHolder>(info[0], HandleKind::kEngine);
  std::lock_guard<std::mutex> lock(holder->mutex);
  if (!holder->deliver) return info.Env().Undefined();
  if (to_boolean(info[1], "referenced", false)) {
    napi_ref_threadsafe_function(info.Env(), holder->deliver);
  } else {
    napi_unref_threadsafe_function(info.Env(), holder->deliver);
  }
  return info.Env().Undefined();
}

Napi::Value engine_dispose(const Napi::CallbackInfo& info) {
  auto holder = handle_as<EngineHolder>(info[0], HandleKind::kEngine);
  dispose_handle(info[0], HandleKind::kEngine);
  return addon(info.Env())
      .background->submit([holder](const std::atomic<bool>&) { holder->stop(); },
                          [](Napi::Env env) { return env.Undefined(); });
}

}  // namespace

void register_engine(Napi::Env env, Napi::Object exports) {
  binding::expose<create_engine>(env, exports, "createEngine");
  binding::expose<engine_submit>(env, exports, "engineSubmit");
  binding::expose<engine_abort>(env, exports, "engineAbort");
  binding::expose<engine_hold>(env, exports, "engineHold");
  binding::expose<engine_stats>(env, exports, "engineStats");
  binding::expose<engine_ref>(env, exports, "engineRef");
  binding::expose<engine_dispose>(env, exports, "engineDispose");
}

}  // namespace ocelli
