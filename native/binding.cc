// The module's start: the environment's state, `info`, and each part of the binding.
#include "binding.h"

#include "core/system.h"
#include "image/binding.h"

namespace ocelli {

namespace binding {

Addon& addon(Napi::Env env) {
  void* data = nullptr;
  if (napi_get_instance_data(env, &data) != napi_ok || data == nullptr) {
    throw Error("ERR_INTERNAL", "Expected the addon's state in this environment but found none");
  }
  return *static_cast<Addon*>(data);
}

namespace {

Napi::Array from_strings(Napi::Env env, const std::vector<std::string>& strings) {
  Napi::Array array = Napi::Array::New(env, strings.size());
  for (size_t i = 0; i < strings.size(); i++) array.Set(static_cast<uint32_t>(i), Napi::String::New(env, strings[i]));
  return array;
}

Napi::Value info_of(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<std::string> isas = cpu_isas();
  MemoryInfo memory = memory_info();
  Napi::Object memory_object = Napi::Object::New(env);
  memory_object.Set("total", static_cast<double>(memory.total));
  memory_object.Set("available", static_cast<double>(memory.available));
  memory_object.Set("limit", static_cast<double>(memory.limit));
  memory_object.Set("rssAnon", static_cast<double>(memory.rss_anon));
  Napi::Object object = Napi::Object::New(env);
  object.Set("version", OCELLI_VERSION);
  std::string backend = cpu_backend()->name;
  object.Set("isa", backend.rfind("cpu-", 0) == 0 ? backend.substr(4) : backend);
  object.Set("isas", from_strings(env, isas));
  object.Set("cpu", cpu_model());
  object.Set("features", from_strings(env, cpu_features()));
  object.Set("cores", available_cores());
  object.Set("memory", memory_object);
  return object;
}

void delete_addon(napi_env, void* data, void*) {
  Addon* mine = static_cast<Addon*>(data);
  delete mine->background;
  delete mine;  // joins pool threads: idle, so at once
}

}  // namespace

}  // namespace binding

}  // namespace ocelli

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  using namespace ocelli;
  try {
    std::unique_ptr<binding::Addon> state(new binding::Addon);
    state->background = binding::Background::create(env);
    if (napi_set_instance_data(env, state.get(), binding::delete_addon, nullptr) != napi_ok)
      throw Napi::Error::New(env);
    state.release();
    binding::expose<binding::info_of>(env, exports, "info");
    register_checkpoint(env, exports);
    register_model(env, exports);
    register_op(env, exports);
    register_engine(env, exports);
    register_image(env, exports);
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    napi_throw(env, binding::error_object(env, binding::current_failure()));
  }
  return exports;
}

NODE_API_MODULE(ocelli, init)
