// resizeImage and preprocessImage of lib/native.ts.
#pragma once

#include <napi.h>

namespace ocelli {

void register_image(Napi::Env env, Napi::Object exports);

}  // namespace ocelli
