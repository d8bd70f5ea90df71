// Guesses of the next tokens without a second model.
#pragma once

#include <cstdint>
#include <vector>

namespace ocelli {

// What followed the latest earlier place where the last n tokens stood, for the largest n of lookup_max .. 2 that has
// one: at most `most` tokens (prompt lookup decoding, Saxena 2023).
std::vector<int32_t> draft_by_lookup(const std::vector<int32_t>& tokens, int32_t lookup_max, int32_t most);

}  // namespace ocelli
