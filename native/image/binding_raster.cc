#include "image/binding_raster.h"

#include <cstring>
#include <new>

#include "core/check.h"
#include "image/binding_jobs.h"

namespace ocelli {
namespace image {
namespace {

using Held = std::shared_ptr<Raster>;

constexpr napi_type_tag kTag = {0x0ce111ba5e0f17e5ull, 0x7a57e7ull};

Raster& live(const Napi::Value& value) {
  const Held raster = raster_of(value);
  if (raster == nullptr) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected a raster of newRaster() but received something else");
  }
  return *raster;  // its object, an argument of the call, holds it
}

Napi::Value new_raster(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Held raster = Raster::make();
  Napi::Object object = Napi::Object::New(env);
  object.Set("id", static_cast<double>(raster->id()));
  auto held = std::make_unique<Held>(raster);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Held*>(data); };
  if (napi_wrap(env, object, held.get(), finalize, nullptr, nullptr) != napi_ok) throw Napi::Error::New(env);
  held.release();
  if (napi_type_tag_object(env, object, &kTag) != napi_ok) throw Napi::Error::New(env);
  return object;
}

Napi::Value fill_raster(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber() || !info[1].IsTypedArray()) {
    throw Error("ERR_INVALID_ARGUMENT", "Expected a raster's id and its pixels but received something else");
  }
  const Held raster = Raster::find(static_cast<uint64_t>(info[0].As<Napi::Number>().Int64Value()));
  const Napi::Uint8Array pixels = info[1].As<Napi::Uint8Array>();
  if (raster == nullptr) return info.Env().Undefined();
  const std::shared_ptr<uint8_t> room = raster_room_for(pixels.ByteLength());
  std::memcpy(room.get(), pixels.Data(), pixels.ByteLength());
  raster->fill({room, pixels.ByteLength()});
  return info.Env().Undefined();
}

Napi::Value raster_bytes(const Napi::CallbackInfo& info) {
  const Raster::Pixels pixels = live(info[0]).pixels();
  if (pixels.bytes == nullptr) return info.Env().Undefined();
  Napi::Uint8Array copy = Napi::Uint8Array::New(info.Env(), pixels.size);
  std::memcpy(copy.Data(), pixels.bytes.get(), pixels.size);
  return copy;
}

Napi::Value release_raster(const Napi::CallbackInfo& info) {
  live(info[0]).release();
  return info.Env().Undefined();
}

Napi::Value free_spare(const Napi::CallbackInfo& info) {
  free_spare_room();
  return info.Env().Undefined();
}

}  // namespace

std::shared_ptr<Raster> raster_of(const Napi::Value& value) {
  bool matches = false;
  void* data = nullptr;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &kTag, &matches) != napi_ok || !matches ||
      napi_unwrap(value.Env(), value, &data) != napi_ok) {
    return nullptr;
  }
  return *static_cast<Held*>(data);
}

void register_raster(Napi::Env env, Napi::Object exports) {
  exports.Set("newRaster", Napi::Function::New(env, thrown<new_raster>, "newRaster"));
  exports.Set("fillRaster", Napi::Function::New(env, thrown<fill_raster>, "fillRaster"));
  exports.Set("rasterBytes", Napi::Function::New(env, thrown<raster_bytes>, "rasterBytes"));
  exports.Set("freeSpareRaster", Napi::Function::New(env, thrown<free_spare>, "freeSpareRaster"));
  exports.Set("releaseRaster", Napi::Function::New(env, thrown<release_raster>, "releaseRaster"));
}

}  // namespace image
}  // namespace ocelli
