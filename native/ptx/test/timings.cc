// What the main kernels take on a GPU beside the roofline: the least that their bytes and operations can take there. A
// graph of launches is timed by the host's clock; the weights or the cache that each launch reads come from copies that
// no cache holds together. The emulator has no clock: on the stand-in, with `tiny` sizes, all of it runs, and the times
// mean nothing.
#include <chrono>

#include "ptx/test/cublas.h"
#include "ptx/test/ops.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

struct Sizes {
  int width, rows, heads, kv_heads, dim, positions, sequences;
  int replays;
};
constexpr Sizes kWhole = {4096, 2048, 32, 8, 128, 2048, 16, 20};
constexpr Sizes kTiny = {256, 40, 4, 2, 64, 300, 3, 1};

// What the GPU can do in a second, from what its driver says of it: nothing here is a table of products.
struct Roofs {
  double bytes, bf16, int8, f32;  // bytes, and operations (a multiply-add is two)
  size_t cache;

  explicit Roofs(const cuda::Driver& driver) {
    const auto read = [&](CUdevice_attribute attribute) {
      int value = 0;
      cuda::check(driver, driver.cuDeviceGetAttribute(&value, attribute, 0), "reading a device's attributes");
      return value;
    };
    const int capability = read(cuda::kCapabilityMajor) * 10 + read(cuda::kCapabilityMinor);
    // Operations of tensor cores in bf16 with sums in f32, a clock and multiprocessor: the vendor's whitepapers.
    const bool small = capability == 86 || capability == 89 || capability >= 120;
    const double tensor = small ? 1024 : capability == 80 ? 2048 : capability == 90 ? 4096 : 8192;
    const double clocks = 1e3 * read(cuda::kClock) * read(cuda::kMultiprocessors);
    bytes = 2e3 * read(cuda::kMemoryClock) * read(cuda::kMemoryBus) / 8;
    bf16 = clocks * tensor;
    int8 = 2 * bf16;
    f32 = clocks * (capability == 80 ? 128 : 256);
    cache = static_cast<size_t>(read(cuda::kCache));
  }
};

struct Work {
  std::string name;
  double bytes, operations;
  double roof;                    // operations a second
  std::function<void(int)> run;   // with copy i of what is read from memory
  int copies;
  Tensor out;
  std::function<void(int)> peer;  // cuBLAS's, on the device's stream
};

