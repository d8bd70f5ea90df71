// GGUF headers slightly wrong: whatever the bytes say, the reader throws a coded error or gives tensors and values that
// lie in the file. Run under AddressSanitizer, reading one byte beyond is a failure. `gguf_fuzz_test N SEED` tries N inputs.
#include <chrono>
#include <ctime>
#include <string>
#include <vector>

#include "core/gguf.h"
#include "test/expect.h"

namespace {

using namespace ocelli;
using test::Random;

// Exactly as many bytes as the input has, so that the sanitizer sees the first one beyond.
class Input {
 public:
  explicit Input(const std::string& bytes) : bytes_(bytes.begin(), bytes.end()) { bytes_.shrink_to_fit(); }
  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::vector<char> bytes_;
};

// What a number of the header says, so that lies can be told where they matter.
enum class Says { kCount, kLength, kType, kSize, kOffset, kValue };

struct Field {
  size_t at;
  size_t bytes;
  Says says;
};

// A value of the metadata or a tensor, behind its name.
struct Entry {
  size_t begin;
  size_t value;
  size_t end;
};

struct File {
  std::string bytes;
  std::vector<Field> fields;
  std::vector<Entry> entries;

  template <class T>
  void number(T value, Says says) {
    fields.push_back({bytes.size(), sizeof(T), says});
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void string(const std::string& text) {
    number<uint64_t>(text.size(), Says::kLength);
    bytes += text;
  }
  template <class Write>
  void entry(const std::string& name, const Write& write) {
    size_t begin = bytes.size();
    string(name);
    size_t value = bytes.size();
    write();
    entries.push_back({begin, value, bytes.size()});
  }
};

// A valid file with values of every type, arrays of some, and tensors of some formats.
File valid_file(Random* random) {
  constexpr uint32_t kString = 8, kArray = 9;
  File file;
  file.bytes = "GGUF";
  file.number<uint32_t>(random->one_in(4) ? 2 : 3, Says::kValue);
  uint64_t tensors = random->below(4);
  file.number<uint64_t>(tensors, Says::kCount);
  file.number<uint64_t>(15, Says::kCount);
  const uint32_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  auto elements = [&](uint32_t type, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
      if (type == kString) file.string(std::string(random->below(8), 'x'));
      file.bytes.append(sizes[type], '\1');
    }
  };
  auto array = [&](uint32_t type, uint64_t count) {
    file.number<uint32_t>(kArray, Says::kType);
    file.number<uint32_t>(type, Says::kType);
    file.number<uint64_t>(count, Says::kCount);
    elements(type, count);
  };
  for (uint32_t type = 0; type < 13; type++) {
    file.entry("key." + std::to_string(type), [&] {
      if (type == kArray) return array(random->one_in(2) ? kString : random->below(8), random->below(5));
      file.number<uint32_t>(type, Says::kType);
      elements(type, 1);
    });
  }
  uint32_t alignment = 1u << random->below(7);
  file.entry("general.alignment", [&] {
    file.number<uint32_t>(4, Says::kType);
    file.number<uint32_t>(alignment, Says::kValue);
  });
  file.entry("tokens", [&] { array(kString, 3); });
  const struct {
    uint32_t id, elements, bytes;
  } formats[] = {{0, 1, 4}, {1, 1, 2}, {3, 32, 20}, {8, 32, 34}, {12, 256, 144}, {14, 256, 210}};
  uint64_t at = 0;
  for (uint64_t i = 0; i < tensors; i++) {
    const auto& format = formats[random->below(6)];
    uint64_t rows = 1 + random->below(3);
    file.entry("tensor." + std::to_string(i), [&] {
      file.number<uint32_t>(2, Says::kCount);
      file.number<uint64_t>(format.elements, Says::kSize);
      file.number<uint64_t>(rows, Says::kSize);
      file.number<uint32_t>(format.id, Says::kType);
      file.number<uint64_t>(at, Says::kOffset);
    });
    at += (rows * format.bytes + alignment - 1) / alignment * alignment;
  }
  file.bytes.resize((file.bytes.size() + alignment - 1) / alignment * alignment + at);
  return file;
}

const uint64_t kHostile[] = {0,          1,          0x7f,       0xff,      0xffff,     1u << 30,   0x7fffffff,
                             0xffffffff, 1ull << 32, 1ull << 61, INT64_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - 31};

// Another number for a field: one near it, one of the same kind from elsewhere, or one that overflows what is reckoned.
void lie(Random* random, File* file, const Field& field) {
  uint64_t value = 0;
  std::memcpy(&value, &file->bytes[field.at], field.bytes);
  switch (random->below(4)) {
    case 0:
      value += random->one_in(2) ? 1 + random->below(3) : -1 - random->below(3);
      break;
    case 1:
      value = field.says == Says::kType ? random->below(42) : random->below(300);
      break;
    case 2: {
      const Field& other = file->fields[random->below(static_cast<int32_t>(file->fields.size()))];
      value = 0;
      std::memcpy(&value, &file->bytes[other.at], other.bytes);
      break;
    }
    default:
      value = kHostile[random->below(14)] >> random->below(2) * 3;
  }
  std::memcpy(&file->bytes[field.at], &value, field.bytes);
}

// Changes that know what lies where: numbers that lie, arrays in arrays, entries twice or absent.
void mislead(Random* random, File* file) {
  for (int32_t i = random->below(3); i >= 0; i--)
    lie(random, file, file->fields[random->below(static_cast<int32_t>(file->fields.size()))]);
  const Entry& entry = file->entries[random->below(static_cast<int32_t>(file->entries.size()))];
  switch (random->below(8)) {
    case 0: {
      const Entry& other = file->entries[random->below(static_cast<int32_t>(file->entries.size()))];
      file->bytes.insert(other.begin, file->bytes.substr(entry.begin, entry.end - entry.begin));
      break;
    }
    case 1:
      file->bytes.erase(entry.begin, entry.end - entry.begin);
      break;
    case 2: {  // an array of arrays of arrays: each begins with the type of its elements and their count
      std::string nest("\11\0\0\0", 4);
      for (int32_t depth = random->below(random->one_in(50) ? 4000 : 8); depth >= 0; depth--)
        nest += std::string("\11\0\0\0\1\0\0\0\0\0\0\0", 12);
      file->bytes.insert(entry.value, nest);
      break;
    }
    default:
      break;
  }
}

// Changes of bytes wherever they lie.
void mutate(Random* random, std::string* bytes) {
  int32_t count = 1 + random->below(4);
  for (int32_t i = 0; i < count; i++) {
    if (bytes->empty()) return;
    size_t at = random->next() % bytes->size();
    switch (random->below(6)) {
      case 0:
        (*bytes)[at] = static_cast<char>((*bytes)[at] ^ 1 << random->below(8));
        break;
      case 1:
        (*bytes)[at] = static_cast<char>(random->next());
        break;
      case 2:
        bytes->resize(at);
        break;
      case 3: {
        uint64_t value = kHostile[random->below(14)];
        for (size_t b = 0; b < 8 && at + b < bytes->size(); b++) (*bytes)[at + b] = static_cast<char>(value >> (8 * b));
        break;
      }
      case 4:
        bytes->erase(at, 1 + random->next() % 16);
        break;
      default:
        bytes->insert(at, bytes->substr(random->next() % bytes->size(), random->next() % 48));
    }
  }
}

// Everything that the reader gave is read, as the binding and the weights do.
bool read_all(std::string_view bytes) {
  GgufFile file;
  try {
    file = read_gguf(bytes, "input");
  } catch (const Error& error) {
    EXPECT(error.code() == "ERR_CHECKPOINT_FORMAT" || error.code() == "ERR_CHECKPOINT_TRUNCATED");
    return false;
  }
  double sum = 0;
  for (const GgufValue& value : file.metadata) {
    EXPECT(value.bytes.data() >= bytes.data() &&
           value.bytes.data() + value.bytes.size() <= bytes.data() + bytes.size());
    GgufElements elements(value);
    for (uint64_t i = 0; i < value.count; i++) {
      sum += value.type == GgufType::kString ? static_cast<double>(elements.string().size()) : elements.number();
    }
  }
  for (const GgufTensor& tensor : file.tensors) {
    if (!EXPECT(tensor.offset <= bytes.size() && tensor.bytes <= bytes.size() - tensor.offset)) continue;
    int64_t count = 1;
    for (int64_t size : tensor.shape) count *= size;
    EXPECT(static_cast<uint64_t>(count / tensor.format->elements * tensor.format->bytes) == tensor.bytes);
    if (tensor.format->decode == nullptr || count == 0) continue;
    std::vector<float> values(static_cast<size_t>(count));
    decode_blocks(*tensor.format, bytes.data() + tensor.offset, 0, count, values.data());
    sum += values.back();
  }
  volatile double sink = sum;  // keeps the reads
  (void)sink;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  int64_t inputs = test::repeats(argc, argv, 200'000, 3'000'000);
  Random random(test::seed(argc, argv, 20261124));
  int64_t valid = 0;
  auto start = std::chrono::steady_clock::now();
  double slowest = 0;
  for (int64_t i = 0; i < inputs; i++) {
    File file = valid_file(&random);
    if (i % 16 == 0) EXPECT(read_all(Input(file.bytes).view()));
    if (i % 16 != 0 && i % 2 == 0) mislead(&random, &file);
    if (i % 16 != 0 && i % 4 != 2) mutate(&random, &file.bytes);
    Input input(file.bytes);
    std::clock_t begin = std::clock();  // of the processor: the machine may have other things to do
    valid += read_all(input.view()) ? 1 : 0;
    slowest = std::max(slowest, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%lld inputs, %lld of them valid, %.0f a second, the slowest %.1f ms\n", static_cast<long long>(inputs),
              static_cast<long long>(valid), static_cast<double>(inputs) / seconds, slowest * 1000);
  // A mutation that never gets through tests the first check alone; one that always does tests nothing.
  EXPECT(valid > inputs / 16 && valid < inputs / 2);
  EXPECT(slowest < 1);
  return test::report("gguf_fuzz_test");
}
