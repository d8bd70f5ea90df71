// Checkpoints: what files hold, before a model is made of them.
#include "binding.h"
#include "core/checkpoint.h"

namespace ocelli {

namespace {

using namespace binding;

Napi::Value open_checkpoint(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::vector<std::string> paths = to_strings(info[0], "paths");
  auto opened = std::make_shared<std::shared_ptr<Checkpoint>>();
  return addon(env).background->submit(
      [opened, paths](const std::atomic<bool>&) { *opened = Checkpoint::open(paths); },
      [opened](Napi::Env e) { return make_handle(e, HandleKind::kCheckpoint, *opened); });
}

Napi::Value checkpoint_tensors(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto checkpoint = handle_as<Checkpoint>(info[0], HandleKind::kCheckpoint);
  const std::vector<CheckpointTensor>& tensors = checkpoint->tensors();
  Napi::Array array = Napi::Array::New(env, tensors.size());
  for (size_t i = 0; i < tensors.size(); i++) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", tensors[i].name);
    object.Set("dtype", tensors[i].stored);
    object.Set("shape", from_shape(env, tensors[i].shape));
    object.Set("file", tensors[i].file);
    array.Set(static_cast<uint32_t>(i), object);
  }
  return array;
}

Napi::Value from_element(Napi::Env env, GgufType type, GgufElements* elements) {
  if (type == GgufType::kString) {
    std::string_view text = elements->string();
    return Napi::String::New(env, text.data(), text.size());
  }
  if (type == GgufType::kI64) return Napi::BigInt::New(env, elements->integer());
  if (type == GgufType::kU64) return Napi::BigInt::New(env, static_cast<uint64_t>(elements->integer()));
  double number = elements->number();
  if (type == GgufType::kBool) return Napi::Boolean::New(env, number != 0);
  return Napi::Number::New(env, number);
}

Napi::Value from_value(Napi::Env env, const GgufValue& value) {
  GgufElements elements(value);
  if (!value.array) return from_element(env, value.type, &elements);
  Napi::Array array = Napi::Array::New(env, value.count);
  for (uint64_t i = 0; i < value.count; i++) {
    Napi::HandleScope scope(env);
    array.Set(static_cast<uint32_t>(i), from_element(env, value.type, &elements));
  }
  return array;
}

// [key, value] pairs: as an object's keys, those of a hostile file could name its prototype.
Napi::Value checkpoint_metadata(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto checkpoint = handle_as<Checkpoint>(info[0], HandleKind::kCheckpoint);
  int32_t file = static_cast<int32_t>(to_integer(info[1], "file", 0, checkpoint->files() - 1));
  checkpoint->verify_sizes();
  const std::vector<GgufValue>& metadata = checkpoint->metadata(file);
  Napi::Array array = Napi::Array::New(env, metadata.size());
  for (size_t i = 0; i < metadata.size(); i++) {
    Napi::Array pair = Napi::Array::New(env, 2);
    pair.Set(uint32_t{0}, Napi::String::New(env, metadata[i].key));
    pair.Set(uint32_t{1}, from_value(env, metadata[i]));
    array.Set(static_cast<uint32_t>(i), pair);
  }
  return array;
}

Napi::Value checkpoint_rows(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto checkpoint = handle_as<Checkpoint>(info[0], HandleKind::kCheckpoint);
  std::string name = to_string(info[1], "name");
  const CheckpointTensor* tensor = checkpoint->find(name);
  if (tensor == nullptr) fail_argument("a tensor of the checkpoint", "name", "'" + name + "'");
  if (!tensor->readable) fail_argument("a tensor of a type that is read", "name", tensor->stored);
  // A vector is one row: blocks do not end between its elements.
  int64_t all = tensor->shape.size() < 2 ? 1 : tensor->shape[0];
  int64_t first = to_integer(info[2], "first", 0, all);
  int64_t count = to_integer(info[3], "count", 0, all - first);
  int64_t elements = count;
  for (size_t i = tensor->shape.size() < 2 ? 0 : 1; i < tensor->shape.size(); i++) elements *= tensor->shape[i];
  if (elements > INT32_MAX) fail_argument("fewer than 2^31 elements", "count", std::to_string(elements));
  checkpoint->verify_sizes();
  Napi::Float32Array rows = Napi::Float32Array::New(env, static_cast<size_t>(elements));
  if (elements != 0) read_elements(*tensor, first * (elements / count), elements, DType::kF32, rows.Data());
  return rows;
}

}  // namespace

void register_checkpoint(Napi::Env env, Napi::Object exports) {
  expose<open_checkpoint>(env, exports, "openCheckpoint");
  expose<checkpoint_tensors>(env, exports, "checkpointTensors");
  expose<checkpoint_metadata>(env, exports, "checkpointMetadata");
  expose<checkpoint_rows>(env, exports, "checkpointRows");
}

}  // namespace ocelli
