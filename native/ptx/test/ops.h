// One op on the CUDA kernels in the emulator and on the reference: the same call, once on device memory and once on the
// host's.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>

#include "core/convert.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "ptx/test/support.h"

namespace ocelli {
namespace cuda {
#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP
extern const Backend backend;
}  // namespace cuda

namespace ptx {

// The GPU that tests run on where a driver's library was named: libcuda, or the emulator in its shape. Modules are the
// fat binaries that ship, where the folder has them.
inline cuda::Device& gpu() {
  static cuda::Device device(cuda::load_driver(driver_library()), 0, [](const char* name) -> const void* {
    static std::map<std::string, std::string> images;
    std::string& image = images[name];
    const std::string fatbin = ptx_folder() + "/" + name + ".fatbin";
    if (image.empty()) image = std::ifstream(fatbin) ? read_file(fatbin) : read_ptx(name);
    return image.c_str();
  });
  return device;
}

// Device memory: the emulator's, or a GPU's.
class Memory {
 public:
  ~Memory() {
    for (const Address address : on_gpu_) gpu().release(address);
  }
  Address allocate(size_t bytes) {
    if (driver_library().empty()) return emulated.allocate(bytes);
    on_gpu_.push_back(gpu().allocate(bytes > 0 ? bytes : 1));
    return on_gpu_.back();
  }
  void write(Address to, const void* from, size_t bytes) {
    if (driver_library().empty()) return emulated.write(to, from, bytes);
    gpu().upload(to, from, bytes);
    gpu().synchronize();
  }
  void read(void* to, Address from, size_t bytes) {
    if (driver_library().empty()) return emulated.read(to, from, bytes);
    gpu().download(to, from, bytes);
    gpu().synchronize();
  }
  template <class T>
  Address upload(const std::vector<T>& values) {
    const Address address = allocate(values.size() * sizeof(T));
    if (!values.empty()) write(address, values.data(), values.size() * sizeof(T));
    return address;
  }
  template <class T>
  std::vector<T> download(Address from, size_t count) {
    std::vector<T> values(count);
    if (count > 0) read(values.data(), from, count * sizeof(T));
    return values;
  }

  Arena emulated;

 private:
  std::vector<Address> on_gpu_;
};

// Launches become proofs in the emulator, or run on the GPU.
class Bench : public cuda::Queue {
 public:
  explicit Bench(std::string what) : what_(std::move(what)) { cuda::current_queue() = this; }
  ~Bench() override { cuda::current_queue() = nullptr; }

  void launch(const char* module, const char* kernel, cuda::Extent grid, cuda::Extent block, size_t dynamic_shared,
              const cuda::Arguments& arguments) override {
    if (!driver_library().empty()) {
      tally().kernels.insert(kernel);
      tally().instances++;
      gpu().launch(module, kernel, grid, block, dynamic_shared, arguments);
      return gpu().synchronize();
    }
    std::unique_ptr<Program>& program = programs_[module];
    if (!program) program = std::make_unique<Program>(arena.emulated, read_ptx(module));
    const Launch launch = program->launch_of(kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z},
                                             dynamic_shared, arguments.values());
    const Report report = expect_proof(arena.emulated, launch, what_);
    counters.add(report.counters);
    last = report.counters;
    waste = report.waste_text();
  }

  Memory arena;
  Counters counters, last;  // of all launches and of the last; nothing on a GPU
  std::string waste;        // of the last launch

 private:
  std::string what_;
  std::map<std::string, std::unique_ptr<Program>> programs_;
};

// A tensor on both sides. Values are rounded to the dtype first, so that both see the same.
struct Both {
  std::vector<int64_t> shape;
  DType dtype = DType::kF32;
  std::vector<float> values;      // as the reference sees them
  std::vector<int32_t> integers;  // of a tensor of i32
  std::vector<uint8_t> plain;     // the bytes in its dtype
  ptx::Address device = 0;
  int64_t gap = 0;  // elements between rows that nobody may touch

