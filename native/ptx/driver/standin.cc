// A library of libcuda's shape whose GPU is the emulator: the backend's own code runs through it whole. Work in a
// stream happens as late as the driver's contract allows: at a synchronisation, a query or a wait, never at the call,
// so that what does not wait finds stale bytes.
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "core/check.h"
#include "cuda/driver_types.h"
#include "ptx/driver/errors.h"
#include "ptx/driver/image.h"
#include "ptx/driver/settings.h"
#include "ptx/executor.h"

using namespace ocelli;
using namespace ocelli::cuda;

using Work = std::function<CUresult()>;

struct CUgraph_st {
  std::vector<Work> work;
  bool valid = true;
};
struct CUgraphExec_st {
  std::vector<Work> work;
};
struct CUstream_st {
  std::deque<Work> waiting;
  std::unique_ptr<CUgraph_st> capture;
};
struct CUevent_st {
  CUstream stream = nullptr;
  std::shared_ptr<bool> happened = std::make_shared<bool>(true);
};
struct CUmod_st {
  std::unique_ptr<ptx::Program> program;
};
struct CUfunc_st {
  const ptx::Kernel* kernel = nullptr;
  CUmodule module = nullptr;
  size_t allowed_shared = 48 * 1024;
};

namespace {

constexpr size_t kSharedPerBlock = 99 * 1024;  // the least that any GPU since Ampere lets a block have

struct Gpu {
  ptx::Settings settings;
  std::recursive_mutex mutex;
  bool initialized = false;
  int failing_calls = 0;
  CUresult broken = kSuccess;  // a fault of a kernel stays, as it does on a GPU
  std::unique_ptr<ptx::Arena> arena = std::make_unique<ptx::Arena>(settings.memory);
  std::vector<std::unique_ptr<CUfunc_st>> functions;
  ptx::Report report;
};

Gpu& gpu() {
  static Gpu* one = new Gpu;  // outlives whoever calls at exit
  return *one;
}

// The stream that this thread captures, and what may have to wait for the GPU meanwhile: it ends the capture.
thread_local CUstream capturing = nullptr;
constexpr const char* kNotWhileCapturing[] = {"cuMemAlloc",    "cuMemFree",        "cuMemHostAlloc",
                                              "cuMemFreeHost", "cuModuleLoadData", "cuModuleUnload"};

// Every entry: one at a time, with the injected fault, after cuInit, and with no C++ exception going out.
template <class F>
CUresult entry(const char* name, F body) {
  Gpu& g = gpu();
  const std::lock_guard<std::recursive_mutex> lock(g.mutex);
  if (g.settings.fail == name && (++g.failing_calls == g.settings.fail_at || g.settings.fail_at == 0))
    return g.settings.fail_code;
  for (const char* unsafe : kNotWhileCapturing) {
    if (capturing != nullptr && std::strcmp(name, unsafe) == 0)
      return capturing->capture->valid = false, kCaptureUnsupported;
  }
  if (!g.initialized && std::strcmp(name, "cuInit") != 0 && std::strcmp(name, "cuDriverGetVersion") != 0)
    return kNotInitialized;
  try {
    return body(g);
  } catch (const Error& error) {
    std::fprintf(stderr, "emulated %s: %s\n", name, error.what());
    return error.code() == "ERR_OUT_OF_MEMORY" ? kOutOfMemory : kInvalidValue;
  }
}

CUresult enqueue(CUstream stream, Work work) {
  if (stream == nullptr) return kInvalidHandle;  // the default stream is nobody's here
  if (stream->capture) {
    stream->capture->work.push_back(std::move(work));
  } else {
    stream->waiting.push_back(std::move(work));
  }
  return kSuccess;
}

CUresult drain(CUstream stream) {
  if (stream == nullptr) return kInvalidHandle;
  if (stream->capture) return stream->capture->valid = false, kCaptureUnsupported;
  Gpu& g = gpu();
  while (!stream->waiting.empty()) {
    const Work work = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    if (g.broken != kSuccess) continue;
    const CUresult result = work();
    if (result != kSuccess) g.broken = result;
  }
  return g.broken;
}

CUresult code_of(const ptx::Report& report) {
  if (report.has(ptx::Fault::kOutOfBounds)) return kIllegalAddress;
  if (report.has(ptx::Fault::kMisaligned)) return kMisalignedAddress;
  return kLaunchFailed;
}

CUresult run(const ptx::Launch& launch) {
  Gpu& g = gpu();
  ptx::Options options;
  options.check_races = g.settings.races;
  ptx::Report report = ptx::execute(*g.arena, launch, options);
  g.report.counters.add(report.counters);
  if (report.clean()) return kSuccess;
  g.report.merge(report);
  std::fprintf(stderr, "emulated GPU:\n%s", report.text().c_str());
  return code_of(report);
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default"))) CUresult

EXPORT cuInit(unsigned int) {
  return entry("cuInit", [&](Gpu& g) {
    g.initialized = true;
    return g.settings.devices > 0 ? kSuccess : kNoDevice;
  });
}
EXPORT cuDriverGetVersion(int* version) {
  return entry("cuDriverGetVersion", [&](Gpu& g) { return *version = g.settings.version, kSuccess; });
}
EXPORT cuGetErrorName(CUresult error, const char** name) {
  *name = ptx::error_name(error);
  return *name != nullptr ? kSuccess : kInvalidValue;
}
EXPORT cuDeviceGetCount(int* count) {
  return entry("cuDeviceGetCount", [&](Gpu& g) { return *count = g.settings.devices, kSuccess; });
}
EXPORT cuDeviceGet(CUdevice* device, int ordinal) {
  return entry("cuDeviceGet",
               [&](Gpu& g) { return *device = ordinal, ordinal < g.settings.devices ? kSuccess : kInvalidDevice; });
}
EXPORT cuDeviceGetName(char* name, int length, CUdevice) {
  return entry("cuDeviceGetName",
               [&](Gpu&) { return std::strncpy(name, "PTX emulator", static_cast<size_t>(length)), kSuccess; });
}
EXPORT cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
  return entry("cuDeviceGetAttribute", [&](Gpu& g) {
    switch (attribute) {
      case kMultiprocessors:
        return *value = 1, kSuccess;
      case kClock:
      case kMemoryClock:
        return *value = 1000000, kSuccess;
      case kMemoryBus:
        return *value = 256, kSuccess;
      case kCache:
        return *value = 64 * 1024, kSuccess;
      case kCapabilityMajor:
        return *value = g.settings.capability / 10, kSuccess;
      case kCapabilityMinor:
        return *value = g.settings.capability % 10, kSuccess;
      case kSharedOptin:
        return *value = static_cast<int>(kSharedPerBlock), kSuccess;
      default:
        return kInvalidValue;
    }
  });
}
EXPORT cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  return entry("cuDevicePrimaryCtxRetain",
               [&](Gpu& g) { return *context = reinterpret_cast<CUcontext>(&g), kSuccess; });
}
EXPORT cuDevicePrimaryCtxRelease(CUdevice) {
  return entry("cuDevicePrimaryCtxRelease", [&](Gpu&) { return kSuccess; });
}
EXPORT cuCtxSetCurrent(CUcontext) {
  return entry("cuCtxSetCurrent", [&](Gpu&) { return kSuccess; });
}
EXPORT cuMemGetInfo(size_t* free, size_t* total) {
  return entry("cuMemGetInfo",
               [&](Gpu& g) { return *total = g.arena->capacity(), *free = *total - g.arena->used(), kSuccess; });
}
EXPORT cuMemAlloc(CUdeviceptr* address, size_t bytes) {
  return entry("cuMemAlloc",
               [&](Gpu& g) { return *address = g.arena->allocate(bytes), bytes > 0 ? kSuccess : kInvalidValue; });
}
EXPORT cuMemFree(CUdeviceptr address) {
  return entry("cuMemFree", [&](Gpu& g) { return g.arena->release(address), kSuccess; });
}
EXPORT cuMemHostAlloc(void** memory, size_t bytes, unsigned int) {
  return entry("cuMemHostAlloc",
               [&](Gpu&) { return *memory = std::malloc(bytes), *memory != nullptr ? kSuccess : kOutOfMemory; });
}
EXPORT cuMemFreeHost(void* memory) {
  return entry("cuMemFreeHost", [&](Gpu&) { return std::free(memory), kSuccess; });
}
EXPORT cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return entry("cuMemcpyHtoDAsync", [&](Gpu& g) {
    return enqueue(stream, [&g, to, from, bytes] { return g.arena->write(to, from, bytes), kSuccess; });
  });
}
EXPORT cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return entry("cuMemcpyDtoHAsync", [&](Gpu& g) {
    return enqueue(stream, [&g, to, from, bytes] { return g.arena->read(to, from, bytes), kSuccess; });
  });
}
EXPORT cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return entry("cuMemcpyDtoDAsync", [&](Gpu& g) {
    return enqueue(stream, [&g, to, from, bytes] {
      std::vector<uint8_t> between(bytes);
      g.arena->read(between.data(), from, bytes);
      g.arena->write(to, between.data(), bytes);
      return kSuccess;
    });
  });
}
EXPORT cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream) {
  return entry("cuMemsetD8Async", [&](Gpu& g) {
    return enqueue(stream, [&g, to, value, bytes] {
      const std::vector<uint8_t> all(bytes, value);
      return g.arena->write(to, all.data(), bytes), kSuccess;
    });
  });
}
EXPORT cuStreamCreate(CUstream* stream, unsigned int) {
  return entry("cuStreamCreate", [&](Gpu&) { return *stream = new CUstream_st, kSuccess; });
}
EXPORT cuStreamDestroy(CUstream stream) {
  return entry("cuStreamDestroy", [&](Gpu&) {
    if (stream == capturing) capturing = nullptr;
    drain(stream);
    delete stream;
    return kSuccess;
  });
}
EXPORT cuStreamSynchronize(CUstream stream) {
  return entry("cuStreamSynchronize", [&](Gpu&) { return drain(stream); });
}
EXPORT cuEventCreate(CUevent* event, unsigned int) {
  return entry("cuEventCreate", [&](Gpu&) { return *event = new CUevent_st, kSuccess; });
}
EXPORT cuEventDestroy(CUevent event) {
  return entry("cuEventDestroy", [&](Gpu&) {
    delete event;
    return kSuccess;
  });
}
EXPORT cuEventRecord(CUevent event, CUstream stream) {
  return entry("cuEventRecord", [&](Gpu&) {
    auto happened = std::make_shared<bool>(false);
    event->stream = stream;
    event->happened = happened;
    return enqueue(stream, [happened] { return *happened = true, kSuccess; });
  });
}
// Until an event: its stream goes on as far as that, and no further.
static CUresult wait_for(CUevent event, const std::shared_ptr<bool>& happened) {
  Gpu& g = gpu();
  while (!*happened && g.broken == kSuccess && event->stream != nullptr && !event->stream->waiting.empty()) {
    const Work work = std::move(event->stream->waiting.front());
    event->stream->waiting.pop_front();
    g.broken = work();
  }
  return g.broken;
}
EXPORT cuEventQuery(CUevent event) {
  return entry("cuEventQuery", [&](Gpu& g) {
    return g.broken != kSuccess ? g.broken : *event->happened ? kSuccess : kNotReady;
  });
}
EXPORT cuEventSynchronize(CUevent event) {
  return entry("cuEventSynchronize", [&](Gpu&) { return wait_for(event, event->happened); });
}
EXPORT cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int) {
  return entry("cuStreamWaitEvent", [&](Gpu&) {
    const std::shared_ptr<bool> happened = event->happened;
    return enqueue(stream, [event, happened] { return wait_for(event, happened); });
  });
}
EXPORT cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode) {
  return entry("cuStreamBeginCapture", [&](Gpu&) {
    if (stream == nullptr || stream->capture || capturing != nullptr) return kInvalidHandle;
    stream->capture = std::make_unique<CUgraph_st>();
    capturing = stream;
    return kSuccess;
  });
}
EXPORT cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return entry("cuStreamEndCapture", [&](Gpu&) {
    *graph = nullptr;
    if (!stream->capture || stream != capturing) return kInvalidHandle;
    capturing = nullptr;
    const std::unique_ptr<CUgraph_st> captured = std::move(stream->capture);
    if (!captured->valid) return kCaptureInvalidated;
    return *graph = new CUgraph_st(*captured), kSuccess;
  });
}
EXPORT cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  return entry("cuGraphInstantiateWithFlags",
               [&](Gpu&) { return *executable = new CUgraphExec_st{graph->work}, kSuccess; });
}
EXPORT cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  return entry("cuGraphLaunch", [&](Gpu&) {
    CUresult result = kSuccess;
    for (const Work& work : executable->work) result = result == kSuccess ? enqueue(stream, work) : result;
    return result;
  });
}
EXPORT cuGraphExecDestroy(CUgraphExec executable) {
  return entry("cuGraphExecDestroy", [&](Gpu&) {
    delete executable;
    return kSuccess;
  });
}
EXPORT cuGraphDestroy(CUgraph graph) {
  return entry("cuGraphDestroy", [&](Gpu&) {
    delete graph;
    return kSuccess;
  });
}
EXPORT cuModuleLoadData(CUmodule* module, const void* image) {
  return entry("cuModuleLoadData", [&](Gpu& g) {
    const std::string text = ptx::ptx_of_image(image);
    if (text.empty()) return kInvalidImage;
    *module = new CUmod_st{std::make_unique<ptx::Program>(*g.arena, text)};
    return kSuccess;
  });
}
EXPORT cuModuleUnload(CUmodule module) {
  return entry("cuModuleUnload", [&](Gpu&) {
    delete module;
    return kSuccess;
  });
}
EXPORT cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return entry("cuModuleGetFunction", [&](Gpu& g) {
    for (const std::string& known : module->program->kernels()) {
      if (known != name) continue;
      g.functions.push_back(std::make_unique<CUfunc_st>());
      *function = g.functions.back().get();
      (*function)->kernel = &module->program->kernel(name);
      (*function)->module = module;
      return kSuccess;
    }
    return kNotFound;
  });
}
EXPORT cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  return entry("cuFuncSetAttribute", [&](Gpu&) {
    if (attribute != kMaxDynamicShared || value < 0 || static_cast<size_t>(value) > kSharedPerBlock)
      return kInvalidValue;
    function->allowed_shared = static_cast<size_t>(value);
    return kSuccess;
  });
}
EXPORT cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                      unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
                      CUstream stream, void** parameters, void** extra) {
  return entry("cuLaunchKernel", [&](Gpu&) -> CUresult {
    const ptx::Kernel& kernel = *function->kernel;
    if (extra != nullptr || shared_bytes > function->allowed_shared || grid_x == 0 || grid_y == 0 || grid_z == 0 ||
        grid_y > 65535 || grid_z > 65535 || grid_x > INT32_MAX)
      return kInvalidValue;
    std::vector<std::vector<uint8_t>> arguments;
    for (size_t i = 0; i < kernel.params.size(); i++) {
      const uint8_t* bytes = static_cast<const uint8_t*>(parameters[i]);
      arguments.emplace_back(bytes, bytes + kernel.params[i].bytes);
    }
    const ptx::Launch launch = function->module->program->launch_of(
        kernel.name, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, arguments);
    return enqueue(stream, [launch] { return run(launch); });
  });
}

EXPORT cuGetProcAddress(const char* symbol, void** function, int, uint64_t) {
  *function = nullptr;
  if (gpu().settings.hide == symbol) return kNotFound;
#define OCELLI_CU(name, version, parameters) \
  if (std::strcmp(symbol, #name) == 0) *function = reinterpret_cast<void*>(static_cast<CUresult(*) parameters>(&name));
#include "cuda/driver.def"
#undef OCELLI_CU
  return *function != nullptr ? kSuccess : kNotFound;
}
