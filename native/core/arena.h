// Liveness to offsets: values that are never alive together share bytes.
#pragma once

#include <cstdint>
#include <vector>

#include "core/executor.h"
#include "core/layout.h"

namespace ocelli {

constexpr uint64_t kArenaAlignment = 64;

// Offsets of the values that ops make. `keep` and the program's outputs live to the end. In-place ops take over the
// storage of their first operand where it dies there and nothing else views it; operands of concat are made inside its
// result where their place there is dense.
ArenaPlan plan_arena(const Program& program, const std::vector<Placed>& placed, const std::vector<int32_t>& keep);

// The first and last op during which a value's bytes are needed, for tests: [first, last], outputs and kept values last
// ops.size(). Values that no op makes: {-1, -1}.
struct Lifetime {
  int32_t first = -1;
  int32_t last = -1;
};
std::vector<Lifetime> lifetimes(const Program& program, const std::vector<Placed>& placed,
                                const std::vector<int32_t>& keep);

}  // namespace ocelli
