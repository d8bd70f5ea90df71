// The module's start: each part of the binding registers its functions.
#include <napi.h>

#include "image/binding.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  ocelli::register_image(env, exports);
  return exports;
}

NODE_API_MODULE(ocelli, init)
