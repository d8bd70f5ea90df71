#include "cuda/device.h"

namespace ocelli {
namespace cuda {

Device::Device(const Driver& driver, int ordinal, ImageOf image_of) : driver_(driver), image_of_(image_of) {
  int count = 0, major = 0, minor = 0;
  check(driver_, driver_.cuDeviceGetCount(&count), "counting devices");
  if (ordinal < 0 || ordinal >= count) {
    throw Error("ERR_CUDA_DRIVER", "Expected a GPU from 0 to " + std::to_string(count - 1) +
                                       " for device 'cuda' but received " + std::to_string(ordinal));
  }
  check(driver_, driver_.cuDeviceGet(&device_, ordinal), "opening a device");
  char name[128] = {};
  check(driver_, driver_.cuDeviceGetName(name, sizeof name - 1, device_), "reading a device's name");
  name_ = name;
  check(driver_, driver_.cuDeviceGetAttribute(&major, kCapabilityMajor, device_), "reading a device's attributes");
  check(driver_, driver_.cuDeviceGetAttribute(&minor, kCapabilityMinor, device_), "reading a device's attributes");
  if (major < 8) {
    throw Error("ERR_CUDA_DRIVER",
                "Expected a GPU of compute capability 8.0 or newer for device 'cuda' but received " + name_ + " of " +
                    std::to_string(major) + "." + std::to_string(minor),
                "Choose device 'cpu'.");
  }
  check(driver_, driver_.cuDevicePrimaryCtxRetain(&context_, device_), "opening a context");
  enter();
  check(driver_, driver_.cuStreamCreate(&stream_, kNonBlockingStream), "creating a stream");
}

Device::~Device() {
  driver_.cuCtxSetCurrent(context_);
  driver_.cuStreamSynchronize(stream_);
  for (const auto& entry : modules_) driver_.cuModuleUnload(entry.second);
  driver_.cuStreamDestroy(stream_);
  driver_.cuDevicePrimaryCtxRelease(device_);
}

void Device::enter() const { check(driver_, driver_.cuCtxSetCurrent(context_), "entering a context"); }

size_t Device::free_bytes() const {
  enter();
  size_t free = 0, total = 0;
  check(driver_, driver_.cuMemGetInfo(&free, &total), "asking for free memory");
  return free;
}

CUdeviceptr Device::allocate(size_t bytes) {
  enter();
  CUdeviceptr address = 0;
  check(driver_, driver_.cuMemAlloc(&address, bytes), ("an allocation of " + std::to_string(bytes) + " bytes").c_str());
  return address;
}

void Device::release(CUdeviceptr address) {
  enter();
  check(driver_, driver_.cuMemFree(address), "a release of memory");
}

void* Device::allocate_host(size_t bytes) {
  enter();
  void* memory = nullptr;
  check(driver_, driver_.cuMemHostAlloc(&memory, bytes, kPortableHostMemory),
        ("pinning " + std::to_string(bytes) + " bytes").c_str());
  return memory;
}

void Device::release_host(void* memory) {
  enter();
  check(driver_, driver_.cuMemFreeHost(memory), "a release of pinned memory");
}

void Device::upload(CUdeviceptr to, const void* from, size_t bytes) {
  enter();
  check(driver_, driver_.cuMemcpyHtoDAsync(to, from, bytes, stream_), "a copy to the GPU");
}

void Device::download(void* to, CUdeviceptr from, size_t bytes) {
  enter();
  check(driver_, driver_.cuMemcpyDtoHAsync(to, from, bytes, stream_), "a copy from the GPU");
}

void Device::copy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  enter();
  check(driver_, driver_.cuMemcpyDtoDAsync(to, from, bytes, stream_), "a copy on the GPU");
}

void Device::clear(CUdeviceptr to, size_t bytes) {
  enter();
  check(driver_, driver_.cuMemsetD8Async(to, 0, bytes, stream_), "clearing memory");
}

CUfunction Device::function(const std::string& module, const std::string& kernel, size_t dynamic_shared) {
  Function& found = functions_[module + "/" + kernel];
  if (found.handle == nullptr) {
    CUmodule& loaded = modules_[module];
    if (loaded == nullptr) {
      const void* image = image_of_(module.c_str());
      if (image == nullptr) throw Error("ERR_CUDA", "Expected machine code of '" + module + "' but received none");
      check(driver_, driver_.cuModuleLoadData(&loaded, image), ("loading " + module).c_str());
    }
    check(driver_, driver_.cuModuleGetFunction(&found.handle, loaded, kernel.c_str()), ("finding " + kernel).c_str());
  }
  // More than 48 KiB has to be asked for.
  if (dynamic_shared > 48 * 1024 && dynamic_shared > found.dynamic_shared) {
    check(driver_, driver_.cuFuncSetAttribute(found.handle, kMaxDynamicShared, static_cast<int>(dynamic_shared)),
          ("shared memory for " + kernel).c_str());
    found.dynamic_shared = dynamic_shared;
  }
  return found.handle;
}

void Device::launch(const char* module, const char* kernel, Extent grid, Extent block, size_t dynamic_shared,
                    const Arguments& arguments) {
  launch(stream_, module, kernel, grid, block, dynamic_shared, arguments);
}

void Device::launch(CUstream stream, const char* module, const char* kernel, Extent grid, Extent block,
                    size_t dynamic_shared, const Arguments& arguments) {
  enter();
  std::vector<void*> parameters;
  for (const std::vector<uint8_t>& value : arguments.values()) parameters.push_back(const_cast<uint8_t*>(value.data()));
  check(driver_,
        driver_.cuLaunchKernel(function(module, kernel, dynamic_shared), grid.x, grid.y, grid.z, block.x, block.y,
                               block.z, static_cast<unsigned>(dynamic_shared), stream, parameters.data(), nullptr),
        ("a launch of " + std::string(kernel)).c_str());
}

void Device::synchronize() {
  enter();
  check(driver_, driver_.cuStreamSynchronize(stream_), "the work so far");
}

void Device::replay(CUgraphExec graph) {
  enter();
  check(driver_, driver_.cuGraphLaunch(graph, stream_), "a launch of a graph");
}

void Device::release(CUgraphExec graph) {
  enter();
  check(driver_, driver_.cuGraphExecDestroy(graph), "a release of a graph");
}

Capture::Capture(Device& device) : device_(device) {
  const Driver& driver = device_.driver_;
  device_.enter();
  check(driver, driver.cuStreamCreate(&stream_, kNonBlockingStream), "creating a stream");
  const CUresult result = driver.cuStreamBeginCapture(stream_, kCaptureThreadLocal);
  if (result != kSuccess) driver.cuStreamDestroy(stream_);
  check(driver, result, "the beginning of a graph");
}

Capture::~Capture() {
  device_.driver_.cuCtxSetCurrent(device_.context_);
  device_.driver_.cuStreamDestroy(stream_);
}

CUgraphExec Capture::end() {
  const Driver& driver = device_.driver_;
  device_.enter();
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  check(driver, driver.cuStreamEndCapture(stream_, &graph), "the end of a graph");
  const CUresult result = driver.cuGraphInstantiateWithFlags(&executable, graph, 0);
  driver.cuGraphDestroy(graph);
  check(driver, result, "the making of a graph");
  return executable;
}

}  // namespace cuda
}  // namespace ocelli
