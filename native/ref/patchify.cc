// x [N, C, H, W] -> [N, gh * gw, C * p * p]: a convolution of stride = kernel = p becomes a linear layer. Inside a row:
// channel, y, x, the order of the convolution's weight.
#include "ref/contract.h"
#include "ref/reference.h"

namespace ocelli {
namespace contract {

static void check_patchify(const OpCall& call) {
  expect_counts(call, 1, 1, 1);
  const Tensor& x = call.in[0];
  expect_f32(call, "x", x);
  expect_rank(call, "x", x, 4);
  expect_rows(call, "x", x);
  int64_t patch = call.attrs->integer("patch");
  if (patch < 1 || patch > 4096) fail_attr(call, "patch", "1 to 4096", std::to_string(patch));
  expect_f32(call, "out", call.out[0]);
  expect_shape(call, "out", call.out[0],
               {x.shape[0], (x.shape[2] / patch) * (x.shape[3] / patch), x.shape[1] * patch * patch});
  expect_rows(call, "out", call.out[0]);
}

extern const OpContract patchify;
const OpContract patchify = {check_patchify, false};

}  // namespace contract

namespace ref {

static void run_patchify(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  int64_t patch = call.attrs->integer("patch");
  int64_t columns = x.shape[3] / patch;
  for (int64_t n = 0; n < x.shape[0]; n++) {
    for (int64_t g = 0; g < out.shape[1]; g++) {
      float* to = out.as<float>() + n * out.stride[0] + g * out.stride[1];
      for (int64_t c = 0; c < x.shape[1]; c++) {
        for (int64_t py = 0; py < patch; py++) {
          for (int64_t px = 0; px < patch; px++) {
            int64_t y = g / columns * patch + py;
            int64_t column = g % columns * patch + px;
            *to++ = x.as<float>()[n * x.stride[0] + c * x.stride[1] + y * x.stride[2] + column * x.stride[3]];
          }
        }
      }
    }
  }
}

extern const OpImpl patchify;
const OpImpl patchify = {run_patchify, nullptr};

}  // namespace ref
}  // namespace ocelli
