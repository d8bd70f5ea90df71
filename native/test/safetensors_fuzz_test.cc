// Headers of safetensors files, slightly wrong: each is refused with a code of checkpoints or describes exactly the
// bytes that are there, and none costs more memory than a few times itself. `safetensors_fuzz_test N SEED` tries N.
#define OCELLI_WATCH_ALLOCATIONS
#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "core/safetensors.h"
#include "test/mutate.h"

namespace {

using namespace ocelli;
using test::Random;

const std::pair<const char*, uint64_t> kTypes[] = {{"F32", 32}, {"BF16", 16}, {"F16", 16}, {"I64", 64},
                                                   {"U8", 8},   {"BOOL", 8},  {"F4", 4},   {"F8_E4M3", 8}};

uint64_t bits_of(const std::string& dtype) {
  for (const auto& type : kTypes) {
    if (dtype == type.first) return type.second;
  }
  return 0;  // another one of the format
}

// A header that is right, and the bytes of data that it describes.
std::string header(Random& random, uint64_t* data) {
  std::string text = random.one_in(2) ? "{\"__metadata__\":{\"format\":\"pt\"}" : "{";
  uint64_t at = 0;
  for (int32_t i = 0, count = random.below(6); i < count; i++) {
    const auto& type = kTypes[random.below(8)];
    uint64_t bits = type.second;
    std::string shape;
    for (int32_t d = 0, rank = random.below(4); d < rank; d++) {
      const int32_t size = 2 * random.below(4);
      bits *= size;
      shape += (d > 0 ? "," : "") + std::to_string(size);
    }
    if (bits % 8 != 0) bits = 0, shape = "0";
    text += std::string(text.size() > 1 ? "," : "") + "\"layers." + std::to_string(i) + ".weight\":{\"dtype\":\"" +
            type.first + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(at) + "," +
            std::to_string(at + bits / 8) + "]}";
    at += bits / 8;
  }
  *data = at;
  return text + "}";
}

// What a file that is taken promises.
bool holds(const SafetensorsFile& file, uint64_t bytes) {
  uint64_t at = 0;
  for (const SafetensorsEntry& entry : file.entries) {
    if (entry.begin != at || entry.end < entry.begin) return false;
    uint64_t bits = bits_of(entry.dtype);
    for (int64_t size : entry.shape) {
      if (size < 0) return false;
      bits *= static_cast<uint64_t>(size);
    }
    if (bits_of(entry.dtype) != 0 && entry.end - entry.begin != bits / 8) return false;
    at = entry.end;
  }
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : file.entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  return file.data_offset + at == bytes && std::unique(names.begin(), names.end()) == names.end();
}

struct Counts {
  int64_t taken = 0, format = 0, truncated = 0;
};

void one(Random& random, Counts* counts) {
  uint64_t data, unused;
  const std::string whole = header(random, &data);
  const bool spoiled = !random.one_in(50);
  const std::string text = !spoiled           ? whole
                           : random.one_in(2) ? test::mutate(whole, header(random, &unused), random)
                                              : test::alter(whole, random);
  uint64_t length = text.size();
  if (spoiled && random.one_in(10)) length = random.one_in(2) ? random.next() : random.below(200);
  uint64_t bytes = 8 + text.size() + data;
  if (spoiled && random.one_in(20)) bytes += random.one_in(4) ? random.next() : 1 - 2 * random.next() % 8;
  // As long as the head of the file and no longer, on the heap: one byte too far is seen.
  const size_t size = 8 + text.size();
  std::unique_ptr<char[]> head(new char[size]);
  for (int32_t i = 0; i < 8; i++) head[i] = static_cast<char>(length >> (8 * i));
  std::copy(text.begin(), text.end(), head.get() + 8);
  test::largest_allocation = 0;
  std::string code;
  try {
    const SafetensorsFile file = read_safetensors(std::string_view(head.get(), size), bytes, "the file");
    test::expect(holds(file, bytes), "a file was taken that does not hold together: " + text);
    counts->taken++;
  } catch (const Error& e) {
    code = e.code();
    if (code == "ERR_CHECKPOINT_TRUNCATED") counts->truncated++;
    if (code == "ERR_CHECKPOINT_FORMAT") counts->format++;
    test::expect(code == "ERR_CHECKPOINT_TRUNCATED" || code == "ERR_CHECKPOINT_FORMAT", "the code " + code);
    test::expect(std::string(e.what()).size() < 10000, "an error as long as its file");
  }
  test::expect(spoiled || code.empty(), "a whole file was refused: " + text);
  test::expect(test::largest_allocation < 16 * (size + 4096), "more memory than a few times the header: " + text);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t rounds = test::repeats(argc, argv, 100000, 20000000);
  Random random(test::seed(argc, argv, 20));
  Counts counts;
  const auto started = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < rounds && test::failures < 10; i++) one(random, &counts);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  std::printf("%lld headers: %lld taken, %lld refused by format, %lld cut short; %.0f a second\n",
              static_cast<long long>(rounds), static_cast<long long>(counts.taken),
              static_cast<long long>(counts.format), static_cast<long long>(counts.truncated),
              static_cast<double>(rounds) / seconds);
  test::expect(rounds < 1000 || (counts.taken > rounds / 1000 && counts.format > rounds / 4), "too little variety");
  return test::report("safetensors_fuzz");
}
