#include "image/binding.h"

#include <cstring>
#include <numeric>
#include <string>

#include "core/check.h"
#include "image/binding_jobs.h"
#include "image/binding_raster.h"
#include "image/jpeg.h"
#include "image/large_pages.h"
#include "image/preprocess.h"
#include "image/resize.h"

namespace ocelli {
namespace image {
namespace {

[[noreturn]] void expected(const std::string& what, const std::string& where) {
  throw Error("ERR_INVALID_ARGUMENT", "Expected " + what + " for " + where + " but received something else");
}

double number(const Napi::Value& value, const char* where) {
  if (!value.IsNumber()) expected("a number", where);
  return value.As<Napi::Number>().DoubleValue();
}

int integer(const Napi::Value& value, const char* where) {
  const double n = number(value, where);
  if (!(n >= -kMaxSide * 2.0 && n <= kMaxSide * 2.0) || n != static_cast<int>(n))
    expected("a small whole number", where);
  return static_cast<int>(n);
}

std::string text(const Napi::Value& value, const char* where) {
  if (!value.IsString()) expected("a string", where);
  return value.As<Napi::String>().Utf8Value();
}

bool absent(const Napi::Value& value) { return value.IsUndefined() || value.IsNull(); }

template <typename T>
void triple(const Napi::Value& value, const char* where, T* out) {
  if (!value.IsArray() || value.As<Napi::Array>().Length() != 3) expected("three numbers", where);
  for (uint32_t i = 0; i < 3; ++i) out[i] = static_cast<T>(number(value.As<Napi::Array>().Get(i), where));
}

Step parse_step(const Napi::Value& value) {
  if (!value.IsObject()) expected("an object", "a preprocessing step");
  const Napi::Object object = value.As<Napi::Object>();
  const std::string op = text(object.Get("op"), "op");
  Step step{};
  step.width = integer(object.Get("width"), "width");
  step.height = integer(object.Get("height"), "height");
  if (op == "resize") {
    step.kind = Step::Kind::kResize;
    step.filter = parse_filter(text(object.Get("filter"), "filter"));
    return step;
  }
  step.left = integer(object.Get("left"), "left");
  step.top = integer(object.Get("top"), "top");
  if (op == "crop") {
    step.kind = Step::Kind::kCrop;
  } else if (op == "pad") {
    step.kind = Step::Kind::kPad;
    int fill[3];
    triple(object.Get("fill"), "fill", fill);
    for (int c = 0; c < 3; ++c) {
      if (fill[c] < 0 || fill[c] > 255) expected("values of 0 to 255", "fill");
      step.fill[c] = static_cast<uint8_t>(fill[c]);
    }
  } else {
    throw Error("ERR_INVALID_ARGUMENT", "Expected pad, resize or crop for op but received " + op);
  }
  return step;
}

PreprocessPlan parse_plan(const Napi::Value& value) {
  if (!value.IsObject()) expected("an object", "plan");
  const Napi::Object object = value.As<Napi::Object>();
  PreprocessPlan plan;
  const Napi::Value steps = object.Get("steps");
  if (!steps.IsArray() || steps.As<Napi::Array>().Length() > 16) expected("an array of at most 16", "steps");
  for (uint32_t i = 0; i < steps.As<Napi::Array>().Length(); ++i) {
    plan.steps.push_back(parse_step(steps.As<Napi::Array>().Get(i)));
  }
  const Napi::Value tiles = object.Get("tiles");
  if (!absent(tiles)) {
    if (!tiles.IsObject()) expected("an object", "tiles");
    const Napi::Object t = tiles.As<Napi::Object>();
    plan.tiled = true;
    plan.tiles = {integer(t.Get("width"), "tiles.width"), integer(t.Get("height"), "tiles.height"),
                  integer(t.Get("cols"), "tiles.cols"), integer(t.Get("rows"), "tiles.rows")};
    const Napi::Value square = t.Get("square"), repeat = t.Get("repeat");
    if (!absent(square)) plan.tiles.square = integer(square, "tiles.square");
    if (!absent(repeat)) plan.tiles.repeat = integer(repeat, "tiles.repeat");
  }
  plan.rescale_factor = number(object.Get("rescaleFactor"), "rescaleFactor");
  const Napi::Value mean = object.Get("mean");
  const Napi::Value std = object.Get("std");
  plan.has_mean = !absent(mean);
  plan.has_std = !absent(std);
  if (plan.has_mean) triple(mean, "mean", plan.mean);
  if (plan.has_std) triple(std, "std", plan.std);
  const Napi::Value order = object.Get("order");
  if (!absent(order)) plan.order = parse_pass_order(text(order, "order"));
  const Napi::Value alpha = object.Get("alpha");
  if (!absent(alpha)) {
    const std::string name = text(alpha, "alpha");
    if (name != "drop" && name != "white") expected("drop or white", "alpha");
    plan.alpha = name == "white" ? Alpha::kWhite : Alpha::kDrop;
  }
  return plan;
}

std::vector<PreprocessPlan> parse_plans(const Napi::Value& value) {
  if (!value.IsArray()) expected("an array of plans", "plans");
  const Napi::Array array = value.As<Napi::Array>();
  if (array.Length() < 1 || array.Length() > 256) expected("an array of 1 to 256", "plans");
  std::vector<PreprocessPlan> plans;
  for (uint32_t i = 0; i < array.Length(); ++i) plans.push_back(parse_plan(array.Get(i)));
  return plans;
}

struct Picture {
  std::shared_ptr<const uint8_t> bytes;
  int width;
  int height;
  int channels;
  PixelView view() const { return {bytes.get(), width, height, channels, static_cast<size_t>(width) * channels}; }
};

void check_size(int width, int height, int channels) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide ||
      (channels != 1 && channels != 3 && channels != 4)) {
    throw Error("ERR_IMAGE_SIZE", "Expected a picture with sides of 1 to " + std::to_string(kMaxSide) +
                                      " and 1, 3 or 4 channels but received " + std::to_string(width) + "x" +
                                      std::to_string(height) + "x" + std::to_string(channels));
  }
}

// Copies what JavaScript could write to, resize, share or detach while the threads work; a raster's bytes nobody else
// reaches. Called last, after everything that may run JavaScript (getters).
Picture picture_of(const Napi::Value& value, int width, int height, int channels) {
  check_size(width, height, channels);
  const size_t size = static_cast<size_t>(width) * height * channels;
  const auto check_length = [&](size_t length) {
    if (length == size) return;
    throw Error("ERR_IMAGE_SIZE", "Expected " + std::to_string(size) + " bytes for a picture of " +
                                      std::to_string(width) + "x" + std::to_string(height) + "x" +
                                      std::to_string(channels) + " but received " + std::to_string(length));
  };
  if (const std::shared_ptr<Raster> raster = raster_of(value)) {
    Raster::Pixels pixels = raster->pixels();
    if (pixels.bytes == nullptr) throw Error("ERR_IMAGE_RELEASED", "Expected a raster with pixels but received none");
    check_length(pixels.size);
    return {std::move(pixels.bytes), width, height, channels};
  }
  if (!value.IsTypedArray()) expected("a Uint8Array or a raster", "pixels");
  const Napi::TypedArray array = value.As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array && array.TypedArrayType() != napi_uint8_clamped_array) {
    expected("a Uint8Array or a raster", "pixels");
  }
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(value.Env(), value, nullptr, &length, &data, nullptr, nullptr) != napi_ok) {
    expected("a Uint8Array or a raster", "pixels");
  }
  check_length(length);
  std::shared_ptr<uint8_t> copy = room_for(size);
  std::memcpy(copy.get(), data, size);
  return {std::move(copy), width, height, channels};
}

