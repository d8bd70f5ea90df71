// JavaScript values to C++ and back: every argument is checked, every byte is copied at the call.
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <new>

#include "binding.h"

namespace ocelli {
namespace binding {

namespace {

const char* type_of(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return "a boolean";
    case napi_number:
      return "a number";
    case napi_string:
      return "a string";
    case napi_function:
      return "a function";
    default:
      return "an object";
  }
}

}  // namespace

Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what(), error.hint()};
  } catch (const std::bad_alloc&) {
    return {"ERR_OUT_OF_MEMORY", "Expected memory for the model but the system has none left",
            "Lower maxModelLen, maxNumSeqs or maxNumBatchedTokens, or give the process more memory."};
  } catch (const std::exception& error) {
    return {"ERR_INTERNAL", std::string("Expected the engine to work but it failed: ") + error.what(), ""};
  } catch (...) {
    return {"ERR_INTERNAL", "Expected the engine to work but it failed", ""};
  }
}

Napi::Object error_object(Napi::Env env, const Failure& failure) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("code", failure.code);
  object.Set("message", failure.message);
  if (!failure.hint.empty()) object.Set("hint", failure.hint);
  return object;
}

void fail_argument(const std::string& expected, const std::string& name, const std::string& received) {
  throw Error("ERR_INVALID_ARGUMENT", "Expected " + expected + " for " + name + " but received " + received);
}

std::string to_string(Napi::Value value, const std::string& name) {
  if (!value.IsString()) fail_argument("a string", name, type_of(value));
  return value.As<Napi::String>().Utf8Value();
}

double to_number(Napi::Value value, const std::string& name) {
  if (!value.IsNumber()) fail_argument("a number", name, type_of(value));
  return value.As<Napi::Number>().DoubleValue();
}

int64_t to_integer(Napi::Value value, const std::string& name, int64_t min, int64_t max) {
  double number = to_number(value, name);
  // !(a && b) so that NaN fails.
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || std::floor(number) != number) {
    fail_argument("an integer from " + std::to_string(min) + " to " + std::to_string(max), name,
                  std::to_string(number));
  }
  return static_cast<int64_t>(number);
}

bool to_boolean(Napi::Value value, const std::string& name, bool absent) {
  if (value.IsUndefined()) return absent;
  if (!value.IsBoolean()) fail_argument("a boolean", name, type_of(value));
  return value.As<Napi::Boolean>().Value();
}

Napi::Object to_object(Napi::Value value, const std::string& name) {
  if (!value.IsObject() || value.IsFunction()) fail_argument("an object", name, type_of(value));
  return value.As<Napi::Object>();
}

std::vector<std::string> to_strings(Napi::Value value, const std::string& name) {
  if (!value.IsArray()) fail_argument("an array of strings", name, type_of(value));
  Napi::Array array = value.As<Napi::Array>();
  std::vector<std::string> strings;
  for (uint32_t i = 0; i < array.Length(); i++)
    strings.push_back(to_string(array.Get(i), name + "[" + std::to_string(i) + "]"));
  return strings;
}

std::map<std::string, std::string> to_string_map(Napi::Value value, const std::string& name) {
  Napi::Object object = to_object(value, name);
  Napi::Array keys = object.GetPropertyNames();
  std::map<std::string, std::string> map;
  for (uint32_t i = 0; i < keys.Length(); i++) {
    std::string key = to_string(keys.Get(i), name);
    map[key] = to_string(object.Get(key), name + "." + key);
  }
  return map;
}

std::map<std::string, int64_t> to_integer_map(Napi::Value value, const std::string& name) {
  Napi::Object object = to_object(value, name);
  Napi::Array keys = object.GetPropertyNames();
  std::map<std::string, int64_t> map;
  for (uint32_t i = 0; i < keys.Length(); i++) {
    std::string key = to_string(keys.Get(i), name);
    map[key] = to_integer(object.Get(key), name + "." + key, 0, INT32_MAX);
  }
  return map;
}

std::vector<int64_t> to_shape(Napi::Value value, const std::string& name) {
  if (!value.IsArray()) fail_argument("an array of sizes", name, type_of(value));
  Napi::Array array = value.As<Napi::Array>();
  if (array.Length() > static_cast<uint32_t>(kMaxRank)) {
    fail_argument("at most " + std::to_string(kMaxRank) + " dimensions", name, std::to_string(array.Length()));
  }
  std::vector<int64_t> shape;
  int64_t total = 1;
  for (uint32_t i = 0; i < array.Length(); i++) {
    shape.push_back(to_integer(array.Get(i), name + "[" + std::to_string(i) + "]", 0, INT32_MAX));
    if (shape.back() != 0 && total > (int64_t{1} << 40) / shape.back())
      fail_argument("a smaller tensor", name, "2^40 elements or more");
    if (shape.back() != 0) total *= shape.back();
  }
  return shape;
}

DType to_dtype(Napi::Value value, const std::string& name) {
  std::string text = to_string(value, name);
  try {
    return dtype_from_name(text);
  } catch (const Error& error) {
    throw Error("ERR_INVALID_ARGUMENT", std::string(error.what()) + " for " + name);
  }
}

