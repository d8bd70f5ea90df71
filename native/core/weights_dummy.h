// Seeded values in place of a checkpoint: the same for every thread count and backend.
#pragma once

#include <cstdint>
#include <string>

namespace ocelli {

// The key of one part's values.
uint64_t dummy_key(uint64_t seed, const std::string& name);

// Elements [first, first + count) of the part: normal with deviation 0.02 (four uniforms added up; the tails end at 3.5
// deviations), rounded to bf16, as most checkpoints are.
void fill_dummy(uint64_t key, int64_t first, int64_t count, float* out);

}  // namespace ocelli
