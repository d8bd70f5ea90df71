// The backend's own dealings with a driver, on the stand-in: loading, memory, copies, launches, graphs, and everything
// that goes wrong.
#include "cuda/driver.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <thread>

#include "cuda/device.h"
#include "ptx/test/ops.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

std::string standin() { return build_folder() + "/libocelli_standin.so"; }

std::map<std::string, std::string>& images() {
  static std::map<std::string, std::string> loaded;
  return loaded;
}
const void* image_of(const char* name) {
  std::string& image = images()[name];
  if (image.empty()) image = read_ptx(name);
  return image.c_str();
}
const void* fatbin_of(const char* name) {
  std::string& image = images()[std::string(name) + ".fatbin"];
  if (image.empty()) image = read_file(ptx_folder() + "/" + name + ".fatbin");
  return image.data();
}

Tensor on_device(cuda::Device& device, const Both& both) {
  const CUdeviceptr address = device.allocate(both.plain.size());
  device.upload(address, both.plain.data(), both.plain.size());
  return view(both, reinterpret_cast<void*>(address), both.dtype);
}

// add on the device: a becomes a + b.
void add(cuda::Queue& queue, Tensor* operands) {
  static const Attrs attrs;
  OpCall call;
  call.attrs = &attrs;
  call.in = operands;
  call.inputs = 2;
  call.out = operands;
  call.outputs = 1;
  cuda::current_queue() = &queue;
  cuda::add.run(call);
}

void fails(const char* what, const std::string& got, const std::string& expected) {
  expect(got.find(expected) != std::string::npos,
         std::string(what) + ": expected '" + expected + "' but received '" + got + "'");
}

template <class F>
CUgraphExec captured(cuda::Device& device, F launches) {
  cuda::Capture capture(device);
  launches(capture);
  return capture.end();
}

void runs(cuda::ImageOf image) {
  cuda::Device device(cuda::load_driver(standin()), 0, image);
  expect(device.name() == "PTX emulator", "the device's name");
  const size_t before = device.free_bytes();
  const Both a = noise({3, 100}, 1), b = noise({3, 100}, 2);
  Tensor operands[2] = {on_device(device, a), on_device(device, b)};
  add(device, operands);
  float* back = static_cast<float*>(device.allocate_host(a.plain.size()));
  std::fill(back, back + 300, -1.f);
  device.download(back, reinterpret_cast<CUdeviceptr>(operands[0].data), a.plain.size());
  expect(back[0] == -1, "nothing has arrived before the wait");
  device.synchronize();
  bool right = true;
  for (int i = 0; i < 300; i++) right = right && back[i] == a.values[i] + b.values[i];
  expect(right, "an op through the driver");

  // A graph of two additions, launched twice: four more.
  const CUgraphExec graph = captured(device, [&](cuda::Queue& queue) {
    add(queue, operands);
    add(queue, operands);
  });
  device.replay(graph);
  device.replay(graph);
  device.download(back, reinterpret_cast<CUdeviceptr>(operands[0].data), a.plain.size());
  device.synchronize();
  float expected = a.values[7];
  for (int i = 0; i < 5; i++) expected += b.values[7];
  expect(back[7] == expected, "a graph launched twice");
  device.release(graph);
  device.clear(reinterpret_cast<CUdeviceptr>(operands[0].data), a.plain.size());
  device.download(back, reinterpret_cast<CUdeviceptr>(operands[0].data), a.plain.size());
  device.synchronize();
  expect(back[299] == 0, "cleared memory");
  device.release_host(back);
  for (const Tensor& operand : operands) device.release(reinterpret_cast<CUdeviceptr>(operand.data));
  expect(device.free_bytes() == before, "all memory comes back");
  tally().kernels.insert("add");
  tally().instances++;
}

