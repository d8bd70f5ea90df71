// Mutated GGUF headers: whatever the bytes say, the reader throws a coded error or gives tensors and values that lie in
// the file. Run under AddressSanitizer, reading one byte beyond is a failure. `gguf_fuzz_test N` tries N inputs.
#include <chrono>
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

template <class T>
void append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void append_string(std::string* out, const std::string& text) {
  append<uint64_t>(out, text.size());
  *out += text;
}

// A valid file with values of every type, arrays of some, and tensors of some formats.
std::string valid_file(Random* random) {
  std::string out = "GGUF";
  append<uint32_t>(&out, random->one_in(4) ? 2 : 3);
  uint64_t tensors = random->below(4);
  append<uint64_t>(&out, tensors);
  append<uint64_t>(&out, 15);
  const uint32_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  for (uint32_t type = 0; type < 13; type++) {
    append_string(&out, "key." + std::to_string(type));
    if (type == 9) {
      uint32_t element = random->below(13);
      if (element == 9) element = 8;
      uint64_t count = random->below(5);
      append<uint32_t>(&out, 9);
      append<uint32_t>(&out, element);
      append<uint64_t>(&out, count);
      for (uint64_t i = 0; i < count; i++) {
        if (element == 8) append_string(&out, "word");
        out.append(sizes[element], '\1');
      }
    } else {
      append<uint32_t>(&out, type);
      if (type == 8) append_string(&out, "a value");
      out.append(sizes[type], '\0');
    }
  }
  append_string(&out, "general.alignment");
  append<uint32_t>(&out, 4);
  uint32_t alignment = 1u << random->below(7);
  append<uint32_t>(&out, alignment);
  append_string(&out, "tokens");
  append<uint32_t>(&out, 9);
  append<uint32_t>(&out, 8);
  append<uint64_t>(&out, 3);
  for (int i = 0; i < 3; i++) append_string(&out, std::string(i, 'x'));
  const struct {
    uint32_t id, elements, bytes;
  } formats[] = {{0, 1, 4}, {1, 1, 2}, {3, 32, 20}, {8, 32, 34}, {12, 256, 144}, {14, 256, 210}};
  uint64_t at = 0;
  for (uint64_t i = 0; i < tensors; i++) {
    const auto& format = formats[random->below(6)];
    uint64_t rows = 1 + random->below(3);
    append_string(&out, "tensor." + std::to_string(i));
    append<uint32_t>(&out, 2);
    append<uint64_t>(&out, format.elements);
    append<uint64_t>(&out, rows);
    append<uint32_t>(&out, format.id);
    append<uint64_t>(&out, at);
    at += (rows * format.bytes + alignment - 1) / alignment * alignment;
  }
  out.resize((out.size() + alignment - 1) / alignment * alignment + at);
  return out;
}

void mutate(Random* random, std::string* bytes) {
  const uint64_t hostile[] = {0,          1,          0x7f,       0xff,      0xffff,     1u << 30,   0x7fffffff,
                              0xffffffff, 1ull << 32, 1ull << 61, INT64_MAX, 1ull << 63, UINT64_MAX, UINT64_MAX - 31};
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
        uint64_t value = hostile[random->below(14)];
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
  Random random(20261124);
  int64_t valid = 0;
  auto start = std::chrono::steady_clock::now();
  double slowest = 0;
  for (int64_t i = 0; i < inputs; i++) {
    std::string bytes = valid_file(&random);
    if (i % 16 == 0) {
      EXPECT(read_all(Input(bytes).view()));
    } else {
      mutate(&random, &bytes);
    }
    Input input(bytes);
    auto begin = std::chrono::steady_clock::now();
    valid += read_all(input.view()) ? 1 : 0;
    slowest = std::max(slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%lld inputs, %lld of them valid, %.1f s, the slowest %.1f ms\n", static_cast<long long>(inputs),
              static_cast<long long>(valid), seconds, slowest * 1000);
  // A mutation that never gets through tests the first check alone; one that always does tests nothing.
  EXPECT(valid > inputs / 16 && valid < inputs / 2);
  EXPECT(slowest < 1);
  return test::report("gguf_fuzz_test");
}