double seconds(const std::function<void()>& body) {
  gpu().synchronize();
  const auto started = std::chrono::steady_clock::now();
  body();
  gpu().synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

std::vector<uint8_t> bytes_of(const Tensor& tensor) {
  std::vector<uint8_t> bytes(static_cast<size_t>(tensor.numel() * size_of(tensor.dtype)));
  gpu().download(bytes.data(), reinterpret_cast<CUdeviceptr>(tensor.data), bytes.size());
  gpu().synchronize();
  return bytes;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const Work& work, const Sizes& sizes, const Roofs& roofs) {
  const double roof = std::max(work.bytes / roofs.bytes, work.operations / work.roof);
  // Modules are loaded by a launch outside of a graph, and its result is what the graph has to make again.
  cuda::current_queue() = &gpu();
  for (int i = 0; i < work.copies; i++) work.run(i);
  const std::vector<uint8_t> expected = bytes_of(work.out);
  gpu().clear(reinterpret_cast<CUdeviceptr>(work.out.data), expected.size());
  int launches = work.copies;
  while (sizes.replays > 1 && launches * roof < 2e-3 && launches < 256) launches += work.copies;
  CUgraphExec graph = nullptr;
  {
    cuda::Capture capture(gpu());
    cuda::current_queue() = &capture;
    for (int i = 0; i < launches; i++) work.run(i % work.copies);
    graph = capture.end();
  }
  cuda::current_queue() = &gpu();
  std::vector<double> times = {}, peers = {};
  seconds([&] { gpu().replay(graph); });  // clocks go up
  for (int i = 0; i < sizes.replays; i++) times.push_back(seconds([&] { gpu().replay(graph); }) / launches);
  gpu().release(graph);
  expect(bytes_of(work.out) == expected, work.name + ": the bits of a launch in a graph");
  for (int i = 0; work.peer && i < sizes.replays; i++) {
    peers.push_back(seconds([&] {
                      for (int j = 0; j < launches; j++) work.peer(j % work.copies);
                    }) /
                    launches);
  }
  tally().instances++;
  const double time = median(times);
  expect(time > 0, work.name + ": a time");
  const bool memory = work.bytes / roofs.bytes >= work.operations / work.roof;
  std::printf("{\"name\": \"%s\", \"us\": %.3f, \"least_us\": %.3f, \"roof_us\": %.3f, \"share\": %.4g, ",
              work.name.c_str(), time * 1e6, *std::min_element(times.begin(), times.end()) * 1e6, roof * 1e6,
              roof / time);
  std::printf("\"bound\": \"%s\"", memory ? "memory" : "arithmetic");
  if (!peers.empty()) std::printf(", \"cublas_us\": %.3f", median(peers) * 1e6);
  std::printf("}\n");
}

// Tensors of one work, given back at its end.
class Operands {
 public:
  explicit Operands(const Roofs& roofs) : cache_(roofs.cache) {}

  void* fill(const std::vector<uint8_t>& bytes) { return reinterpret_cast<void*>(memory_.upload(bytes)); }
  void* room(size_t bytes) { return reinterpret_cast<void*>(memory_.allocate(bytes)); }
  const int32_t* integers(const std::vector<int32_t>& values) {
    return reinterpret_cast<const int32_t*>(memory_.upload(values));
  }
  Tensor noise(std::vector<int64_t> shape, DType dtype) {
    const Both both = ptx::noise(std::move(shape), 1, dtype);
    return view(both, fill(both.plain), dtype);
  }
  Tensor empty(std::vector<int64_t> shape, DType dtype = DType::kF32) {
    const Both both{std::move(shape), dtype, {}, {}, {}, 0, 0};
    return view(both, room(both.count() * size_of(dtype)), dtype);
  }
  // As many as no cache holds together.
  std::vector<void*> copies(const std::vector<uint8_t>& bytes) {
    const size_t count = std::min<size_t>(2 * cache_ / bytes.size() + 1, 64);
    std::vector<void*> made;
    for (size_t i = 0; i < count; i++) made.push_back(fill(bytes));
    return made;
  }

 private:
  ptx::Memory memory_;
  size_t cache_;
};

OpCall call_of(const Attrs& attrs, Tensor* in, int inputs, Tensor* out) {
  OpCall call;
  call.attrs = &attrs;
  call.in = in;
  call.inputs = inputs;
  call.out = out;
  call.outputs = 1;
  return call;
}

void linear(const Sizes& sizes, const Roofs& roofs, const Cublas& cublas, WeightFormat format, int rows) {
  Operands operands(roofs);
  const int width = sizes.width;
  Both w = noise({width, width}, 2);
  std::vector<uint8_t> host(cuda::backend.packed_bytes(format, width, width));
  PackedMatrix packed{width, width, format, host.data(), host.size()};
  cuda::backend.pack(view(w, w.values.data(), DType::kF32), 0, packed);
  const std::vector<void*> weights = operands.copies(host);
  const Attrs attrs;
  Tensor in[2] = {operands.noise({rows, width}, DType::kF32), {}}, out = operands.empty({rows, width});
  in[1].packed = &packed;
  OpCall call = call_of(attrs, in, 2, &out);
  call.scratch = operands.room(cuda::linear.scratch(call));
  const double count = static_cast<double>(width) * width, values = static_cast<double>(rows) * width;
  Work work{"linear " + std::string(name_of(format)) + ", " + std::to_string(rows) + " rows",
            static_cast<double>(host.size()) + 8 * values,
            2 * count * rows,
            format == WeightFormat::kF32 ? roofs.f32 : quantized(format) ? roofs.int8 : roofs.bf16,
            [&](int i) {
              packed.data = weights[static_cast<size_t>(i)];
              cuda::linear.run(call);
            },
            static_cast<int>(weights.size()),
            out,
            nullptr};
  const Tensor x = operands.noise({rows, width}, DType::kBF16), y = operands.empty({rows, width});
  if (format == WeightFormat::kBF16 && cublas.found()) {
    work.peer = [&](int i) {
      cublas.linear(gpu().stream(), x.data, weights[static_cast<size_t>(i)], y.data, rows, width);
    };
  }
  measure(work, sizes, roofs);
}

// `sequences` of `rows` rows at the end of as many positions as there are.
void attention(const Sizes& sizes, const Roofs& roofs, int sequences, int rows) {
  Operands operands(roofs);
  constexpr int kBlock = 16;
  const int each = (sizes.positions + kBlock - 1) / kBlock, blocks = each * sequences;
  std::vector<int32_t> cu_rows = {0}, context, table, hi;
  for (int s = 0; s < sequences; s++) {
    cu_rows.push_back(cu_rows.back() + rows);
    context.push_back(sizes.positions);
    for (int b = 0; b < each; b++) table.push_back(s * each + b);
    for (int r = 0; r < rows; r++) hi.push_back(sizes.positions - rows + r + 1);
  }
  const Both cached = noise({blocks, sizes.kv_heads, kBlock, sizes.dim}, 3, DType::kBF16);
  const std::vector<void*> k = operands.copies(cached.plain), v = operands.copies(cached.plain);
  KvLayer layer;
  const KvCache kv{DType::kBF16, kBlock, blocks, 1, sizes.kv_heads, sizes.dim, sizes.dim, &layer};
  const StepContext step{sequences,  operands.integers(cu_rows), operands.integers(context), operands.integers(table),
                         each,       nullptr,                    operands.integers(hi),      &kv};
  Attrs attrs;
  attrs.numbers = {{"layer", 0}, {"scale", 1 / std::sqrt(sizes.dim)}};
  Tensor q = operands.noise({rows * sequences, sizes.heads, sizes.dim}, DType::kF32);
  Tensor out = operands.empty({rows * sequences, sizes.heads, sizes.dim});
  OpCall call = call_of(attrs, &q, 1, &out);
  call.step = &step;
  call.scratch = operands.room(cuda::attention_paged.scratch(call) + 1);
  double seen = 0;  // keys of all rows
  for (int32_t keys : hi) seen += keys;
  measure({"attention, " + std::to_string(sequences) + " x " + std::to_string(rows) + " rows of " +
               std::to_string(sizes.positions) + " positions",
           2.0 * static_cast<double>(cached.plain.size()) + 8.0 * static_cast<double>(q.numel()),
           4 * seen * sizes.heads * sizes.dim,
           roofs.bf16,
           [&](int i) {
             layer = {k[static_cast<size_t>(i)], v[static_cast<size_t>(i)]};
             cuda::attention_paged.run(call);
           },
           static_cast<int>(k.size()),
           out,
           nullptr},
          sizes, roofs);
}

// Ops that do little more than read and write.
void rows(const Sizes& sizes, const Roofs& roofs) {
  Operands operands(roofs);
  const double values = static_cast<double>(sizes.rows) * sizes.width;
  Attrs attrs;
  attrs.numbers = {{"eps", 1e-5}};
  attrs.strings = {{"kind", "silu"}};
  Tensor in[2] = {operands.noise({sizes.rows, sizes.width}, DType::kF32), operands.noise({sizes.width}, DType::kF32)};
  Tensor out = operands.empty({sizes.rows, sizes.width});
  const OpCall norm = call_of(attrs, in, 2, &out);
  const std::string shape = std::to_string(sizes.rows) + " x " + std::to_string(sizes.width);
  const auto time = [&](const char* name, double bytes, double operations, const OpImpl& op, const OpCall& call) {
    measure({std::string(name) + " " + shape, bytes * values, operations * values, roofs.f32,
             [&](int) { op.run(call); }, 1, out, nullptr},
            sizes, roofs);
  };
  time("rms_norm", 8, 4, cuda::rms_norm, norm);
  Tensor both = operands.noise({sizes.rows, 2 * sizes.width}, DType::kF32);
  const OpCall gated = call_of(attrs, &both, 1, &out);
  time("gated_act", 12, 8, cuda::gated_act, gated);
}

bool tiny = false;

void body() {
  const Sizes& sizes = tiny ? kTiny : kWhole;
  const Roofs roofs(cuda::load_driver(driver_library()));
  const Cublas cublas;
  std::printf("{\"device\": \"%s\", \"gb_s\": %.0f, \"bf16_tflops\": %.1f, \"int8_tops\": %.1f, ",
              gpu().name().c_str(), roofs.bytes / 1e9, roofs.bf16 / 1e12, roofs.int8 / 1e12);
  std::printf("\"f32_tflops\": %.1f, \"cublas\": %s}\n", roofs.f32 / 1e12, cublas.found() ? "true" : "false");
  for (WeightFormat format :
       {WeightFormat::kBF16, WeightFormat::kF16, WeightFormat::kI8, WeightFormat::kI4, WeightFormat::kF32}) {
    for (int m : {1, 16, sizes.rows}) linear(sizes, roofs, cublas, format, m);
  }
  attention(sizes, roofs, 1, 1);
  attention(sizes, roofs, sizes.sequences, 1);
  attention(sizes, roofs, 1, sizes.positions);
  rows(sizes, roofs);
}

}  // namespace

// Like a test's, with the driver's library, and `tiny` behind it for sizes that the emulator gets through.
int main(int argc, char** argv) {
  tiny = argc > 4 && std::string(argv[4]) == "tiny";
  return run_test("timings", argc, argv, body);
}
