// Machines that are imagined: what a step takes by its rows, and what the pace makes of it.
#include "engine/pace.h"

#include <algorithm>

#include "test/expect.h"

using ocelli::Pace;
using ocelli::test::expect;

namespace {

// Seconds of a step: weights are read once, rows are computed.
struct Machine {
  double read, row;
  double step(int32_t rows) const { return std::max(read, read * 0.1 + rows * row); }
};

// Ten steps of decodes, then a prompt beside them; the longest of its steps and how many there were.
void beside(const Machine& machine, double patience, const char* what) {
  Pace pace;
  for (int i = 0; i < 10; i++) pace.note(true, 0, machine.step(1));
  double worst = 0, last = 0;
  int32_t rows = 0;
  for (int32_t left = 3000; left > 0; left -= rows) {
    rows = std::min(pace.prompt_rows(), left);
    const double seconds = machine.step(1 + rows);
    last = rows == left ? last : seconds;
    worst = std::max(worst, seconds);
    pace.note(true, rows, seconds);
  }
  expect(worst < patience * machine.step(1), std::string(what) + ": no gap is three times the usual one");
  expect(last > 2 * machine.step(1), std::string(what) + ": the prompt gets what there is");
}

void slices() {
  Pace pace;
  expect(pace.encoder_seconds() == 0.050, "nobody waits");
  pace.note(true, 16, 0.1);
  expect(pace.encoder_seconds() == 0.010, "decodes alone were not seen yet");
  for (int i = 0; i < 60; i++) pace.note(true, 0, 0.040);
  expect(std::abs(pace.encoder_seconds() - 0.060) < 1e-6, "the slice fills what a decode leaves of the patience");
  pace.note(true, 64, 0.100);
  expect(std::abs(pace.encoder_seconds() - 0.010) < 1e-6, "beside a prompt too the encoder goes on, a little");
  pace.note(false, 512, 0.5);
  expect(pace.encoder_seconds() == 0.050, "a prompt alone waits for nobody");
}

void bounds() {
  Pace pace;
  pace.note(true, 0, 0.001);
  for (int i = 0; i < 60; i++) pace.note(true, pace.prompt_rows(), 10);
  expect(pace.prompt_rows() == 16, "never fewer rows than 16");
  for (int i = 0; i < 60; i++) pace.note(true, pace.prompt_rows(), 1e-6);
  expect(pace.prompt_rows() == 4096, "nor more than 4096");
  for (int i = 0; i < 60; i++) pace.note(true, 8, 10);
  expect(pace.prompt_rows() == 4096, "the end of a prompt says nothing of full chunks");
}

}  // namespace

int main() {
  beside({0.045, 0.0025}, 3, "1.1 B parameters");
  beside({0.009, 0.0006}, 3, "135 M parameters");
  beside({0.4, 0.02}, 3, "8 B parameters");
  slices();
  bounds();
  return ocelli::test::report("pace");
}
