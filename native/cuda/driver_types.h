// The driver's types, under its own names, for builds without cuda.h.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {
typedef int CUresult;
typedef int CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUgraph_st* CUgraph;
typedef struct CUgraphExec_st* CUgraphExec;
typedef int CUdevice_attribute;
typedef int CUfunction_attribute;
typedef int CUstreamCaptureMode;
}

namespace ocelli {
namespace cuda {

// The values that are used, from cuda.h.
enum : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kMisalignedAddress = 716,
  kLaunchFailed = 719,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
};
enum : int {
  kClock = 13,              // CU_DEVICE_ATTRIBUTE_CLOCK_RATE, kHz
  kMultiprocessors = 16,    // CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
  kMemoryClock = 36,        // CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, kHz
  kMemoryBus = 37,          // CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, bits
  kCache = 38,              // CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE
  kCapabilityMajor = 75,    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
  kCapabilityMinor = 76,    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
  kSharedOptin = 97,        // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
  kMaxDynamicShared = 8,    // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
  kNonBlockingStream = 1,   // CU_STREAM_NON_BLOCKING
  kEventWithoutTiming = 2,  // CU_EVENT_DISABLE_TIMING
  kCaptureThreadLocal = 1,  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
  kPortableHostMemory = 1,  // CU_MEMHOSTALLOC_PORTABLE
};

}  // namespace cuda
}  // namespace ocelli
