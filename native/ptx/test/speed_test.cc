// How fast the emulator is: lane instructions a second of one core, on kernels that ship. Below 20 million its tests
// would be too slow to be run.
#include <chrono>

#include "ptx/test/ops.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

// Runs each launch once and clocks it.
class Clock : public cuda::Queue {
 public:
  Clock() { cuda::current_queue() = this; }
  ~Clock() override { cuda::current_queue() = nullptr; }
  void launch(const char* module, const char* kernel, cuda::Extent grid, cuda::Extent block, size_t dynamic_shared,
              const cuda::Arguments& arguments) override {
    Program program(arena, read_ptx(module));
    const Launch launch = program.launch_of(kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z},
                                            dynamic_shared, arguments.values());
    double best = 1e9;
    Counters counters;
    for (int i = 0; i < 3; i++) {
      const auto started = std::chrono::steady_clock::now();
      counters = execute(arena, launch, {}).counters;
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    }
    tally().kernels.insert(kernel);
    tally().instances++;
    const double speed = static_cast<double>(counters.lane_instructions) / best / 1e6;
    std::printf("  %-22s %7.1f million lane instructions/s, %llu mma in %.1f ms\n", kernel, speed,
                static_cast<unsigned long long>(counters.mma), best * 1e3);
    expect(speed >= 20, std::string(kernel) + ": at least 20 million lane instructions a second");
  }
  Arena arena;
};

void body() {
  Clock clock;
  const auto tensor = [&](std::vector<int64_t> shape, uint32_t seed) {
    const Both both = noise(std::move(shape), seed, DType::kBF16);
    return view(both, reinterpret_cast<void*>(clock.arena.upload(both.plain)), DType::kBF16);
  };
  Attrs attrs;
  attrs.numbers = {{"eps", 1e-6}, {"scale", 0.1}};
  OpCall call;
  call.attrs = &attrs;
  call.outputs = 1;
  Tensor in[3] = {tensor({64, 2048}, 1), tensor({2048}, 2), {}};
  Tensor out = tensor({64, 2048}, 3);
  call.in = in;
  call.inputs = 2;
  call.out = &out;
  cuda::rms_norm.run(call);

  in[0] = tensor({384, 512}, 1);
  const Tensor w = tensor({256, 512}, 2);
  PackedMatrix packed{256, 512, WeightFormat::kBF16, w.data, 0};
  in[1] = {};
  in[1].packed = &packed;
  out = tensor({384, 256}, 3);
  cuda::linear.run(call);

  for (int i = 0; i < 3; i++) in[i] = tensor({200, 2, 128}, static_cast<uint32_t>(i));
  out = tensor({200, 2, 128}, 4);
  call.inputs = 3;
  cuda::attention_varlen.run(call);
}

}  // namespace

int main(int argc, char** argv) { return run_test("speed", argc, argv, body); }
