// Guesses by lookup.
#include "engine/draft.h"

#include "test/expect.h"

using ocelli::draft_by_lookup;
using Ids = std::vector<int32_t>;

int main() {
  using ocelli::test::expect;
  expect(draft_by_lookup({1, 2, 3, 4, 5, 2, 3}, 4, 2) == Ids({4, 5}), "what followed the last two tokens before");
  expect(draft_by_lookup({1, 2, 3, 4, 1, 2, 5, 1, 2}, 4, 3) == Ids({5, 1, 2}), "the latest place wins among equals");
  expect(draft_by_lookup({9, 1, 2, 3, 8, 1, 2, 7, 9, 1, 2}, 4, 1) == Ids({3}), "a longer match wins over a later one");
  expect(draft_by_lookup({9, 1, 2, 3, 8, 1, 2, 7, 9, 1, 2}, 2, 1) == Ids({7}), "no longer than lookup_max");
  expect(draft_by_lookup({5, 5, 5, 5}, 4, 8) == Ids({5}), "a run guesses its own next token");
  expect(draft_by_lookup({1, 2, 3, 4, 5, 3}, 4, 4).empty(), "one token alone is no match");
  expect(draft_by_lookup({1, 2, 3, 4, 5, 2, 3}, 4, 0).empty(), "no room, no guess");
  expect(draft_by_lookup({}, 4, 4).empty() && draft_by_lookup({1, 2}, 4, 4).empty(), "too short to look anything up");
  return ocelli::test::report("draft");
}