// What one thread captures is not what others do meanwhile, and what may wait for the GPU ends it.
void captures() {
  cuda::Device device(cuda::load_driver(standin()), 0, image_of);
  const Both a = noise({3, 100}, 1), b = noise({3, 100}, 2);
  Tensor operands[2] = {on_device(device, a), on_device(device, b)};
  add(device, operands);  // its module is there then
  device.synchronize();
  const CUdeviceptr to = reinterpret_cast<CUdeviceptr>(operands[0].data);
  const CUgraphExec graph = captured(device, [&](cuda::Queue& queue) {
    std::thread([&] {
      device.upload(to, a.plain.data(), a.plain.size());
      device.synchronize();
    }).join();
    add(queue, operands);
  });
  std::vector<float> back(300);
  const auto read = [&] {
    device.download(back.data(), to, back.size() * sizeof(float));
    device.synchronize();
    return back[7];
  };
  expect(read() == a.values[7], "what another thread copied while this one captured");
  device.replay(graph);
  expect(read() == a.values[7] + b.values[7], "and a graph without it");
  device.release(graph);
  const auto code_of = [](const std::function<void()>& work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string ended = code_of([&] {
    captured(device, [&](cuda::Queue&) {
      fails("an allocation", code_of([&] { device.allocate(64); }), "STREAM_CAPTURE_UNSUPPORTED");
    });
  });
  fails("a capture in which memory was allocated", ended, "STREAM_CAPTURE_INVALIDATED");
  for (const Tensor& operand : operands) device.release(reinterpret_cast<CUdeviceptr>(operand.data));
}

// Two streams and an event between them: what waits for the event sees what came before it, and a query never makes
// work go on.
void events() {
  const cuda::Driver& driver = cuda::load_driver(standin());
  cuda::Device device(driver, 0, image_of);
  CUstream first = nullptr, second = nullptr;
  CUevent event = nullptr;
  driver.cuStreamCreate(&first, cuda::kNonBlockingStream);
  driver.cuStreamCreate(&second, cuda::kNonBlockingStream);
  driver.cuEventCreate(&event, cuda::kEventWithoutTiming);
  const CUdeviceptr a = device.allocate(64), b = device.allocate(64);
  std::vector<uint8_t> back(64);
  driver.cuMemsetD8Async(a, 7, 64, first);
  driver.cuEventRecord(event, first);
  driver.cuMemsetD8Async(a, 9, 64, first);
  expect(driver.cuEventQuery(event) == cuda::kNotReady, "an event that has not happened");
  driver.cuStreamWaitEvent(second, event, 0);
  driver.cuMemcpyDtoDAsync(b, a, 64, second);
  driver.cuMemcpyDtoHAsync(back.data(), b, 64, second);
  expect(driver.cuStreamSynchronize(second) == cuda::kSuccess && back == std::vector<uint8_t>(64, 7),
         "a stream that waits for another's event");
  expect(driver.cuEventQuery(event) == cuda::kSuccess && driver.cuEventSynchronize(event) == cuda::kSuccess,
         "an event that has happened");
  driver.cuEventDestroy(event);
  driver.cuStreamDestroy(first);
  driver.cuStreamDestroy(second);
  device.release(a);
  device.release(b);
}

// The error that `body` ends with, "code: message", in a process of its own: a driver is loaded once.
std::string failure(const char* settings, const std::string& library, void (*body)(const cuda::Driver&)) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    setenv("OCELLI_EMULATED", settings, 1);
    if (freopen("/dev/null", "w", stderr) == nullptr) _exit(1);
    std::string text = "no error";
    try {
      body(cuda::load_driver(library));
    } catch (const Error& error) {
      text = error.code() + ": " + error.what();
    }
    const bool written = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string text(4096, 0);
  const ssize_t length = read(ends[0], text.data(), text.size());
  text.resize(length > 0 ? static_cast<size_t>(length) : 0);
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return text;
}

void open_device(const cuda::Driver& driver) { cuda::Device device(driver, 0, image_of); }
void add_once(const cuda::Driver& driver) {
  cuda::Device device(driver, 0, image_of);
  const Both a = noise({4, 64}, 1);
  Tensor operands[2] = {on_device(device, a), on_device(device, a)};
  add(device, operands);
  device.synchronize();
}
void read_too_far(const cuda::Driver& driver) {
  cuda::Device device(driver, 0, image_of);
  const Both a = noise({4, 64}, 1);
  Tensor operands[2] = {on_device(device, a), on_device(device, a)};
  operands[0].shape[0] = operands[1].shape[0] = 5;
  add(device, operands);
  device.synchronize();
}
void second_device(const cuda::Driver& driver) { cuda::Device device(driver, 1, image_of); }
void no_image(const cuda::Driver& driver) {
  cuda::Device device(driver, 0, [](const char*) -> const void* { return "not PTX"; });
  const Both a = noise({4, 64}, 1);
  Tensor operands[2] = {on_device(device, a), on_device(device, a)};
  add(device, operands);
}

void failures() {
  fails("no library", failure("", "libnothere.so.1", open_device),
        "ERR_CUDA_DRIVER: Expected NVIDIA's driver (libnothere.so.1)");
  fails("a library that is no driver", failure("", "libm.so.6", open_device),
        "ERR_CUDA_DRIVER: Expected cuInit in libm.so.6");
  fails("an old driver, by its version", failure("version=12080", standin(), open_device),
        "ERR_CUDA_DRIVER: Expected a driver for CUDA 13 or newer but received one for CUDA 12.8");
  fails("an old driver, by what it lacks", failure("hide=cuGraphInstantiateWithFlags", standin(), open_device),
        "ERR_CUDA_DRIVER: Expected cuGraphInstantiateWithFlags in ");
  fails("no GPU", failure("devices=0", standin(), open_device), "ERR_CUDA_DRIVER: Expected an NVIDIA GPU");
  fails("an old GPU", failure("capability=75", standin(), open_device),
        "ERR_CUDA_DRIVER: Expected a GPU of compute capability 8.0");
  fails("a device that is not there", failure("", standin(), second_device),
        "ERR_CUDA_DRIVER: Expected a GPU from 0 to 0");
  fails("out of memory", failure("memory=1500", standin(), add_once),
        "ERR_OUT_OF_MEMORY: Expected an allocation of 1024 bytes");
  fails("a fault of the driver", failure("fail=cuLaunchKernel:1:719", standin(), add_once), "CUDA_ERROR_LAUNCH_FAILED");
  fails("a fault that shows later", failure("", standin(), read_too_far),
        "ERR_CUDA: Expected the work so far to succeed on the GPU but received CUDA_ERROR_ILLEGAL_ADDRESS");
  fails("a module that is none", failure("", standin(), no_image), "CUDA_ERROR_INVALID_IMAGE");
  fails("nothing wrong", failure("", standin(), add_once), "no error");
}

void body() {
  failures();
  runs(image_of);
  runs(fatbin_of);
  captures();
  events();
}

}  // namespace

int main(int argc, char** argv) { return run_test("driver", argc, argv, body); }
