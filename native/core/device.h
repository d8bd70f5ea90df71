// A device whose backend is in a library of its own. Between the two are C functions: no exception crosses, and nothing
// is freed by whom it does not belong to. Both sides share the structures of core/op.h, so they are of one build.
#pragma once

#include <string>

#include "core/op.h"

extern "C" {

// What went wrong. An empty code: nothing.
struct OcelliFailure {
  char code[32];
  char message[1024];
  char hint[256];
};

struct OcelliDevice;  // the library's

// Functions that can fail say so by false (or null) and a failure.
struct OcelliDeviceApi {
  const char* version;  // of the package
  uint64_t shape;       // kDeviceShape, for builds of one version that differ; these two come first for ever
  // `library`: the path that this one was loaded from.
  OcelliDevice* (*open)(const char* library, int ordinal, OcelliFailure* failure);
  const char* (*name)(OcelliDevice* device);
  bool (*free_bytes)(OcelliDevice* device, uint64_t* bytes, OcelliFailure* failure);
  // Null without a failure where there is no room. `pinned`: of the host.
  void* (*allocate)(OcelliDevice* device, uint64_t bytes, bool pinned, OcelliFailure* failure);
  void (*release)(OcelliDevice* device, void* data, bool pinned);
  bool (*upload)(OcelliDevice* device, void* to, const void* from, uint64_t bytes, OcelliFailure* failure);
  bool (*download)(OcelliDevice* device, void* to, const void* from, uint64_t bytes, OcelliFailure* failure);
  bool (*copy)(OcelliDevice* device, void* to, const void* from, uint64_t bytes, OcelliFailure* failure);
  bool (*synchronize)(OcelliDevice* device, OcelliFailure* failure);
  bool (*packed_bytes)(ocelli::WeightFormat format, int64_t n, int64_t k, uint64_t* bytes, OcelliFailure* failure);
  bool (*pack)(const ocelli::Tensor* rows, int64_t row, ocelli::PackedMatrix* packed, OcelliFailure* failure);
  bool (*run)(OcelliDevice* device, ocelli::Op op, const ocelli::OpCall* call, OcelliFailure* failure);
  bool (*scratch)(OcelliDevice* device, ocelli::Op op, const ocelli::OpCall* call, uint64_t* bytes,
                  OcelliFailure* failure);
  // Between the two, what this thread runs is kept instead. end_recording: null where it could not be.
  bool (*begin_recording)(OcelliDevice* device, OcelliFailure* failure);
  void* (*end_recording)(OcelliDevice* device, OcelliFailure* failure);
  bool (*replay)(OcelliDevice* device, void* recording, OcelliFailure* failure);
  void (*forget)(OcelliDevice* device, void* recording);
};

// Of what both sides share; the first number counts changes of this file that sizes do not tell.
constexpr uint64_t kDeviceShape = uint64_t{3} << 48 | uint64_t{sizeof(OcelliDeviceApi)} << 32 |
                                  uint64_t{sizeof(ocelli::OpCall)} << 16 | sizeof(ocelli::StepContext);

// What a library exports.
typedef const OcelliDeviceApi* (*OcelliDeviceEntry)();
}

namespace ocelli {

struct DeviceInfo {
  std::string name;
  uint64_t free_bytes = 0;
};

// Opens a device by the library at `path`, once; tells what is free on it now. Throws what the library says (no driver,
// too old, no such device), or ERR_DEVICE_LIBRARY for a library that does not load or is of another build.
DeviceInfo open_device(const std::string& path, int ordinal);
// Of a device that was opened.
const Backend* device_backend(int ordinal);

}  // namespace ocelli
