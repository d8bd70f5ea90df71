#include "engine/pace.h"

#include <algorithm>

namespace ocelli {
namespace {

// A step beside a prompt, slice included, takes this many times what the decodes take alone: the gap is to stay below
// three times, and others' work makes some steps longer. The prompt gets over half of the time, and reads the weights
// with the decodes.
constexpr double kPatience = 2.5;
// Gaps below are not noticed: where all steps are that short, prompts are not cut finer.
constexpr double kUnnoticed = 0.015;
constexpr double kLeastRows = 16;
constexpr double kMostRows = 4096;
// Before the decodes were seen alone, and while nobody's next token waits.
constexpr double kFirstSlice = 0.010;
constexpr double kLoneSlice = 0.050;
// Beside a prompt that takes all of the patience an encoder goes on in slices of this share of it.
constexpr double kLeastShare = 0.1;

}  // namespace

double Pace::target() const { return std::max(kPatience * alone_, kUnnoticed); }

int32_t Pace::prompt_rows() const { return static_cast<int32_t>(rows_) / 8 * 8; }

double Pace::encoder_seconds() const {
  if (!waited_) return kLoneSlice;
  if (alone_ == 0) return kFirstSlice;
  return std::max(target() - last_, kLeastShare * target());
}

void Pace::note(bool decodes, int32_t prompt_rows, double seconds) {
  last_ = seconds;
  waited_ = decodes;
  if (!decodes) return;
  if (prompt_rows == 0) {
    // A step that was disturbed tells little of the next ones.
    alone_ += alone_ == 0 ? seconds : 0.2 * (std::min(seconds, 2 * alone_) - alone_);
  } else if (alone_ > 0 && 2 * prompt_rows >= rows_) {
    rows_ = std::clamp(rows_ * std::clamp(target() / seconds, 0.7, 1.25), kLeastRows, kMostRows);
  }
}

}  // namespace ocelli
