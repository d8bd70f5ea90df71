// Texts made slightly wrong: what the fuzz drivers feed. The same seed gives the same text.
#pragma once

#include <new>

#include "test/expect.h"

namespace ocelli {
namespace test {

// The largest single allocation since it was set to 0, in drivers that define OCELLI_WATCH_ALLOCATIONS first.
inline size_t largest_allocation = 0;

// Numbers of which lies are made.
inline std::string number(Random& random) {
  static const char* const kNumbers[] = {"-1",
                                         "255",
                                         "65536",
                                         "2147483647",
                                         "2147483648",
                                         "4294967296",
                                         "9007199254740993",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "1e999",
                                         "0.5",
                                         "1e3",
                                         "[]",
                                         "{}",
                                         "null",
                                         "\"\"",
                                         "true"};
  return random.one_in(3) ? kNumbers[random.below(sizeof(kNumbers) / sizeof(*kNumbers))]
                          : std::to_string(random.below(20));
}

// `text` in a few arrays or objects, or in more than a reader follows.
inline std::string nested(std::string text, Random& random) {
  const int32_t depth = 1 + random.below(random.one_in(20) ? 5000 : 40);
  const bool object = random.one_in(2);
  std::string open, close;
  for (int32_t i = 0; i < depth; i++) open += object ? "{\"a\":" : "[", close += object ? "}" : "]";
  return open + text + close;
}

// One to three numbers or words by others: the text stays JSON, and says something else.
inline std::string alter(std::string text, Random& random) {
  for (int32_t changes = 1 + random.below(3); changes > 0; changes--) {
    const size_t at = random.below(static_cast<int32_t>(text.size()));
    const bool word = random.one_in(4);
    const size_t from = word ? text.find('"', at) : text.find_first_of("0123456789", at);
    if (from == std::string::npos) continue;
    const size_t end = word ? text.find('"', from + 1) : text.find_first_not_of("0123456789", from);
    if (end == std::string::npos) continue;
    if (!word) {
      text.replace(from, end - from,
                   random.one_in(20) ? nested(text.substr(from, end - from), random) : number(random));
      continue;
    }
    // Between two quotes may also be what lies between two words: then the text is no JSON any more.
    const size_t other = text.find('"', random.below(static_cast<int32_t>(text.size())));
    const size_t close = other == std::string::npos ? other : text.find('"', other + 1);
    if (close != std::string::npos) text.replace(from, end + 1 - from, text.substr(other, close + 1 - other));
  }
  return text;
}

// One to four changes: bytes, numbers, pieces repeated, moved, cut out or taken from another text.
inline std::string mutate(std::string text, const std::string& other, Random& random) {
  static const char kBytes[] = "{}[]\",:0-9eE.\\u\x00\xff\xc3\xed\xa0 \n";
  for (int32_t changes = 1 + random.below(4); changes > 0 && !text.empty(); changes--) {
    const int32_t size = static_cast<int32_t>(text.size());
    const int32_t at = random.below(size);
    const int32_t length = std::min(size - at, 1 + random.below(random.one_in(3) ? size : 24));
    switch (random.below(8)) {
      case 0:
        text[at] = static_cast<char>(text[at] ^ (1 << random.below(8)));
        break;
      case 1:
        text[at] = kBytes[random.below(sizeof(kBytes) - 1)];
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(random.below(size + 1), text.substr(at, length));
        break;
      case 4: {
        const int32_t from = random.below(static_cast<int32_t>(other.size()));
        text.insert(at, other.substr(from, 1 + random.below(40)));
        break;
      }
      case 5:
        text.resize(at);
        break;
      default: {
        // A number by another one: mostly what a lie is made of.
        size_t digit = text.find_first_of("0123456789", at);
        if (digit == std::string::npos) break;
        const size_t end = text.find_first_not_of("0123456789", digit);
        text.replace(digit, end == std::string::npos ? std::string::npos : end - digit, number(random));
      }
    }
  }
  return text;
}

}  // namespace test
}  // namespace ocelli

// The sanitizers have operators of their own.
#if defined(OCELLI_WATCH_ALLOCATIONS) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void* operator new(size_t bytes) {
  if (bytes > ocelli::test::largest_allocation) ocelli::test::largest_allocation = bytes;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif
