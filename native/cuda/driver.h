// NVIDIA's driver, found when it is asked for: no library of CUDA is linked, none is needed to run on a CPU.
#pragma once

#include <string>

#include "cuda/driver_types.h"

namespace ocelli {
namespace cuda {

struct Driver {
#define OCELLI_CU(name, version, parameters) CUresult(*name) parameters = nullptr;
#include "cuda/driver.def"
#undef OCELLI_CU
};

// The oldest driver that takes what nvcc 13 makes, machine code or PTX: an older one fails when modules are loaded.
constexpr int kOldestDriver = 13000;

// Loads libcuda.so.1, or with `path` another library of its shape, and initialises it. Throws ERR_CUDA_DRIVER, saying
// what is missing (the library, an entry point, a device) or too old; never more than once per process and path.
const Driver& load_driver(const std::string& path = {});

// Throws ERR_OUT_OF_MEMORY for that, else ERR_CUDA with the driver's name of the error and what was being done.
void check(const Driver& driver, CUresult result, const char* what);

}  // namespace cuda
}  // namespace ocelli
