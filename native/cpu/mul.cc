// out = a * b, elementwise.
#include "cpu/elementwise.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_mul(const OpCall& call) {
  run_elementwise(call, [](Vec a, Vec b) { return a * b; });
}

}  // namespace

extern const OpImpl mul;
const OpImpl mul = {run_mul, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
