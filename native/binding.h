// What the parts of the binding share: conversions that check, errors as { code, message, hint }, work off the event
// loop, handles. No exception leaves a function that was registered through `expose`.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/model.h"
#include "core/op.h"

namespace ocelli {
namespace binding {

// An error as JavaScript sees it before lib/native.ts makes it an OcelliError.
struct Failure {
  std::string code;
  std::string message;
  std::string hint;
};

// Inside a catch block: what is being handled, whatever it is.
Failure current_failure();
Napi::Object error_object(Napi::Env env, const Failure& failure);
[[noreturn]] void fail_argument(const std::string& expected, const std::string& name, const std::string& received);

// Each throws ERR_INVALID_ARGUMENT naming `name`.
std::string to_string(Napi::Value value, const std::string& name);
double to_number(Napi::Value value, const std::string& name);
int64_t to_integer(Napi::Value value, const std::string& name, int64_t min, int64_t max);
bool to_boolean(Napi::Value value, const std::string& name, bool absent);
Napi::Object to_object(Napi::Value value, const std::string& name);
std::vector<std::string> to_strings(Napi::Value value, const std::string& name);
std::map<std::string, std::string> to_string_map(Napi::Value value, const std::string& name);
std::map<std::string, int64_t> to_integer_map(Napi::Value value, const std::string& name);
std::vector<int64_t> to_shape(Napi::Value value, const std::string& name);
DType to_dtype(Napi::Value value, const std::string& name);
WeightFormat to_weight_format(Napi::Value value, const std::string& name);

// A tensor and its bytes, 64-byte aligned; never null, however few elements it has.
class OwnedTensor {
 public:
  OwnedTensor() = default;
  OwnedTensor(DType dtype, const std::vector<int64_t>& shape);  // zeroed
  const Tensor& tensor() const { return tensor_; }

 private:
  std::shared_ptr<void> bytes_;
  Tensor tensor_;
};

// Copies the bytes at the call.
OwnedTensor to_tensor(Napi::Value value, const std::string& name);
std::map<std::string, OwnedTensor> to_tensor_map(Napi::Value value, const std::string& name);
Napi::Object from_tensor(Napi::Env env, const Tensor& tensor);  // contiguous; copies
Napi::Array from_shape(Napi::Env env, const std::vector<int64_t>& shape);

// Work on native threads; promises settle on the event loop. One per environment, gone with it: its threads are told to
// stop and joined before the environment ends.
class Background {
 public:
  using Work = std::function<void(const std::atomic<bool>& cancel)>;
  // Makes the promise's value, on the event loop.
  using Result = std::function<Napi::Value(Napi::Env)>;
  static Background* create(Napi::Env env);
  Napi::Promise submit(Work work, Result result);
  // Runs `notice` on the event loop; from any thread while work submitted here is running.
  void post(std::function<void(Napi::Env)> notice);

 private:
  struct State;
  explicit Background(State* state) : state_(state) {}
  State* state_;
};

// The environment's own state.
struct Addon {
  Background* background = nullptr;
  std::shared_ptr<Pool> op_pool;  // of the last runOp
};
Addon& addon(Napi::Env env);

// Handles: plain objects that hold one shared_ptr. Dropping the last one happens on a thread of its own: unmapping
// gigabytes takes milliseconds that neither the event loop nor the garbage collector should spend.
enum class HandleKind : uint64_t { kCheckpoint = 1, kModel, kEngine };
Napi::Object make_handle(Napi::Env env, HandleKind kind, std::shared_ptr<void> held);
// Throws ERR_INVALID_ARGUMENT for another kind, ERR_DISPOSED once disposed of.
std::shared_ptr<void> handle_of(Napi::Value value, HandleKind kind);
template <class T>
std::shared_ptr<T> handle_as(Napi::Value value, HandleKind kind) {
  return std::static_pointer_cast<T>(handle_of(value, kind));
}
void dispose_handle(Napi::Value value, HandleKind kind);  // again: nothing
void release_later(std::shared_ptr<void> held);

// Calls F and turns what it throws into a thrown { code, message, hint }.
using Function = Napi::Value (*)(const Napi::CallbackInfo& info);
template <Function F>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return F(info);
  } catch (const Napi::Error&) {
    throw;  // JavaScript's own exception
  } catch (...) {
    napi_throw(info.Env(), error_object(info.Env(), current_failure()));
    return Napi::Value();
  }
}
template <Function F>
void expose(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New(env, guarded<F>, name));
}

}  // namespace binding

void register_checkpoint(Napi::Env env, Napi::Object exports);
void register_model(Napi::Env env, Napi::Object exports);
void register_op(Napi::Env env, Napi::Object exports);
void register_engine(Napi::Env env, Napi::Object exports);

}  // namespace ocelli
