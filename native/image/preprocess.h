// One picture from decoded pixels to the vision tower's tensor, as a plan that lib/ made says.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "image/pack.h"
#include "image/resize.h"

namespace ocelli {
namespace image {

struct Step {
  enum class Kind { kPad, kResize, kCrop };
  Kind kind;
  int width;
  int height;
  int left = 0;  // pad: where the picture lies; crop: where the cut begins, which may be outside (black)
  int top = 0;
  uint8_t fill[3] = {0, 0, 0};
  Filter filter = Filter::kNearest;
};

enum class Alpha { kDrop, kWhite };

struct PreprocessPlan {
  std::vector<Step> steps;
  bool tiled = false;
  Tiles tiles{};  // check_plan sets it where the plan is not tiled
  double rescale_factor = 1.0;
  bool has_mean = false;
  bool has_std = false;
  float mean[3] = {0, 0, 0};
  float std[3] = {1, 1, 1};
  PassOrder order = PassOrder::kPillow13;
  Alpha alpha = Alpha::kDrop;
};

// A picture that a step makes may hold so many pixels; a pad to a square of a thin strip is where it bites.
constexpr int64_t kMaxStepPixels = int64_t{1} << 27;
constexpr int kMaxRepeat = 16;

// Checks the plan against a picture's size and returns how many floats `preprocess` will write.
size_t check_plan(PreprocessPlan* plan, int width, int height, int channels);

// dst holds what check_plan said. 1 channel is repeated, of 4 the fourth is dropped or put on white first.
void preprocess(const uint8_t* src, int width, int height, int channels, const PreprocessPlan& plan, float* dst,
                const std::atomic<bool>* cancel);

}  // namespace image
}  // namespace ocelli