  size_t count() const {
    size_t n = 1;
    for (int64_t size : shape) n *= static_cast<size_t>(size);
    return n;
  }
};

inline Both floats(std::vector<int64_t> shape, std::vector<float> values, DType dtype = DType::kF32) {
  Both made{std::move(shape), dtype, std::move(values), {}, {}, 0, 0};
  made.plain.resize(made.values.size() * size_of(dtype));
  for (size_t i = 0; i < made.values.size(); i++) {
    write_element(made.plain.data(), dtype, static_cast<int64_t>(i), made.values[i]);
    made.values[i] = read_element(made.plain.data(), dtype, static_cast<int64_t>(i));
  }
  return made;
}

inline Both noise(std::vector<int64_t> shape, uint32_t seed, DType dtype = DType::kF32) {
  size_t n = 1;
  for (int64_t size : shape) n *= static_cast<size_t>(size);
  return floats(std::move(shape), Noise(seed).values(n), dtype);
}

inline Both integers(std::vector<int64_t> shape, std::vector<int32_t> values) {
  Both made{std::move(shape), DType::kI32, {}, std::move(values), {}, 0, 0};
  made.plain.resize(made.integers.size() * 4);
  if (!made.plain.empty()) std::memcpy(made.plain.data(), made.integers.data(), made.plain.size());
  return made;
}

inline Tensor view(const Both& both, void* data, DType dtype) {
  Tensor tensor;
  tensor.data = data;
  tensor.dtype = dtype;
  tensor.rank = static_cast<int8_t>(both.shape.size());
  int64_t stride = 1;
  for (int i = tensor.rank - 1; i >= 0; i--) {
    tensor.shape[i] = both.shape[i];
    tensor.stride[i] = stride;
    stride *= both.shape[i] + (i == tensor.rank - 1 ? both.gap : 0);
  }
  return tensor;
}

struct Case {
  std::string what;
  const OpImpl* cuda;
  const OpImpl* ref;
  std::vector<Both> in;
  std::vector<int64_t> out_shape;
  DType out_dtype = DType::kF32;
  Attrs attrs;
  // The error that an element may have: what it is made of, beside its rounding to the result's dtype.
  std::function<double(double expected)> allowed = [](double expected) { return 4e-7 * std::fabs(expected); };
  bool plain_operands = false;  // operands behind the first reach the reference in their own dtype
};

// Half a unit in the last place of `dtype` at `value`, twice over: as much as a naive kernel may be off by its last
// rounding, doubled.
inline double last_place(DType dtype, double value) {
  const double mantissa = dtype == DType::kF32 ? 0x1p-23 : dtype == DType::kBF16 ? 0x1p-7 : 0x1p-10;
  const double least = dtype == DType::kF16 ? 0x1p-24 : 0x1p-126;
  return std::max(std::exp2(std::floor(std::log2(std::max(std::fabs(value), 1e-300)))) * mantissa, least);
}

inline void check_close(const std::string& what, const std::vector<float>& got, const std::vector<float>& expected,
                        DType dtype, const std::function<double(double)>& allowed) {
  double worst = 0;
  size_t at = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double error = std::fabs(static_cast<double>(got[i]) - expected[i]);
    const double ratio = error / (allowed(expected[i]) + last_place(dtype, expected[i]));
    if (ratio > worst || std::isnan(ratio) != std::isnan(static_cast<double>(expected[i])))
      worst = std::isnan(ratio) ? INFINITY : ratio, at = i;
  }
  expect(worst <= 1,
         what + ": error " + std::to_string(worst) + " times what it may be, the worst at " + std::to_string(at) +
             (expected.empty() ? "" : ": " + std::to_string(got[at]) + " for " + std::to_string(expected[at])));
}

// Runs the case on both sides. Returns the device's results, as f32.
inline std::vector<float> run_case(Case& test) {
  Pool pool(1);
  const size_t count = Both{test.out_shape, test.out_dtype, {}, {}, {}, 0, 0}.count();
  Both out = floats(test.out_shape, std::vector<float>(count), test.out_dtype);
  std::vector<float> expected(count);

  OpCall call;
  call.path = test.what.c_str();
  call.attrs = &test.attrs;
  call.pool = &pool;
  call.inputs = static_cast<int>(test.in.size());
  call.outputs = 1;
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < test.in.size(); i++) {
    Both& in = test.in[i];
    const bool plain = in.dtype == DType::kI32 || (test.plain_operands && i > 0);
    void* data = plain ? static_cast<void*>(in.plain.data()) : static_cast<void*>(in.values.data());
    static float nothing;  // a tensor without values is present all the same
    tensors.push_back(view(in, in.plain.empty() ? &nothing : data, plain ? in.dtype : DType::kF32));
  }
  Tensor result = view(out, expected.data(), DType::kF32);
  call.in = tensors.data();
  call.out = &result;
  test.ref->run(call);

  Bench bench(test.what);
  for (size_t i = 0; i < test.in.size(); i++) {
    const ptx::Address address = bench.arena.upload(test.in[i].plain);
    tensors[i] = view(test.in[i], reinterpret_cast<void*>(address), test.in[i].dtype);
  }
  const ptx::Address to = bench.arena.allocate(count * size_of(test.out_dtype));
  result = view(out, reinterpret_cast<void*>(to), test.out_dtype);
  const size_t scratch = test.cuda->scratch != nullptr ? test.cuda->scratch(call) : 0;
  call.scratch = scratch > 0 ? reinterpret_cast<void*>(bench.arena.allocate(scratch)) : nullptr;
  test.cuda->run(call);
  bench.arena.read(out.plain.data(), to, out.plain.size());
  std::vector<float> got(count);
  for (size_t i = 0; i < count; i++) got[i] = read_element(out.plain.data(), test.out_dtype, static_cast<int64_t>(i));
  check_close(test.what, got, expected, test.out_dtype, test.allowed);
  return got;
}

}  // namespace ptx
}  // namespace ocelli
