// The library's one export: a GPU as core/device.h has it. No exception leaves a function here.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "core/device.h"
#include "cuda/device.h"

struct OcelliDevice {
  ocelli::cuda::Device gpu;
  std::mutex mutex;  // of what a launch looks up

  OcelliDevice(const ocelli::cuda::Driver& driver, int ordinal, ocelli::cuda::ImageOf image_of)
      : gpu(driver, ordinal, image_of) {}
};

namespace ocelli {
namespace cuda {

extern const Backend backend;

// The fat binaries that are linked in, by the names of their sources.
#define OCELLI_IMAGE(name) extern "C" __attribute__((visibility("hidden"))) const unsigned char ocelli_image_##name[];
#include "images.def"
#undef OCELLI_IMAGE

namespace {

const void* image_of(const char* name) {
  const std::string wanted = name;
#define OCELLI_IMAGE(known) \
  if (wanted == #known) return ocelli_image_##known;
#include "images.def"
#undef OCELLI_IMAGE
  return nullptr;
}

void describe(OcelliFailure* failure, const char* code, const char* message, const char* hint) {
  std::snprintf(failure->code, sizeof failure->code, "%s", code);
  std::snprintf(failure->message, sizeof failure->message, "%s", message);
  std::snprintf(failure->hint, sizeof failure->hint, "%s", hint);
}

template <class F>
bool guarded(OcelliFailure* failure, F body) {
  try {
    body();
    return true;
  } catch (const Error& error) {
    describe(failure, error.code().c_str(), error.what(), error.hint().c_str());
  } catch (const std::exception& error) {
    describe(failure, "ERR_CUDA", error.what(), "");
  }
  return false;
}

// The driver, or with OCELLI_CUDA=emulated its stand-in of the tests, which lies beside this library.
std::string driver_path(const std::string& library) {
  const char* which = std::getenv("OCELLI_CUDA");
  if (which == nullptr || std::string(which) != "emulated") return {};
  return library.substr(0, library.find_last_of('/') + 1) + "libocelli_standin.so";
}

CUdeviceptr address(const void* data) { return reinterpret_cast<CUdeviceptr>(data); }

OcelliDevice* open(const char* library, int ordinal, OcelliFailure* failure) {
  OcelliDevice* device = nullptr;
  guarded(failure, [&] { device = new OcelliDevice(load_driver(driver_path(library)), ordinal, image_of); });
  return device;
}

const char* name(OcelliDevice* device) { return device->gpu.name().c_str(); }

bool free_bytes(OcelliDevice* device, uint64_t* bytes, OcelliFailure* failure) {
  return guarded(failure, [&] { *bytes = device->gpu.free_bytes(); });
}

void* allocate(OcelliDevice* device, uint64_t bytes, bool pinned, OcelliFailure* failure) {
  void* data = nullptr;
  guarded(failure, [&] {
    try {
      data = pinned ? device->gpu.allocate_host(bytes) : reinterpret_cast<void*>(device->gpu.allocate(bytes));
    } catch (const Error& error) {
      if (error.code() != "ERR_OUT_OF_MEMORY") throw;  // for that, who asked has words of its own
    }
  });
  return data;
}

void release(OcelliDevice* device, void* data, bool pinned) {
  OcelliFailure ignored;  // of a GPU that is broken: whoever computes next is told
  guarded(&ignored, [&] { pinned ? device->gpu.release_host(data) : device->gpu.release(address(data)); });
}

bool upload(OcelliDevice* device, void* to, const void* from, uint64_t bytes, OcelliFailure* failure) {
  return guarded(failure, [&] { device->gpu.upload(address(to), from, bytes); });
}

bool download(OcelliDevice* device, void* to, const void* from, uint64_t bytes, OcelliFailure* failure) {
  return guarded(failure, [&] { device->gpu.download(to, address(from), bytes); });
}

bool copy(OcelliDevice* device, void* to, const void* from, uint64_t bytes, OcelliFailure* failure) {
  return guarded(failure, [&] { device->gpu.copy(address(to), address(from), bytes); });
}

bool synchronize(OcelliDevice* device, OcelliFailure* failure) {
  return guarded(failure, [&] { device->gpu.synchronize(); });
}

bool packed_bytes_of(WeightFormat format, int64_t n, int64_t k, uint64_t* bytes, OcelliFailure* failure) {
  return guarded(failure, [&] { *bytes = backend.packed_bytes(format, n, k); });
}

bool pack_rows(const Tensor* rows, int64_t row, PackedMatrix* packed, OcelliFailure* failure) {
  return guarded(failure, [&] { backend.pack(*rows, row, *packed); });
}

// What this thread records; no thread-local object has a destructor.
thread_local Capture* recording = nullptr;

bool run(OcelliDevice* device, Op op, const OpCall* call, OcelliFailure* failure) {
  return guarded(failure, [&] {
    const std::lock_guard<std::mutex> lock(device->mutex);
    current_queue() = recording != nullptr ? static_cast<Queue*>(recording) : &device->gpu;
    backend.op[static_cast<int>(op)]->run(*call);
  });
}

bool scratch(OcelliDevice*, Op op, const OpCall* call, uint64_t* bytes, OcelliFailure* failure) {
  const OpImpl& impl = *backend.op[static_cast<int>(op)];
  return guarded(failure, [&] { *bytes = impl.scratch != nullptr ? impl.scratch(*call) : 0; });
}

bool begin_recording(OcelliDevice* device, OcelliFailure* failure) {
  return guarded(failure, [&] { recording = new Capture(device->gpu); });
}

void* end_recording(OcelliDevice*, OcelliFailure* failure) {
  const std::unique_ptr<Capture> ended(recording);
  recording = nullptr;
  CUgraphExec graph = nullptr;
  guarded(failure, [&] { graph = ended->end(); });
  return graph;
}

bool replay(OcelliDevice* device, void* graph, OcelliFailure* failure) {
  return guarded(failure, [&] { device->gpu.replay(static_cast<CUgraphExec>(graph)); });
}

void forget(OcelliDevice* device, void* graph) {
  OcelliFailure ignored;
  guarded(&ignored, [&] { device->gpu.release(static_cast<CUgraphExec>(graph)); });
}

constexpr OcelliDeviceApi kApi = {OCELLI_VERSION,  kDeviceShape,    open,          name,     free_bytes,
                                  allocate,        release,         upload,        download, copy,
                                  synchronize,     packed_bytes_of, pack_rows,     run,      scratch,
                                  begin_recording, end_recording,   replay,        forget};

}  // namespace

}  // namespace cuda
}  // namespace ocelli

extern "C" __attribute__((visibility("default"))) const OcelliDeviceApi* ocelli_device() { return &ocelli::cuda::kApi; }
