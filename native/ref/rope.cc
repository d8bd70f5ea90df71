// Rotary position embedding of x [T, heads, D] by positions [T] or [axes, T]. Su et al. 2021, arXiv:2104.09864.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_rope(const OpCall& call) {
  expect_counts(call, 3, 3, 1);
  const Tensor& x = call.in[0];
  const Tensor& positions = call.in[1];
  expect_f32(call, "x", x);
  expect_rank(call, "x", x, 3);
  expect_rows(call, "x", x);
  expect_i32(call, "positions", positions);
  expect_contiguous(call, "positions", positions);
  if (positions.rank == 1) {
    expect_shape(call, "positions", positions, {x.shape[0]});
  } else {
    expect_shape(call, "positions", positions, {-1, x.shape[0]});
  }
  int64_t rotary = call.attrs->integer("rotary");
  if (rotary < 2 || rotary % 2 != 0 || rotary > x.shape[2]) {
    fail_attr(call, "rotary", "an even number from 2 to " + std::to_string(x.shape[2]), std::to_string(rotary));
  }
  expect_f32(call, "inv_freq", call.in[2]);
  expect_shape(call, "inv_freq", call.in[2], {rotary / 2});
  expect_contiguous(call, "inv_freq", call.in[2]);
  const std::string& style = call.attrs->string("style");
  if (style != "half" && style != "pairs") fail_attr(call, "style", "'half' or 'pairs'", "'" + style + "'");
  int64_t axes = positions.rank == 1 ? 1 : positions.shape[0];
  const std::vector<double>* sections = call.attrs->list("sections");
  if (sections != nullptr) {
    double sum = 0;
    for (double section : *sections) sum += section < 0 ? -1e9 : section;
    if (static_cast<int64_t>(sections->size()) != axes || sum != static_cast<double>(rotary / 2)) {
      fail_attr(call, "sections", std::to_string(axes) + " sizes that add up to " + std::to_string(rotary / 2),
                std::to_string(sections->size()) + " that add up to " + std::to_string(sum));
    }
  } else if (axes != 1) {
    fail_attr(call, "sections", "one size per axis of positions (" + std::to_string(axes) + ")", "none");
  }
  expect_f32(call, "out", call.out[0]);
  expect_same_shape(call, "out", call.out[0], "x", x);
  expect_rows(call, "out", call.out[0]);
}

extern const OpContract rope;
const OpContract rope = {check_rope, true};

}  // namespace contract

namespace ref {

// Which axis of positions turns frequency j. M-RoPE gives each axis a run of frequencies (Qwen2-VL, arXiv:2409.12191);
// interleaved (Qwen3-VL): frequencies 1, 4, 7, ... are the second axis's and 2, 5, 8, ... the third's, as far as their
// sections reach, and the rest the first's.
static int64_t axis_of(int64_t j, const std::vector<double>* sections, bool interleaved) {
  if (sections == nullptr) return 0;
  int64_t axes = static_cast<int64_t>(sections->size());
  if (interleaved) {
    int64_t axis = j % axes;
    return static_cast<double>(j) < (*sections)[axis] * static_cast<double>(axes) ? axis : 0;
  }
  double end = 0;
  for (int64_t axis = 0; axis < axes; axis++) {
    end += (*sections)[axis];
    if (static_cast<double>(j) < end) return axis;
  }
  return axes - 1;
}

static void run_rope(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& positions = call.in[1];
  const Tensor& out = call.out[0];
  const float* inv_freq = call.in[2].as<float>();
  int64_t half = call.attrs->integer("rotary") / 2;
  bool pairs = call.attrs->string("style") == "pairs";
  bool interleaved = call.attrs->number("interleaved", 0) != 0;
  float scale = static_cast<float>(call.attrs->number("scale", 1));
  const std::vector<double>* sections = call.attrs->list("sections");
  int64_t tokens = x.shape[0];
  int64_t heads = x.shape[1];
  int64_t width = x.shape[2];
  call.pool->parallel_for(tokens * heads, [&](int64_t row, int) {
    const float* from = x.as<float>() + row_offset(x, row);
    float* to = out.as<float>() + row_offset(out, row);
    int64_t token = row / heads;
    for (int64_t j = 0; j < half; j++) {
      int32_t position = positions.as<int32_t>()[axis_of(j, sections, interleaved) * tokens + token];
      float angle = static_cast<float>(position) * inv_freq[j];
      float cosine = static_cast<float>(std::cos(static_cast<double>(angle))) * scale;
      float sine = static_cast<float>(std::sin(static_cast<double>(angle))) * scale;
      int64_t a = pairs ? 2 * j : j;
      int64_t b = pairs ? 2 * j + 1 : j + half;
      double first = from[a];
      double second = from[b];
      to[a] = static_cast<float>(first * cosine - second * sine);
      to[b] = static_cast<float>(second * cosine + first * sine);
    }
    for (int64_t d = 2 * half; d < width; d++) to[d] = from[d];
  });
}

extern const OpImpl rope;
const OpImpl rope = {run_rope, nullptr};

}  // namespace ref
}  // namespace ocelli
