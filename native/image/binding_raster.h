// Rasters as JavaScript holds them: objects with an id, by which another thread of the process finds the same raster.
#pragma once

#include <napi.h>

#include "image/raster.h"

namespace ocelli {
namespace image {

// Null where `value` is no raster's object.
std::shared_ptr<Raster> raster_of(const Napi::Value& value);

void register_raster(Napi::Env env, Napi::Object exports);

}  // namespace image
}  // namespace ocelli
