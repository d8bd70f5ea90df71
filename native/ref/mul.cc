// out = a * b, elementwise.
#include "ref/elementwise.h"

namespace ocelli {
namespace contract {

extern const OpContract mul;
const OpContract mul = {check_elementwise, true};

}  // namespace contract

namespace ref {

static void run_mul(const OpCall& call) {
  run_elementwise(call, [](double a, double b) { return a * b; });
}

extern const OpImpl mul;
const OpImpl mul = {run_mul, nullptr};

}  // namespace ref
}  // namespace ocelli
