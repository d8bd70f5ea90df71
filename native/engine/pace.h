// How much else happens between two tokens of those who decode: rows of prompts, slices of encoders. It goes by the
// time that steps take on this machine, so when something runs is not repeatable; what comes out is, since no result
// depends on how a prompt is cut.
#pragma once

#include <cstdint>

namespace ocelli {

class Pace {
 public:
  // Rows of prompts that may share the next step with decoding sequences.
  int32_t prompt_rows() const;
  // How long an encoder may run after the step that was noted last, in seconds.
  double encoder_seconds() const;
  // A step took `seconds`: of sequences that decode, or of none; of so many rows of prompts.
  void note(bool decodes, int32_t prompt_rows, double seconds);
  // An encoder that was given so many seconds stopped only after `seconds`.
  void note_encoder(double given, double seconds);

 private:
  double target() const;

  double alone_ = 0;     // seconds of a step of decodes alone, smoothed; 0: none was seen
  double row_ = 0;       // seconds that a prompt's row adds to such a step, smoothed; 0: none was seen
  double guess_ = 0;     // and that one took where nobody decoded
  double lone_row_ = 0;  // of many such, smoothed
  int32_t rows_ = 0;     // in the last such step
  double noise_ = 0;     // how far steps are from what was expected of them, as a share of it
  double overrun_ = 0;   // seconds that an encoder goes on after its slice, until its op ends
  double last_ = 0;      // seconds of the last step
  bool waited_ = false;  // somebody's next token came with it
};

}  // namespace ocelli
