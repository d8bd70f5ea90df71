// x [N, C, H, W] -> [N, gh * gw, C * p * p]; inside a row: channel, y, x.
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_patchify(const OpCall& call) {
  const Tensor& x = call.in[0];
  const Tensor& out = call.out[0];
  int64_t patch = call.attrs->integer("patch");
  int64_t columns = x.shape[3] / patch;
  int64_t patches = out.shape[1];
  for_rows(call.pool, x.shape[0] * patches, out.shape[2], [&](int64_t row) {
    int64_t n = row / patches;
    int64_t g = row % patches;
    float* to = out.as<float>() + n * out.stride[0] + g * out.stride[1];
    const float* corner = x.as<float>() + n * x.stride[0] + g / columns * patch * x.stride[2] + g % columns * patch;
    for (int64_t c = 0; c < x.shape[1]; c++) {
      for (int64_t y = 0; y < patch; y++, to += patch) {
        std::memcpy(to, corner + c * x.stride[1] + y * x.stride[2], patch * sizeof(float));
      }
    }
  });
}

}  // namespace

extern const OpImpl patchify;
const OpImpl patchify = {run_patchify, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
