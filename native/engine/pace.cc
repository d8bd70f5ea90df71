#include "engine/pace.h"

#include <algorithm>
#include <cmath>

namespace ocelli {
namespace {

// The gap between two tokens is to stay below this many times what it is without a prompt or a picture beside.
constexpr double kMostGap = 3;
// Of some tens of steps the longest is this many times the mean error above what is expected.
constexpr double kOfMeanError = 3;
// A step takes at most and at least so many times what the decodes take alone.
constexpr double kMostPatience = 2.5, kLeastPatience = 1.8;
// In between those who decode wait less as long as a prompt beside them takes this many times what it takes alone.
constexpr double kStretch = 1.5;
// Gaps below are not noticed: where all steps are that short, prompts are not cut finer.
constexpr double kUnnoticed = 0.015;
constexpr int32_t kFirstRows = 32, kLeastRows = 16, kMostRows = 4096;
// Rows from which on reading the weights is the smaller part of a step.
constexpr int32_t kManyRows = 64;
// Few rows cost little while the weights are read: what one costs is only trusted for so many times as many.
constexpr double kGrowth = 1.3;
// Before the decodes were seen alone, and while nobody's next token waits.
constexpr double kFirstSlice = 0.010;
constexpr double kLoneSlice = 0.050;
// Beside a prompt that takes all of the patience an encoder goes on in slices of this share of it.
constexpr double kLeastShare = 0.1;

// One step of smoothing; a step that was disturbed tells little of the next ones.
void follow(double* mean, double found) {
  constexpr double kGain = 0.2, kMost = 2;
  *mean += *mean == 0 ? found : kGain * (std::clamp(found, *mean / kMost, *mean * kMost) - *mean);
}

}  // namespace

double Pace::target() const {
  double patience = std::min(kMostPatience, kMostGap / (1 + kOfMeanError * noise_));
  if (lone_row_ > 0 && row_ > 0) {
    // With p times the decodes' time a prompt has p - 1 of p for its rows.
    const double share = row_ / (kStretch * lone_row_);
    if (share < 1) patience = std::min(patience, 1 / (1 - share));
  }
  return std::max(std::max(patience, kLeastPatience) * alone_, kUnnoticed);
}

int32_t Pace::prompt_rows() const {
  // Until a row was seen beside decodes it is taken for one alone: the first step is not to be the longest.
  const double row = row_ > 0 ? row_ : guess_;
  if (alone_ == 0 || row == 0) return kFirstRows;
  double rows = (target() - alone_) / row;
  if (rows_ > 0) rows = std::min(rows, kGrowth * rows_);
  rows = std::clamp<double>(rows, kLeastRows, kMostRows);
  // Each size has a plan of its own: few sizes are planned rarely.
  const int32_t whole = rows < kManyRows ? 4 : 8;
  return static_cast<int32_t>(rows) / whole * whole;
}

double Pace::encoder_seconds() const {
  if (!waited_) return kLoneSlice;
  if (alone_ == 0) return kFirstSlice;
  return std::max(target() - last_ - overrun_, kLeastShare * target());
}

void Pace::note(bool decodes, int32_t prompt_rows, double seconds) {
  last_ = seconds;
  waited_ = decodes;
  if (!decodes) {
    if (prompt_rows >= kManyRows) follow(&lone_row_, seconds / prompt_rows);
    if (prompt_rows >= kLeastRows) guess_ = seconds / prompt_rows;
  } else if (prompt_rows == 0) {
    follow(&alone_, seconds);
  } else if (alone_ > 0 && 2 * prompt_rows >= this->prompt_rows()) {
    const double expected = alone_ + prompt_rows * row_;
    if (row_ > 0) noise_ += 0.1 * (std::min(std::abs(seconds / expected - 1), 0.5) - noise_);
    rows_ = prompt_rows;
    follow(&row_, std::max(seconds - alone_, 0.1 * seconds) / prompt_rows);
  }
}

void Pace::note_encoder(double given, double seconds) {
  overrun_ = std::max(0.9 * overrun_, std::max(0., seconds - given));
}

}  // namespace ocelli
