// The driver's names of the errors that the stand-in returns.
#pragma once

#include "cuda/driver_types.h"

namespace ocelli {
namespace ptx {

// Null for an error that is none of these.
inline const char* error_name(CUresult error) {
  switch (error) {
    case cuda::kSuccess:
      return "CUDA_SUCCESS";
    case cuda::kInvalidValue:
      return "CUDA_ERROR_INVALID_VALUE";
    case cuda::kOutOfMemory:
      return "CUDA_ERROR_OUT_OF_MEMORY";
    case cuda::kNotInitialized:
      return "CUDA_ERROR_NOT_INITIALIZED";
    case cuda::kNoDevice:
      return "CUDA_ERROR_NO_DEVICE";
    case cuda::kInvalidDevice:
      return "CUDA_ERROR_INVALID_DEVICE";
    case cuda::kInvalidImage:
      return "CUDA_ERROR_INVALID_IMAGE";
    case cuda::kInvalidHandle:
      return "CUDA_ERROR_INVALID_HANDLE";
    case cuda::kNotFound:
      return "CUDA_ERROR_NOT_FOUND";
    case cuda::kNotReady:
      return "CUDA_ERROR_NOT_READY";
    case cuda::kIllegalAddress:
      return "CUDA_ERROR_ILLEGAL_ADDRESS";
    case cuda::kMisalignedAddress:
      return "CUDA_ERROR_MISALIGNED_ADDRESS";
    case cuda::kLaunchFailed:
      return "CUDA_ERROR_LAUNCH_FAILED";
    case cuda::kNotSupported:
      return "CUDA_ERROR_NOT_SUPPORTED";
    case cuda::kCaptureUnsupported:
      return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case cuda::kCaptureInvalidated:
      return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    default:
      return nullptr;
  }
}

}  // namespace ptx
}  // namespace ocelli
