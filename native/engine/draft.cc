#include "engine/draft.h"

#include <algorithm>

namespace ocelli {

std::vector<int32_t> draft_by_lookup(const std::vector<int32_t>& tokens, int32_t lookup_max, int32_t most) {
  // One token that stood before says too little: most such guesses are wrong.
  constexpr int32_t kLeast = 2;
  const int32_t length = static_cast<int32_t>(tokens.size());
  if (most <= 0 || length <= kLeast) return {};
  int32_t best = 0, best_end = 0;
  // Each end of an earlier n-gram, the latest first: how many tokens before it agree with the last ones.
  for (int32_t end = length - 1; end >= kLeast && best < lookup_max; end--) {
    int32_t same = 0;
    while (same < lookup_max && same < end && tokens[end - 1 - same] == tokens[length - 1 - same]) same++;
    if (same > best) {
      best = same;
      best_end = end;
    }
  }
  if (best < kLeast) return {};
  const auto first = tokens.begin() + best_end;
  return std::vector<int32_t>(first, first + std::min(most, length - best_end));
}

}  // namespace ocelli
