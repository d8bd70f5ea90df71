#include "image/preprocess.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/check.h"

namespace ocelli {
namespace image {
namespace {

std::string size_text(int64_t width, int64_t height) { return std::to_string(width) + "x" + std::to_string(height); }

// A picture: either a view of somebody's bytes or one that owns them.
struct Picture {
  PixelView view;
  std::unique_ptr<uint8_t[]> bytes;
};

Picture blank(int width, int height, const uint8_t fill[3]) {
  const size_t stride = static_cast<size_t>(width) * 3;
  Picture picture{{nullptr, width, height, 3, stride}, std::unique_ptr<uint8_t[]>(new uint8_t[stride * height])};
  picture.view.data = picture.bytes.get();
  if (fill[0] == fill[1] && fill[1] == fill[2]) {
    std::memset(picture.bytes.get(), fill[0], stride * height);
    return picture;
  }
  for (size_t i = 0; i < stride; i += 3) std::memcpy(picture.bytes.get() + i, fill, 3);
  for (int y = 1; y < height; ++y) std::memcpy(picture.bytes.get() + y * stride, picture.bytes.get(), stride);
  return picture;
}

// The value on white is round-half-up of (v*a + 255*(255-a)) / 255, as Pillow's alpha compositing of a solid ground.
Picture to_rgb(const uint8_t* src, int width, int height, int channels, Alpha alpha) {
  Picture picture{{src, width, height, 3, static_cast<size_t>(width) * 3}, nullptr};
  if (channels == 3) return picture;
  const size_t pixels = static_cast<size_t>(width) * height;
  picture.bytes.reset(new uint8_t[pixels * 3]);
  picture.view.data = picture.bytes.get();
  uint8_t* out = picture.bytes.get();
  for (size_t i = 0; i < pixels; ++i, out += 3, src += channels) {
    for (int c = 0; c < 3; ++c) {
      const int v = channels == 1 ? src[0] : src[c];
      const int a = channels == 4 && alpha == Alpha::kWhite ? src[3] : 255;
      out[c] = static_cast<uint8_t>((2 * (v * a + 255 * (255 - a)) + 255) / 510);
    }
  }
  return picture;
}

// Where a picture of width x height lies on the canvas of a pad or crop step.
Region visible(const Step& step, int width, int height, int* dst_left, int* dst_top) {
  const int64_t at_x = step.kind == Step::Kind::kPad ? step.left : -static_cast<int64_t>(step.left);
  const int64_t at_y = step.kind == Step::Kind::kPad ? step.top : -static_cast<int64_t>(step.top);
  const int64_t x0 = std::max<int64_t>(0, -at_x), x1 = std::min<int64_t>(width, step.width - at_x);
  const int64_t y0 = std::max<int64_t>(0, -at_y), y1 = std::min<int64_t>(height, step.height - at_y);
  if (x1 <= x0 || y1 <= y0) return {0, 0, 0, 0};
  *dst_left = static_cast<int>(x0 + at_x);
  *dst_top = static_cast<int>(y0 + at_y);
  return {static_cast<int>(x0), static_cast<int>(y0), static_cast<int>(x1 - x0), static_cast<int>(y1 - y0)};
}

Picture place(Picture picture, const Step& step) {
  int left = 0, top = 0;
  const Region part = visible(step, picture.view.width, picture.view.height, &left, &top);
  if (part.width == step.width && part.height == step.height) {  // a cut inside the picture: no copy
    picture.view.data += static_cast<size_t>(part.top) * picture.view.stride + static_cast<size_t>(part.left) * 3;
    picture.view.width = step.width;
    picture.view.height = step.height;
    return picture;
  }
  Picture canvas = blank(step.width, step.height, step.fill);
  for (int y = 0; y < part.height; ++y) {
    std::memcpy(canvas.bytes.get() + static_cast<size_t>(top + y) * canvas.view.stride + static_cast<size_t>(left) * 3,
                picture.view.data + static_cast<size_t>(part.top + y) * picture.view.stride +
                    static_cast<size_t>(part.left) * 3,
                static_cast<size_t>(part.width) * 3);
  }
  return canvas;
}

// A resize, straight into the canvas of the pad or crop that follows it (or its own): only what stays is computed.
Picture resize_into(const Picture& picture, const Step& step, const Step* next, PassOrder order,
                    const std::atomic<bool>* cancel) {
  static constexpr uint8_t kBlack[3] = {0, 0, 0};
  int left = 0, top = 0;
  Region part{0, 0, step.width, step.height};
  if (next != nullptr) part = visible(*next, step.width, step.height, &left, &top);
  Picture canvas =
      next != nullptr ? blank(next->width, next->height, next->fill) : blank(step.width, step.height, kBlack);
  uint8_t* dst = canvas.bytes.get() + static_cast<size_t>(top) * canvas.view.stride + static_cast<size_t>(left) * 3;
  resize(picture.view, step.width, step.height, step.filter, order, part, dst, canvas.view.stride, cancel);
  return canvas;
}

}  // namespace

size_t check_plan(PreprocessPlan* plan, int width, int height, int channels) {
  const auto check_size = [](int w, int h, const char* what) {
    if (w < 1 || h < 1 || w > kMaxSide || h > kMaxSide) {
      throw Error("ERR_IMAGE_SIZE", std::string("Expected sides of 1 to ") + std::to_string(kMaxSide) + " for " + what +
                                        " but received " + size_text(w, h));
    }
    if (static_cast<int64_t>(w) * h > kMaxStepPixels) {
      throw Error("ERR_IMAGE_TOO_LARGE",
                  std::string("Expected at most ") + std::to_string(kMaxStepPixels) + " pixels for " + what +
                      " but received " + size_text(w, h),
                  "Use a picture whose sides differ less.");
    }
  };
  if (channels != 1 && channels != 3 && channels != 4) {
    throw Error("ERR_IMAGE_SIZE", "Expected 1, 3 or 4 channels for a picture but received " + std::to_string(channels));
  }
  check_size(width, height, "a picture");
  for (const Step& step : plan->steps) {
    check_size(step.width, step.height, "a preprocessing step");
    width = step.width;
    height = step.height;
  }
  if (!plan->tiled) plan->tiles = {width, height, 1, 1};
  const Tiles& tiles = plan->tiles;
  if (tiles.width < 1 || tiles.height < 1 || tiles.cols < 1 || tiles.rows < 1 ||
      static_cast<int64_t>(tiles.width) * tiles.cols != width ||
      static_cast<int64_t>(tiles.height) * tiles.rows != height) {
    throw Error("ERR_IMAGE_SIZE", "Expected tiles that fill " + size_text(width, height) + " exactly but received " +
                                      size_text(tiles.cols, tiles.rows) + " tiles of " +
                                      size_text(tiles.width, tiles.height));
  }
  if (tiles.square < 1 || tiles.cols % tiles.square != 0 || tiles.rows % tiles.square != 0 || tiles.repeat < 1 ||
      tiles.repeat > kMaxRepeat) {
    throw Error("ERR_IMAGE_SIZE", "Expected squares that fill " + size_text(tiles.cols, tiles.rows) +
                                      " tiles, and 1 to " + std::to_string(kMaxRepeat) + " repeats, but received " +
                                      std::to_string(tiles.square) + " and " + std::to_string(tiles.repeat));
  }
  return static_cast<size_t>(width) * height * 3 * tiles.repeat;
}

void preprocess(const uint8_t* src, int width, int height, int channels, const PreprocessPlan& plan, float* dst,
                const std::atomic<bool>* cancel) {
  Picture picture = to_rgb(src, width, height, channels, plan.alpha);
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const Step& step = plan.steps[i];
    if (step.kind == Step::Kind::kResize) {
      const bool fused = i + 1 < plan.steps.size() && plan.steps[i + 1].kind != Step::Kind::kResize;
      picture = resize_into(picture, step, fused ? &plan.steps[i + 1] : nullptr, plan.order, cancel);
      if (fused) ++i;
    } else {
      picture = place(std::move(picture), step);
    }
  }
  const ValueTable table =
      make_value_table(plan.rescale_factor, plan.has_mean ? plan.mean : nullptr, plan.has_std ? plan.std : nullptr);
  pack(picture.view, table, plan.tiles, dst);
}

}  // namespace image
}  // namespace ocelli
