// Machines that are imagined: what a step takes by its rows, and what the pace makes of it.
#include "engine/pace.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "test/expect.h"

using ocelli::Pace;
using ocelli::test::expect;
using ocelli::test::Random;

namespace {

// Seconds of a step: weights are read once, rows are computed and cost more the more there is to attend to; where the
// weights' part is `shared`, rows cost nothing beside it.
struct Machine {
  double read, row, shared;
  double step(int32_t rows, int32_t context) const {
    return std::max(read, read * (1 - shared) + rows * row * (1 + 0.4 * context / 1500));
  }
};
constexpr Machine kMachines[] = {{0.068, 0.0028, 0.6}, {0.0095, 0.00065, 0.25}, {0.4, 0.02, 0.8}};

// A prompt of 1,500 rows alone, 24 steps of decodes, the prompt beside them; `noise` is the share of a step that chance
// adds or takes at most. The longest step by one of decodes, and the prompt's time by that alone; medians of `seeds`.
std::pair<double, double> beside(const Machine& machine, double noise, int32_t seeds) {
  std::vector<double> gaps, stretches;
  for (int32_t seed = 0; seed < seeds; seed++) {
    Random random(seed);
    Pace pace;
    auto step = [&](int32_t rows, int32_t context) {
      return machine.step(rows, context) * (1 + noise * (2 * random.unit() - 1));
    };
    for (int32_t round = 0; round < 2; round++) {
      double alone = 0, together = 0, worst = 0;
      auto prefill = [&](bool decodes, double* total) {
        for (int32_t at = 0, rows = 0; at < 1500; at += rows) {
          rows = std::min(decodes ? pace.prompt_rows() : 512, 1500 - at);
          const double seconds = step(rows + (decodes ? 1 : 0), at);
          *total += seconds;
          if (decodes) worst = std::max(worst, seconds);
          pace.note(decodes, rows, seconds);
        }
      };
      prefill(false, &alone);
      for (int i = 0; i < 24; i++) pace.note(true, 0, step(1, 0));
      prefill(true, &together);
      gaps.push_back(worst / machine.read);
      stretches.push_back(together / alone);
    }
  }
  auto median = [](std::vector<double>& list) {
    std::sort(list.begin(), list.end());
    return list[list.size() / 2];
  };
  return {median(gaps), median(stretches)};
}

void gaps_and_stretches() {
  for (const Machine& machine : kMachines) {
    for (double noise : {0., 0.05, 0.1, 0.15}) {
      const auto [gap, stretch] = beside(machine, noise, noise > 0 ? 20 : 1);
      const std::string which = std::to_string(machine.read) + " s, noise " + std::to_string(noise);
      expect(gap < 3, which + ": the longest gap is " + std::to_string(gap) + " times the usual one");
      expect(stretch < 1.7, which + ": the prompt takes " + std::to_string(stretch) + " times as long");
    }
  }
  // Where the prompt can afford it the neighbours wait less than they have to.
  const double afforded = beside(kMachines[0], 0, 1).first;
  expect(afforded < 2.2,
         std::to_string(afforded) + ": a prompt whose rows are cheap beside decodes takes less of the time");
}

void first_prompt() {
  // Nothing is known of rows beside decodes but what they take alone.
  for (const Machine& machine : kMachines) {
    Pace pace;
    pace.note(false, 16, machine.step(16, 0));
    for (int i = 0; i < 20; i++) pace.note(true, 0, machine.step(1, 0));
    expect(machine.step(1 + pace.prompt_rows(), 0) < 3 * machine.read, "the first step beside a prompt is no longer");
  }
}

void disturbances() {
  // One step that others' work made ten times as long changes little.
  Pace pace;
  const Machine& machine = kMachines[0];
  auto settle = [&] {
    for (int i = 0; i < 40; i++) pace.note(true, pace.prompt_rows(), machine.step(1 + pace.prompt_rows(), 0));
  };
  for (int i = 0; i < 20; i++) pace.note(true, 0, machine.step(1, 0));
  settle();
  const int32_t before = pace.prompt_rows();
  pace.note(true, before, 10 * machine.step(1 + before, 0));
  expect(pace.prompt_rows() > before * 3 / 4, "a step that was disturbed tells little of the next ones");
  settle();
  expect(pace.prompt_rows() == before, "and is forgotten");
}

void slices() {
  Pace pace;
  expect(pace.encoder_seconds() == 0.050, "nobody waits");
  pace.note(true, 16, 0.1);
  expect(pace.encoder_seconds() == 0.010, "decodes alone were not seen yet");
  for (int i = 0; i < 60; i++) pace.note(true, 0, 0.040);
  expect(std::abs(pace.encoder_seconds() - 0.060) < 1e-6, "the slice fills what a decode leaves of the patience");
  pace.note_encoder(0.060, 0.085);
  expect(std::abs(pace.encoder_seconds() - 0.035) < 1e-6, "what the last op ran on for is left out of the next slice");
  for (int i = 0; i < 200; i++) pace.note_encoder(0.060, 0.050);
  expect(std::abs(pace.encoder_seconds() - 0.060) < 1e-6, "until that is long ago");
  pace.note(true, 64, 0.100);
  expect(std::abs(pace.encoder_seconds() - 0.010) < 1e-6, "beside a prompt too the encoder goes on, a little");
  pace.note(false, 512, 0.5);
  expect(pace.encoder_seconds() == 0.050, "a prompt alone waits for nobody");
}

void bounds() {
  Pace pace;
  pace.note(true, 0, 0.001);
  for (int i = 0; i < 200; i++) pace.note(true, pace.prompt_rows(), 10);
  expect(pace.prompt_rows() == 16, "never fewer rows than 16");
  for (int i = 0; i < 400; i++) pace.note(true, pace.prompt_rows(), 1e-6);
  expect(pace.prompt_rows() == 4096, "nor more than 4096");
  for (int i = 0; i < 60; i++) pace.note(true, 8, 10);
  expect(pace.prompt_rows() == 4096, "the end of a prompt says nothing of full chunks");
}

}  // namespace

int main() {
  gaps_and_stretches();
  first_prompt();
  disturbances();
  slices();
  bounds();
  return ocelli::test::report("pace");
}
