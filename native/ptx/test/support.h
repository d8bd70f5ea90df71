// What the emulator's tests share: the PTX that the driver script compiled, a tally, seeded noise.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/check.h"
#include "ptx/executor.h"

namespace ocelli {
namespace ptx {

struct Tally {
  std::set<std::string> kernels;
  int instances = 0;  // kernels x shapes that ran
  int checks = 0;
  int failures = 0;
  Counters counters;  // of all instances
};

inline Tally& tally() {
  static Tally one;
  return one;
}

inline bool expect(bool ok, const std::string& what) {
  tally().checks++;
  if (ok) return true;
  tally().failures++;
  std::printf("FAILED %s\n", what.c_str());
  return false;
}

// The folder in which native/ptx/test.mjs put <name>.ptx.
inline std::string& ptx_folder() {
  static std::string folder;
  return folder;
}

// Where the stand-in's library was built.
inline std::string& build_folder() {
  static std::string folder;
  return folder;
}

// The driver to run ops on instead of the emulator's proofs; empty: none.
inline std::string& driver_library() {
  static std::string library;
  return library;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error("ERR_PTX", "Expected the file " + path + " but received none");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::string read_ptx(const std::string& name) { return read_file(ptx_folder() + "/" + name + ".ptx"); }

// Proves the launch (see executor.h) and expects no finding.
inline Report expect_proof(Arena& arena, const Launch& launch, const std::string& what) {
  tally().kernels.insert(launch.kernel->name);
  tally().instances++;
  Report report = prove(arena, launch);
  tally().counters.add(report.counters);
  expect(report.clean(), what + ": no faults\n" + report.text());
  return report;
}

class Noise {
 public:
  explicit Noise(uint32_t seed) : state_(seed) {}
  uint32_t bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  int below(int n) { return static_cast<int>(static_cast<uint64_t>(bits()) * static_cast<uint64_t>(n) >> 32); }
  // Roughly normal; one in 61 is forty times as large, as activations of language models are.
  float value() {
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += static_cast<float>(bits() >> 8) / 16777216.f - 0.5f;
    return below(61) == 0 ? sum * 40 : sum;
  }
  std::vector<float> values(size_t n) {
    std::vector<float> made(n);
    for (float& value : made) value = this->value();
    return made;
  }

 private:
  uint32_t state_;
};

// `main` of each test: body, then one line that native/ptx/test.mjs adds up.
inline int run_test(const char* name, int argc, char** argv, void (*body)()) {
  if (argc > 1) ptx_folder() = argv[1];
  if (argc > 2) build_folder() = argv[2];
  if (argc > 3) driver_library() = argv[3];
  try {
    body();
  } catch (const Error& error) {
    expect(false, error.what());
  }
  const Tally& all = tally();
  if (argc > 3) std::printf("on %s, ", argv[3]);
  std::printf("%s: %zu kernels, %d instances, %d checks, %d failed\n", name, all.kernels.size(), all.instances,
              all.checks, all.failures);
  return all.failures == 0 ? 0 : 1;
}

}  // namespace ptx
}  // namespace ocelli
