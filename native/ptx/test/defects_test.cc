// The emulator's teeth: each kernel of defects.cu, right and with its defect. A row says which detectors must tell of
// the defect and which may; none may tell of anything else, and the right kernel is clean.
#include <functional>
#include <initializer_list>

#include "core/convert.h"
#include "image/filters.h"
#include "image/resize.h"
#include "ptx/test/support.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

struct Outcome {
  Report report;
  bool right = true;  // the results are the reference's
};
struct Row {
  const char* kernel;
  std::vector<Fault> must;
  std::vector<Fault> may;
  bool must_differ;  // the reference must tell
  std::function<Outcome(Arena&, Program&)> run;
};

Outcome proven(Arena& arena, const Launch& launch) { return {prove(arena, launch), true}; }

template <class T>
void compare(Outcome* outcome, Arena& arena, Address at, const std::vector<T>& expected) {
  outcome->right = arena.download<T>(at, expected.size()) == expected;
}

std::vector<float> counting(size_t n) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; i++) values[i] = static_cast<float>(i % 97) - 40;
  return values;
}

Outcome missing_barrier(Arena& arena, Program& program) {
  const std::vector<float> in = counting(256);
  std::vector<float> expected(256);
  for (int i = 0; i < 256; i++) expected[i] = in[i / 128 * 128 + 127 - i % 128];
  const Address from = arena.upload(in), to = arena.allocate(1024);
  Outcome outcome = proven(arena, program.launch("missing_barrier", {2, 1, 1}, {128, 1, 1}, 0, from, to));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome missing_warp_barrier(Arena& arena, Program& program) {
  const std::vector<float> in = counting(128);
  std::vector<float> expected(128);
  for (int i = 0; i < 128; i++) expected[i] = in[i ^ 31];
  const Address from = arena.upload(in), to = arena.allocate(512);
  Outcome outcome = proven(arena, program.launch("missing_warp_barrier", {}, {128, 1, 1}, 0, from, to));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome swapped_fragments(Arena& arena, Program& program) {
  Noise noise(3);
  std::vector<uint16_t> a(256), b(128);
  for (uint16_t& value : a) value = narrow_bf16(noise.value());
  for (uint16_t& value : b) value = narrow_bf16(noise.value());
  std::vector<float> expected(128);
  for (int m = 0; m < 16; m++) {
    for (int n = 0; n < 8; n++) {
      double sum = 0;
      for (int k = 0; k < 16; k++) sum += static_cast<double>(widen_bf16(a[m * 16 + k])) * widen_bf16(b[n * 16 + k]);
      expected[m * 8 + n] = static_cast<float>(sum);
    }
  }
  const Address ma = arena.upload(a), mb = arena.upload(b), md = arena.allocate(512);
  Outcome outcome = proven(arena, program.launch("swapped_fragments", {}, {32, 1, 1}, 0, ma, mb, md));
  compare(&outcome, arena, md, expected);
  return outcome;
}

Outcome missing_copy_wait(Arena& arena, Program& program) {
  constexpr int kTiles = 5;
  const std::vector<float> in = counting(512 * kTiles);
  std::vector<float> expected(128);
  for (int t = 0; t < 128; t++) {
    for (int i = 0; i < 4 * kTiles; i++) expected[t] += in[i / 4 * 512 + (t * 4 + i % 4 + 4) % 512];
  }
  const Address from = arena.upload(in), to = arena.allocate(512);
  Outcome outcome = proven(arena, program.launch("missing_copy_wait", {}, {128, 1, 1}, 0, from, to, int32_t{kTiles}));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome out_of_bounds_tail(Arena& arena, Program& program) {
  const std::vector<float> in = counting(200);
  std::vector<float> expected;
  for (float value : in) expected.push_back(value * 2);
  const Address from = arena.upload(in), to = arena.allocate(800);
  Outcome outcome =
      proven(arena, program.launch("out_of_bounds_tail", {2, 1, 1}, {128, 1, 1}, 0, from, to, int32_t{200}));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome shared_race(Arena& arena, Program& program) {
  std::vector<int32_t> in(128), expected(32);
  for (int i = 0; i < 128; i++) expected[in[i] = i * i % 32]++;
  const Address from = arena.upload(in), to = arena.allocate(128);
  Outcome outcome = proven(arena, program.launch("shared_race", {}, {128, 1, 1}, 0, from, to));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome misaligned_vector(Arena& arena, Program& program) {
  const std::vector<float> in = counting(64 * 9);
  std::vector<float> expected(64);
  for (int i = 0; i < 64 * 9; i++) expected[i / 9] += in[i];
  const Address from = arena.upload(in), to = arena.allocate(256);
  Outcome outcome = proven(arena, program.launch("misaligned_vector", {}, {64, 1, 1}, 0, from, to, int32_t{9}));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome divergent_barrier(Arena& arena, Program& program) {
  const std::vector<float> in = counting(128);
  float sum = 0;
  for (float value : in) sum += value;  // small integers: exact in any order
  const Address from = arena.upload(in), to = arena.allocate(4);
  Outcome outcome = proven(arena, program.launch("divergent_barrier", {}, {128, 1, 1}, 0, from, to));
  compare(&outcome, arena, to, std::vector<float>{sum});
  return outcome;
}

Outcome resize_rounding(Arena& arena, Program& program) {
  constexpr int kWidth = 50, kHeight = 37, kRows = 21;
  Noise noise(8);
  std::vector<uint8_t> in(kWidth * kHeight), expected(kWidth * kRows);
  for (uint8_t& value : in) value = static_cast<uint8_t>(noise.bits());
  image::resize({in.data(), kWidth, kHeight, 1, kWidth}, kWidth, kRows, image::Filter::kBicubic,
                image::PassOrder::kPillow13, {0, 0, kWidth, kRows}, expected.data(), kWidth, nullptr);
  const image::Weights weights = image::make_weights(kHeight, kRows, image::Filter::kBicubic, 0, kRows);
  const Address from = arena.upload(in), lo = arena.upload(weights.lo), fixed = arena.upload(weights.weights),
                to = arena.allocate(expected.size());
  Outcome outcome = proven(arena, program.launch("resize_rounding", {1, kRows, 1}, {64, 1, 1}, 0, from, lo, fixed, to,
                                                 int32_t{weights.taps}, int32_t{kWidth}, int32_t{kRows}));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome absent_lane(Arena& arena, Program& program) {
  const std::vector<float> in = counting(32);
  std::vector<float> expected = in;
  for (int t = 0; t < 16; t++) expected[t] += in[t + 16];
  const Address from = arena.upload(in), to = arena.allocate(128);
  Outcome outcome = proven(arena, program.launch("absent_lane", {}, {32, 1, 1}, 0, from, to));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome unwritten_memory(Arena& arena, Program& program) {
  const std::vector<float> in = counting(32 * 5);
  std::vector<float> expected(32);
  for (int i = 0; i < 32 * 5; i++) expected[i / 5] += in[i];
  const Address from = arena.upload(in), to = arena.allocate(128);
  Outcome outcome = proven(arena, program.launch("unwritten_memory", {}, {32, 1, 1}, 0, from, to, int32_t{5}));
  compare(&outcome, arena, to, expected);
  return outcome;
}

Outcome race_of_blocks(Arena& arena, Program& program) {
  const std::vector<float> in = counting(128);
  const Address from = arena.upload(in), between = arena.allocate(512), to = arena.allocate(512);
  return proven(arena, program.launch("race_of_blocks", {2, 1, 1}, {64, 1, 1}, 0, from, between, to));
}

Outcome order_of_atomics(Arena& arena, Program& program) {
  Noise noise(2);
  const std::vector<float> in = noise.values(256);
  const Address from = arena.upload(in), to = arena.upload(std::vector<float>{0});
  return proven(arena, program.launch("order_of_atomics", {}, {256, 1, 1}, 0, from, to));
}

const Row kRows[] = {
    {"missing_barrier", {Fault::kRace}, {Fault::kUnwritten, Fault::kOrder}, true, missing_barrier},
    {"missing_warp_barrier", {Fault::kRace}, {}, false, missing_warp_barrier},
    {"swapped_fragments", {}, {}, true, swapped_fragments},
    {"missing_copy_wait",
     {Fault::kPendingCopy, Fault::kCopyTiming},
     {Fault::kRace, Fault::kOrder},
     true,
     missing_copy_wait},
    {"out_of_bounds_tail", {Fault::kOutOfBounds}, {}, false, out_of_bounds_tail},
    {"shared_race", {Fault::kRace}, {Fault::kOrder}, true, shared_race},
    {"misaligned_vector", {Fault::kMisaligned}, {}, true, misaligned_vector},
    {"divergent_barrier", {Fault::kBarrier}, {Fault::kRace, Fault::kOrder}, false, divergent_barrier},
    {"resize_rounding", {}, {}, true, resize_rounding},
    {"absent_lane", {Fault::kAbsentLane}, {}, false, absent_lane},
    {"unwritten_memory", {Fault::kUnwritten}, {}, true, unwritten_memory},
    {"race_of_blocks", {Fault::kRace}, {Fault::kUnwritten, Fault::kOrder}, false, race_of_blocks},
    {"order_of_atomics", {Fault::kOrder}, {}, false, order_of_atomics},
};

bool contains(const std::vector<Fault>& faults, Fault fault) {
  for (Fault one : faults) {
    if (one == fault) return true;
  }
  return false;
}

void body() {
  for (const Row& row : kRows) {
    const std::string name = row.kernel;
    tally().kernels.insert(name);
    tally().instances += 2;
    {
      Arena arena;
      Program program(arena, read_ptx("defects0"));
      const Outcome outcome = row.run(arena, program);
      expect(outcome.report.clean(), name + ", right: no faults\n" + outcome.report.text());
      expect(outcome.right, name + ", right: the reference's results");
    }
    Arena arena;
    Program program(arena, read_ptx("defects1"));
    const Outcome outcome = row.run(arena, program);
    std::string told;
    for (int i = 0; i < static_cast<int>(Fault::kCount); i++) {
      const Fault fault = static_cast<Fault>(i);
      if (outcome.report.has(fault)) told += std::string(" ") + name_of(fault);
      if (contains(row.must, fault))
        expect(outcome.report.has(fault), name + ", wrong: " + name_of(fault) + " must be told");
      if (!contains(row.must, fault) && !contains(row.may, fault))
        expect(!outcome.report.has(fault),
               name + ", wrong: " + name_of(fault) + " must not be told\n" + outcome.report.text());
    }
    if (row.must_differ) expect(!outcome.right, name + ", wrong: the results must differ from the reference's");
    std::printf("  %-22s told by%s%s\n", row.kernel, told.c_str(), outcome.right ? "" : " reference");
  }
}

}  // namespace

int main(int argc, char** argv) { return run_test("defects", argc, argv, body); }
