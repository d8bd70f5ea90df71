// out = a + b, elementwise.
#include "ref/elementwise.h"

namespace ocelli {
namespace contract {

extern const OpContract add;
const OpContract add = {check_elementwise, true};

}  // namespace contract

namespace ref {

static void run_add(const OpCall& call) {
  run_elementwise(call, [](double a, double b) { return a + b; });
}

extern const OpImpl add;
const OpImpl add = {run_add, nullptr};

}  // namespace ref
}  // namespace ocelli
