// The pixel kernels, without Node: for the sanitizers above all. Exact bytes are test/media's subject.
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "core/check.h"
#include "image/preprocess.h"

namespace {

using namespace ocelli;
using namespace ocelli::image;

int failures = 0;

void expect(bool ok, const char* what) {
  if (ok) return;
  ++failures;
  std::printf("FAILED %s\n", what);
}

uint32_t state = 1;
int random_below(int n) {
  state = state * 1664525u + 1013904223u;
  return static_cast<int>((static_cast<uint64_t>(state) * n) >> 32);
}

std::vector<uint8_t> noise(size_t size) {
  std::vector<uint8_t> bytes(size);
  for (uint8_t& b : bytes) b = static_cast<uint8_t>(random_below(256));
  return bytes;
}

std::string code_of(void (*body)()) {
  try {
    body();
  } catch (const Error& e) {
    return e.code();
  }
  return "";
}

constexpr Filter kFilters[] = {Filter::kNearest, Filter::kBox,     Filter::kBilinear,
                               Filter::kHamming, Filter::kBicubic, Filter::kLanczos};

// Buffers are exactly as long as they must be, so that the sanitizer sees one byte too far.
void regions_equal_the_whole() {
  for (int round = 0; round < 400; ++round) {
    const int limit = round % 4 == 0 ? 6 : 90;
    const int w = 1 + random_below(limit), h = 1 + random_below(limit);
    const int ow = round % 7 == 0 ? w : 1 + random_below(limit), oh = round % 5 == 0 ? h : 1 + random_below(limit);
    const int channels = (const int[]){1, 3, 4}[random_below(3)];
    const Filter filter = kFilters[random_below(6)];
    const PassOrder order = random_below(2) ? PassOrder::kPillow13 : PassOrder::kBefore13;
    const std::vector<uint8_t> src = noise(static_cast<size_t>(w) * h * channels);
    const PixelView view{src.data(), w, h, channels, static_cast<size_t>(w) * channels};
    const size_t stride = static_cast<size_t>(ow) * channels;
    std::vector<uint8_t> whole(stride * oh);
    resize(view, ow, oh, filter, order, {0, 0, ow, oh}, whole.data(), stride, nullptr);
    const int left = random_below(ow), top = random_below(oh);
    const Region region{left, top, 1 + random_below(ow - left), 1 + random_below(oh - top)};
    const size_t part_stride = static_cast<size_t>(region.width) * channels;
    std::vector<uint8_t> part(part_stride * region.height);
    resize(view, ow, oh, filter, order, region, part.data(), part_stride, nullptr);
    bool same = true;
    for (int y = 0; y < region.height; ++y) {
      same = same &&
             std::memcmp(part.data() + y * part_stride,
                         whole.data() + (top + y) * stride + static_cast<size_t>(left) * channels, part_stride) == 0;
    }
    expect(same, "a region equals the same part of the whole");
  }
}

void plans_stay_inside() {
  for (int round = 0; round < 400; ++round) {
    const int w = 1 + random_below(40), h = 1 + random_below(40);
    const int channels = (const int[]){1, 3, 4}[random_below(3)];
    PreprocessPlan plan;
    plan.rescale_factor = 1.0 / 255;
    plan.alpha = random_below(2) ? Alpha::kWhite : Alpha::kDrop;
    for (int i = random_below(5); i > 0; --i) {
      Step step{};
      step.kind = static_cast<Step::Kind>(random_below(3));
      step.width = 1 + random_below(50);
      step.height = 1 + random_below(50);
      step.left = random_below(80) - 40;
      step.top = random_below(80) - 40;
      step.filter = kFilters[random_below(6)];
      plan.steps.push_back(step);
    }
    const size_t count = check_plan(&plan, w, h, channels);
    std::vector<float> out(count, -1.0f);
    const std::vector<uint8_t> src = noise(static_cast<size_t>(w) * h * channels);
    preprocess(src.data(), w, h, channels, plan, out.data(), nullptr);
    bool inside = true;
    for (float x : out) inside = inside && x >= 0.0f && x <= 1.0f;
    expect(inside, "every value is written and lies within 0 to 1");
  }
}

void errors_are_coded() {
  expect(code_of([] {
           const uint8_t pixel[3] = {1, 2, 3};
           uint8_t out[3];
           resize({pixel, 1, 1, 3, 3}, 0, 1, Filter::kBox, PassOrder::kPillow13, {0, 0, 1, 1}, out, 3, nullptr);
         }) == "ERR_IMAGE_SIZE",
         "a side of 0");
  expect(code_of([] {
           const std::vector<uint8_t> src(300 * 300 * 3);
           std::vector<uint8_t> out(200 * 200 * 3);
           const std::atomic<bool> cancelled{true};
           resize({src.data(), 300, 300, 3, 900}, 200, 200, Filter::kBox, PassOrder::kPillow13, {0, 0, 200, 200},
                  out.data(), 600, &cancelled);
         }) == "ERR_ABORTED",
         "a cancelled resize");
  expect(code_of([] {
           PreprocessPlan plan;
           Step step{};
           step.kind = Step::Kind::kPad;
           step.width = step.height = kMaxSide;
           plan.steps.push_back(step);
           check_plan(&plan, 1, 1, 3);
         }) == "ERR_IMAGE_TOO_LARGE",
         "a canvas beyond reason");
}

}  // namespace

int main() {
  regions_equal_the_whole();
  plans_stay_inside();
  errors_are_coded();
  std::printf("%s\n", failures == 0 ? "image: ok" : "image: failed");
  return failures == 0 ? 0 : 1;
}
