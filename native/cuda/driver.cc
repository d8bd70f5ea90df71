#include "cuda/driver.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>

#include "core/check.h"

namespace ocelli {
namespace cuda {
namespace {

constexpr const char* kRemedy = "Install NVIDIA's driver 580 or newer, or choose device 'cpu'.";

// cuGetProcAddress in its form of CUDA 11.3: symbol, where to, version, flags.
using GetProcAddress = CUresult (*)(const char*, void**, int, uint64_t);

std::unique_ptr<Driver> open(const std::string& path) {
  const std::string name = path.empty() ? "libcuda.so.1" : path;
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Error("ERR_CUDA_DRIVER", "Expected NVIDIA's driver (" + name + ") for device 'cuda' but received none",
                kRemedy);
  }
  const auto get = reinterpret_cast<GetProcAddress>(dlsym(library, "cuGetProcAddress"));
  auto driver = std::make_unique<Driver>();
  const auto find = [&](const char* symbol, int version, void** to) {
    if (get != nullptr && get(symbol, to, version, 0) == kSuccess && *to != nullptr) return;
    throw Error("ERR_CUDA_DRIVER",
                std::string("Expected ") + symbol + " in " + name + " but received none: the driver is too old",
                kRemedy);
  };
#define OCELLI_CU(entry, version, parameters) find(#entry, version, reinterpret_cast<void**>(&driver->entry));
#include "cuda/driver.def"
#undef OCELLI_CU
  int version = 0, devices = 0;
  driver->cuDriverGetVersion(&version);
  if (version < kOldestDriver) {
    throw Error("ERR_CUDA_DRIVER",
                "Expected a driver for CUDA " + std::to_string(kOldestDriver / 1000) +
                    " or newer but received one for CUDA " + std::to_string(version / 1000) + "." +
                    std::to_string(version % 1000 / 10),
                kRemedy);
  }
  const CUresult result = driver->cuInit(0);
  if (result != kSuccess || driver->cuDeviceGetCount(&devices) != kSuccess || devices == 0) {
    throw Error("ERR_CUDA_DRIVER", "Expected an NVIDIA GPU for device 'cuda' but received none",
                "Choose device 'cpu'.");
  }
  return driver;
}

}  // namespace

const Driver& load_driver(const std::string& path) {
  // Nothing is destroyed at exit, when threads may be alive.
  static std::mutex& mutex = *new std::mutex;
  static auto& loaded = *new std::map<std::string, std::unique_ptr<Driver>>;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<Driver>& driver = loaded[path];
  if (!driver) driver = open(path);
  return *driver;
}

void check(const Driver& driver, CUresult result, const char* what) {
  if (result == kSuccess) return;
  const char* name = nullptr;
  driver.cuGetErrorName(result, &name);
  throw Error(result == kOutOfMemory ? "ERR_OUT_OF_MEMORY" : "ERR_CUDA",
              std::string("Expected ") + what + " to succeed on the GPU but received " +
                  (name != nullptr ? name : std::to_string(result).c_str()));
}

}  // namespace cuda
}  // namespace ocelli
