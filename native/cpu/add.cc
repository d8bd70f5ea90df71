// out = a + b, elementwise.
#include "cpu/elementwise.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

void run_add(const OpCall& call) {
  run_elementwise(call, [](Vec a, Vec b) { return a + b; });
}

}  // namespace

extern const OpImpl add;
const OpImpl add = {run_add, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
