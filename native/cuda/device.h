// One GPU: its memory, one stream, and the kernels that are loaded on it. A queue of launches that goes to the driver.
#pragma once

#include <map>
#include <string>

#include "cuda/driver.h"
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

// The machine code of the module `name` (a fat binary, or PTX), or null where there is none.
using ImageOf = const void* (*)(const char* name);

class Device : public Queue {
 public:
  // Throws ERR_CUDA_DRIVER for a GPU that is not there or older than Ampere (compute capability 8.0).
  Device(const Driver& driver, int ordinal, ImageOf image_of);
  ~Device() override;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const std::string& name() const { return name_; }
  CUstream stream() const { return stream_; }
  size_t free_bytes() const;

  CUdeviceptr allocate(size_t bytes);  // throws ERR_OUT_OF_MEMORY
  void release(CUdeviceptr address);
  // Pinned: copies from and to it overlap with the host's work.
  void* allocate_host(size_t bytes);
  void release_host(void* memory);

  // In the stream's order; the host's side must stay as it is until synchronize().
  void upload(CUdeviceptr to, const void* from, size_t bytes);
  void download(void* to, CUdeviceptr from, size_t bytes);
  void copy(CUdeviceptr to, CUdeviceptr from, size_t bytes);
  void clear(CUdeviceptr to, size_t bytes);
  void launch(const char* module, const char* kernel, Extent grid, Extent block, size_t dynamic_shared,
              const Arguments& arguments) override;
  // Waits for everything so far. Throws ERR_CUDA for what went wrong in it.
  void synchronize();

  // Launches the graph of a Capture, at once.
  void replay(CUgraphExec graph);
  void release(CUgraphExec graph);

 private:
  friend class Capture;
  void launch(CUstream stream, const char* module, const char* kernel, Extent grid, Extent block,
              size_t dynamic_shared, const Arguments& arguments);
  CUfunction function(const std::string& module, const std::string& kernel, size_t dynamic_shared);
  void enter() const;  // makes the GPU's context that of this thread

  const Driver& driver_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  ImageOf image_of_;
  std::string name_;
  std::map<std::string, CUmodule> modules_;
  struct Function {
    CUfunction handle = nullptr;
    size_t dynamic_shared = 0;  // as far as it is allowed so far
  };
  std::map<std::string, Function> functions_;
};

// Launches that become a graph instead of running. On a stream of its own: what other threads do with the device at the
// same time is not among them. Each was launched before, since modules cannot be loaded meanwhile.
class Capture : public Queue {
 public:
  explicit Capture(Device& device);
  ~Capture() override;
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  void launch(const char* module, const char* kernel, Extent grid, Extent block, size_t dynamic_shared,
              const Arguments& arguments) override {
    device_.launch(stream_, module, kernel, grid, block, dynamic_shared, arguments);
  }
  CUgraphExec end();

 private:
  Device& device_;
  CUstream stream_ = nullptr;
};

}  // namespace cuda
}  // namespace ocelli