// Runs `start`; whatever it throws becomes a rejected promise.
template <typename Start>
Napi::Value promised(const Napi::CallbackInfo& info, Start start) {
  Napi::Env env = info.Env();
  const auto reject = [&](const std::string& code, const std::string& message, const std::string& hint) {
    Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(make_js_error(env, code, message, hint));
    return deferred.Promise();
  };
  try {
    return start(env, static_cast<Jobs*>(info.Data()));
  } catch (const Error& e) {
    return reject(e.code(), e.what(), e.hint());
  } catch (const Napi::Error& e) {
    Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(e.Value());
    return deferred.Promise();
  } catch (const std::bad_alloc&) {
    return reject("ERR_OUT_OF_MEMORY", "Expected memory for an image operation but the system has none", "");
  }
}

Napi::Value resize_image(const Napi::CallbackInfo& info) {
  return promised(info, [&](Napi::Env env, Jobs* jobs) -> Napi::Value {
    const int width = integer(info[1], "width"), height = integer(info[2], "height");
    const int channels = integer(info[3], "channels");
    const int out_width = integer(info[4], "outWidth"), out_height = integer(info[5], "outHeight");
    const Filter filter = parse_filter(text(info[6], "filter"));
    const PassOrder order = absent(info[7]) ? PassOrder::kPillow13 : parse_pass_order(text(info[7], "order"));
    check_size(out_width, out_height, channels);
    if (static_cast<int64_t>(out_width) * out_height > kMaxStepPixels) {
      throw Error("ERR_IMAGE_TOO_LARGE", "Expected at most " + std::to_string(kMaxStepPixels) +
                                             " pixels for a resize but received " + std::to_string(out_width) + "x" +
                                             std::to_string(out_height));
    }
    const Picture picture = picture_of(info[0], width, height, channels);
    Napi::Uint8Array result = Napi::Uint8Array::New(env, static_cast<size_t>(out_width) * out_height * channels);
    auto job = std::make_unique<Job>(env, result);
    uint8_t* dst = result.Data();
    job->work = [=](const std::atomic<bool>& cancel) {
      resize(picture.view(), out_width, out_height, filter, order, {0, 0, out_width, out_height}, dst,
             static_cast<size_t>(out_width) * channels, &cancel);
    };
    const Napi::Promise promise = job->deferred.Promise();
    jobs->submit(std::move(job));
    return promise;
  });
}