WeightFormat to_weight_format(Napi::Value value, const std::string& name) {
  std::string text = to_string(value, name);
  try {
    return weight_format_from_name(text);
  } catch (const Error& error) {
    throw Error("ERR_INVALID_ARGUMENT", std::string(error.what()) + " for " + name);
  }
}

OwnedTensor::OwnedTensor(DType dtype, const std::vector<int64_t>& shape) {
  tensor_.dtype = dtype;
  tensor_.rank = static_cast<int8_t>(shape.size());
  int64_t stride = 1;
  for (int i = tensor_.rank - 1; i >= 0; i--) {
    tensor_.shape[i] = shape[i];
    tensor_.stride[i] = stride;
    stride *= shape[i];
  }
  size_t bytes = static_cast<size_t>(tensor_.numel() * size_of(dtype)) + 64;
  // Large ones lie as the engine's own memory does, so that what is measured here holds there.
  constexpr size_t kHugePage = 2 << 20;
  std::align_val_t alignment{bytes >= kHugePage ? kHugePage : 64};
  void* data = ::operator new(bytes, alignment);
  bytes_ = std::shared_ptr<void>(data, [alignment](void* p) { ::operator delete(p, alignment); });
#ifdef MADV_HUGEPAGE
  if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
#endif
  std::memset(data, 0, bytes);
  tensor_.data = data;
}

OwnedTensor to_tensor(Napi::Value value, const std::string& name) {
  Napi::Object object = to_object(value, name);
  DType dtype = to_dtype(object.Get("dtype"), name + ".dtype");
  OwnedTensor owned(dtype, to_shape(object.Get("shape"), name + ".shape"));
  Napi::Value data = object.Get("data");
  // Lengths are read here, at the copy: a resizable buffer may have shrunk since.
  const void* bytes = nullptr;
  size_t length = 0;
  if (data.IsTypedArray()) {
    napi_typedarray_type type;
    size_t elements = 0;
    void* start = nullptr;
    if (napi_get_typedarray_info(data.Env(), data, &type, &elements, &start, nullptr, nullptr) != napi_ok) {
      fail_argument("readable bytes", name + ".data", "a detached array");
    }
    length = data.As<Napi::TypedArray>().ByteLength();
    bytes = start;
  } else if (data.IsDataView()) {
    length = data.As<Napi::DataView>().ByteLength();
    bytes = data.As<Napi::DataView>().Data();
  } else {
    fail_argument("a typed array", name + ".data", type_of(data));
  }
  size_t expected = static_cast<size_t>(owned.tensor().numel() * size_of(dtype));
  if (length != expected || (bytes == nullptr && expected != 0)) {
    fail_argument(std::to_string(expected) + " bytes (" + describe(owned.tensor()) + ")", name + ".data",
                  std::to_string(length));
  }
  if (expected != 0) std::memcpy(owned.tensor().data, bytes, expected);
  return owned;
}

std::map<std::string, OwnedTensor> to_tensor_map(Napi::Value value, const std::string& name) {
  Napi::Object object = to_object(value, name);
  Napi::Array keys = object.GetPropertyNames();
  std::map<std::string, OwnedTensor> map;
  for (uint32_t i = 0; i < keys.Length(); i++) {
    std::string key = to_string(keys.Get(i), name);
    map[key] = to_tensor(object.Get(key), name + "." + key);
  }
  return map;
}

Napi::Array from_shape(Napi::Env env, const std::vector<int64_t>& shape) {
  Napi::Array array = Napi::Array::New(env, shape.size());
  for (size_t i = 0; i < shape.size(); i++)
    array.Set(static_cast<uint32_t>(i), Napi::Number::New(env, static_cast<double>(shape[i])));
  return array;
}

Napi::Object from_tensor(Napi::Env env, const Tensor& tensor) {
  size_t elements = static_cast<size_t>(tensor.numel());
  size_t bytes = elements * size_of(tensor.dtype);
  Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(env, bytes);
  if (bytes != 0) std::memcpy(buffer.Data(), tensor.data, bytes);
  Napi::Value data;
  switch (tensor.dtype) {
    case DType::kF32:
      data = Napi::Float32Array::New(env, elements, buffer, 0);
      break;
    case DType::kBF16:
    case DType::kF16:
      data = Napi::Uint16Array::New(env, elements, buffer, 0);
      break;
    case DType::kI8:
      data = Napi::Int8Array::New(env, elements, buffer, 0);
      break;
    case DType::kU8:
      data = Napi::Uint8Array::New(env, elements, buffer, 0);
      break;
    case DType::kI32:
      data = Napi::Int32Array::New(env, elements, buffer, 0);
      break;
    case DType::kI64:
      data = Napi::BigInt64Array::New(env, elements, buffer, 0);
      break;
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("dtype", name_of(tensor.dtype));
  object.Set("shape", from_shape(env, std::vector<int64_t>(tensor.shape, tensor.shape + tensor.rank)));
  object.Set("data", data);
  return object;
}

}  // namespace binding
}  // namespace ocelli
