// Compiled, never run: the driver's entry points as cuda/driver.def declares them, held against NVIDIA's cuda.h.
#include <cuda.h>

#include <type_traits>

#define OCELLI_CU(name, version, parameters) \
  static_assert(std::is_same<decltype(&name), CUresult(CUDAAPI*) parameters>::value, #name " differs from cuda.h's");
#include "cuda/driver.def"
#undef OCELLI_CU

// driver_types.h calls these by the same values and sizes.
static_assert(sizeof(CUresult) == 4 && sizeof(CUdevice) == 4 && sizeof(CUdeviceptr) == 8 && sizeof(CUcontext) == 8,
              "sizes");
static_assert(sizeof(CUdevice_attribute) == 4 && sizeof(CUfunction_attribute) == 4 && sizeof(CUstreamCaptureMode) == 4,
              "sizes");
static_assert(CUDA_SUCCESS == 0 && CUDA_ERROR_INVALID_VALUE == 1 && CUDA_ERROR_OUT_OF_MEMORY == 2 &&
                  CUDA_ERROR_NOT_INITIALIZED == 3,
              "errors");
static_assert(CUDA_ERROR_NO_DEVICE == 100 && CUDA_ERROR_INVALID_DEVICE == 101 && CUDA_ERROR_INVALID_IMAGE == 200,
              "errors");
static_assert(CUDA_ERROR_INVALID_HANDLE == 400 && CUDA_ERROR_NOT_FOUND == 500 && CUDA_ERROR_NOT_READY == 600, "errors");
static_assert(CUDA_ERROR_ILLEGAL_ADDRESS == 700 && CUDA_ERROR_MISALIGNED_ADDRESS == 716 &&
                  CUDA_ERROR_LAUNCH_FAILED == 719,
              "errors");
static_assert(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT == 16 && CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR == 75,
              "attributes");
static_assert(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR == 76 &&
                  CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN == 97,
              "attributes");
static_assert(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES == 8 && CU_STREAM_NON_BLOCKING == 1 &&
                  CU_EVENT_DISABLE_TIMING == 2,
              "flags");
static_assert(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL == 1 && CU_MEMHOSTALLOC_PORTABLE == 1, "flags");