Napi::Value preprocess_image(const Napi::CallbackInfo& info) {
  return promised(info, [&](Napi::Env env, Jobs* jobs) -> Napi::Value {
    const int width = integer(info[1], "width"), height = integer(info[2], "height");
    const int channels = integer(info[3], "channels");
    std::vector<PreprocessPlan> plans = parse_plans(info[4]);
    std::vector<size_t> counts;
    for (PreprocessPlan& plan : plans) counts.push_back(check_plan(&plan, width, height, channels));
    const size_t count = std::accumulate(counts.begin(), counts.end(), size_t{0});
    const Picture picture = picture_of(info[0], width, height, channels);
    Napi::Float32Array result = Napi::Float32Array::New(env, count);
    auto job = std::make_unique<Job>(env, result);
    float* dst = result.Data();
    job->work = [=](const std::atomic<bool>& cancel) {
      float* at = dst;
      for (size_t i = 0; i < plans.size(); at += counts[i++]) {
        preprocess(picture.bytes.get(), width, height, channels, plans[i], at, &cancel);
      }
    };
    const Napi::Promise promise = job->deferred.Promise();
    jobs->submit(std::move(job));
    return promise;
  });
}

// Synchronous, for the threads that decode: (library, file, room, width, height, channels), both arrays of the thread's
// own. `room` may be larger than the picture; the result is where in it the picture begins. Or `room` is a raster's id.
Napi::Value decode_jpeg_with(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string library = text(info[0], "library");
  const int width = integer(info[3], "width"), height = integer(info[4], "height");
  const int channels = integer(info[5], "channels");
  check_size(width, height, channels);
  if (channels < 3) expected("3 or 4", "channels");
  if (!info[1].IsTypedArray()) expected("a Uint8Array", "file");
  const Napi::Uint8Array file = info[1].As<Napi::Uint8Array>();
  const size_t size = static_cast<size_t>(width) * height * channels;
  std::shared_ptr<uint8_t> own;
  uint8_t* data = nullptr;
  size_t at = 0;
  if (info[2].IsNumber()) {
    own = raster_room_for(size);
    data = own.get();
  } else if (info[2].IsTypedArray() && info[2].As<Napi::Uint8Array>().ByteLength() >= size) {
    Napi::Uint8Array room = info[2].As<Napi::Uint8Array>();
    const size_t begin = to_large_page(room.Data());
    if (begin + size <= room.ByteLength()) at = begin;
    data = room.Data() + at;
    prefer_large_pages(data, size);
  } else {
    expected("room for width x height x channels bytes or a raster's id", "room");
  }
  switch (decode_jpeg(library, file.Data(), file.ByteLength(), width, height, channels, data)) {
    case JpegResult::kDecoded:
      if (own != nullptr) {
        const auto raster = Raster::find(static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value()));
        if (raster != nullptr) raster->fill({std::move(own), size});
      }
      return Napi::Number::New(env, static_cast<double>(at));
    case JpegResult::kCorrupt:
      return Napi::String::New(env, "corrupt");
    default:
      return Napi::String::New(env, "no library");
  }
}

}  // namespace
}  // namespace image

void register_image(Napi::Env env, Napi::Object exports) {
  image::register_raster(env, exports);
  image::Jobs* jobs = image::Jobs::create(env);
  exports.Set("resizeImage", Napi::Function::New(env, image::resize_image, "resizeImage", jobs));
  exports.Set("decodeJpegWith", Napi::Function::New(env, image::thrown<image::decode_jpeg_with>, "decodeJpegWith"));
  exports.Set("preprocessImage", Napi::Function::New(env, image::preprocess_image, "preprocessImage", jobs));
}

}  // namespace ocelli
