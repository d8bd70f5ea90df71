// The encoder cache, and what the key of a block of keys and values depends on.
#include "engine/block_manager.h"
#include "engine/encoder_cache.h"
#include "test/expect.h"

namespace {

using namespace ocelli;

Digest digest(int32_t which) {
  Digest d{};
  d[0] = static_cast<uint8_t>(which);
  return d;
}

// Capacity 10: what is held is never dropped, what is not held is dropped only for room, the longest unused first.
void encoder_cache() {
  EncoderCache cache(10);
  EncoderCache::Entry* a = cache.insert(digest(1), 4);
  EXPECT(a != nullptr && cache.bytes() == 4 && cache.freeable() == 6);
  a->ready = true;
  EXPECT(cache.insert(digest(2), 7) == nullptr);
  cache.unpin(a);
  EXPECT(cache.find(digest(1)) == a && cache.bytes() == 4 && cache.freeable() == 10);
  cache.pin(a);
  EXPECT(cache.freeable() == 6);
  cache.unpin(a);

  EncoderCache::Entry* b = cache.insert(digest(2), 6);
  EXPECT(b != nullptr && cache.find(digest(1)) == a);
  b->ready = true;
  cache.unpin(b);
  // Five need the room of the first alone: 6 + 4 are there, and the first is the longest unused.
  EncoderCache::Entry* c = cache.insert(digest(3), 4);
  EXPECT(c != nullptr && cache.find(digest(1)) == nullptr && cache.find(digest(2)) == b);
  cache.unpin(c);
  EXPECT(cache.find(digest(3)) == nullptr);  // nobody waits for features that were never made
}

void encoder_cache_evicts_for_one_larger() {
  EncoderCache cache(10);
  EncoderCache::Entry* six = cache.insert(digest(1), 6);
  six->ready = true;
  cache.unpin(six);
  EncoderCache::Entry* five = cache.insert(digest(2), 5);
  EXPECT(five != nullptr && cache.find(digest(1)) == nullptr && cache.bytes() == 5);
  EXPECT(cache.insert(digest(3), 6) == nullptr);  // 5 + 6: the second has to wait
  EXPECT(cache.insert(digest(3), 5) != nullptr && cache.freeable() == 0);
}

void encoder_cache_keeps_what_was_used_last() {
  EncoderCache cache(3);
  EncoderCache::Entry* entry[3];
  for (int32_t i = 0; i < 3; i++) {
    entry[i] = cache.insert(digest(i), 1);
    entry[i]->ready = true;
    cache.unpin(entry[i]);
  }
  cache.pin(entry[0]);
  cache.unpin(entry[0]);
  cache.insert(digest(3), 1);
  EXPECT(cache.find(digest(0)) != nullptr && cache.find(digest(1)) == nullptr && cache.find(digest(2)) != nullptr);
  // Held twice, let go once: still held.
  cache.pin(entry[2]);
  cache.pin(entry[2]);
  cache.unpin(entry[2]);
  EXPECT(cache.insert(digest(4), 2) == nullptr && cache.find(digest(2)) != nullptr);
}

// A request of 20 tokens with the first picture at 0 + 5 and the second at 10 + 5.
Request request(int32_t first, int32_t from, int32_t second) {
  Request r;
  r.prompt.resize(20, 7);
  for (auto [hash, start] : {std::pair<int32_t, int32_t>{first, from}, {second, 10}}) {
    Item item;
    item.hash = digest(hash);
    item.rows = 5;
    item.ranges.push_back({start, 5});
    r.items.push_back(item);
  }
  return r;
}

Digest key(const Request& r, int32_t start, int32_t end) {
  return BlockManager::block_key(digest(99), r, r.prompt.data(), start, end - start);
}

// Which parts of the request the key of tokens [start, end) depends on.
std::string depends(int32_t start, int32_t end) {
  const Digest usual = key(request(1, 0, 2), start, end);
  std::string parts;
  if (key(request(9, 0, 2), start, end) != usual) parts += "first ";
  if (key(request(1, 1, 2), start, end) != usual) parts += "place ";
  if (key(request(1, 0, 9), start, end) != usual) parts += "second ";
  return parts;
}

void block_keys_name_the_pictures_in_them() {
  EXPECT(depends(0, 5) == "first place ");
  EXPECT(depends(3, 8) == "first place ");
  EXPECT(depends(6, 10) == "");
  EXPECT(depends(0, 15) == "first place second ");
  EXPECT(depends(10, 15) == "second ");
  EXPECT(depends(15, 20) == "");
  EXPECT(key(request(1, 0, 2), 0, 5) != key(request(1, 0, 2), 5, 10));
  // [3, 8) begins inside the picture: other rows of it than a block that begins with it.
  EXPECT(key(request(1, 3, 2), 3, 8) != key(request(1, 0, 2), 3, 8));
}

void block_keys_see_what_lies_behind_in_a_span() {
  Request r = request(1, 0, 2);
  const Digest causal = key(r, 4, 8);
  r.atomic.push_back({6, 6});
  const Digest spanned = key(r, 4, 8);
  EXPECT(spanned != causal);
  EXPECT(key(r, 0, 4) == key(request(1, 0, 2), 0, 4));
  r.prompt[11] = 8;  // the span's last token
  EXPECT(key(r, 4, 8) != spanned);
  r.prompt[11] = 7;
  r.prompt[12] = 8;
  EXPECT(key(r, 4, 8) == spanned);
  r.items[1].hash = digest(3);  // at 10, in the span
  EXPECT(key(r, 4, 8) != spanned);
}

void block_keys_depend_on_positions_and_all_before() {
  Request r = request(1, 0, 2);
  const Digest plain = key(r, 8, 12);
  for (int32_t i = 0; i < 40; i++) r.positions.push_back(i % 20);
  const Digest positioned = key(r, 8, 12);
  EXPECT(positioned != plain);
  r.positions[20 + 9]++;  // the second axis
  EXPECT(key(r, 8, 12) != positioned);
  EXPECT(BlockManager::block_key(digest(98), r, r.prompt.data(), 8, 4) != key(r, 8, 12));
}

}  // namespace

int main() {
  encoder_cache();
  encoder_cache_evicts_for_one_larger();
  encoder_cache_keeps_what_was_used_last();
  block_keys_name_the_pictures_in_them();
  block_keys_see_what_lies_behind_in_a_span();
  block_keys_depend_on_positions_and_all_before();
  return ocelli::test::report("caches");
}
