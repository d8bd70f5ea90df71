#include "core/gguf.h"

#include <cstring>
#include <set>

#include "core/check.h"

namespace ocelli {

namespace {

constexpr uint64_t kMaxElements = uint64_t{1} << 30;  // of an array, and bytes of a string: GGML's own limit
constexpr uint64_t kMaxKey = 65535;                   // the format's own limit
constexpr uint64_t kMaxName = 4096;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 30;

// Bytes of a scalar; 0 for strings, arrays and numbers that are no type.
uint64_t size_of(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    default:
      return 0;
  }
}

// The only way to the bytes: every step forward is checked against what is left.
class Cursor {
 public:
  Cursor(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) truncated(at_, count);
    std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }

  std::string_view string(uint64_t longest, const char* what) {
    uint64_t length = number<uint64_t>();
    if (length > longest) fail("at most " + std::to_string(longest) + " bytes", what, std::to_string(length));
    return take(length);
  }

  uint64_t at() const { return at_; }
  std::string_view since(uint64_t begin) const { return bytes_.substr(begin, at_ - begin); }
  uint64_t size() const { return bytes_.size(); }

  [[noreturn]] void fail(const std::string& expected, const std::string& what, const std::string& found) const {
    throw Error("ERR_CHECKPOINT_FORMAT",
                "Expected " + expected + " for " + what + " in " + file_ + " but received " + found);
  }

  [[noreturn]] void truncated(uint64_t offset, uint64_t count) const {
    uint64_t needed;
    if (__builtin_add_overflow(offset, count, &needed)) needed = UINT64_MAX;
    throw Error("ERR_CHECKPOINT_TRUNCATED",
                "Expected at least " + std::to_string(needed) + " bytes for " + file_ + " but received " +
                    std::to_string(bytes_.size()),
                "Download the file again: it was cut off, or is a pointer of git-lfs.");
  }

 private:
  std::string_view bytes_;
  const std::string& file_;
  uint64_t at_ = 0;
};

std::string quoted(std::string_view text) { return "'" + std::string(text.substr(0, 80)) + "'"; }

class HeaderReader {
 public:
  HeaderReader(std::string_view bytes, const std::string& file) : cursor_(bytes, file) {}

  GgufFile read() {
    if (!is_gguf(cursor_.take(4))) cursor_.fail("'GGUF'", "the first four bytes", "others");
    uint32_t version = cursor_.number<uint32_t>();
    // Byte-swapped, the low half is empty: a file of a big-endian machine.
    if (version >> 24 != 0 && (version & 0xffff) == 0)
      cursor_.fail("little-endian numbers", "the version", "big-endian ones");
    if (version != 2 && version != 3) cursor_.fail("2 or 3", "the version", std::to_string(version));
    uint64_t tensors = cursor_.number<uint64_t>();
    uint64_t values = cursor_.number<uint64_t>();
    // Nothing is reserved: a count that lies runs into the end of the file.
    for (uint64_t i = 0; i < values; i++) read_value();
    for (uint64_t i = 0; i < tensors; i++) read_tensor();
    place_tensors();
    return std::move(result_);
  }

 private:
  void read_value() {
    std::string_view key = cursor_.string(kMaxKey, "a key");
    if (!keys_.insert(key).second) cursor_.fail("each key once", "the metadata", quoted(key) + " twice");
    GgufValue value;
    value.key = std::string(key);
    value.type = static_cast<GgufType>(cursor_.number<uint32_t>());
    if (value.type == GgufType::kArray) {
      value.array = true;
      value.type = static_cast<GgufType>(cursor_.number<uint32_t>());
      if (value.type == GgufType::kArray) cursor_.fail("no array of arrays", quoted(key), "one");
      value.count = cursor_.number<uint64_t>();
      if (value.count > kMaxElements)
        cursor_.fail("at most " + std::to_string(kMaxElements) + " elements", quoted(key), std::to_string(value.count));
    }
    uint64_t begin = cursor_.at();
    skip_elements(value);
    value.bytes = cursor_.since(begin);
    if (key == "general.alignment") read_alignment(value);
    result_.metadata.push_back(std::move(value));
  }

  void skip_elements(const GgufValue& value) {
    if (value.type == GgufType::kString) {
      for (uint64_t i = 0; i < value.count; i++) cursor_.string(kMaxElements, "a string");
      return;
    }
    uint64_t size = size_of(value.type);
    if (size == 0)
      cursor_.fail("a type of the format", quoted(value.key), std::to_string(static_cast<uint32_t>(value.type)));
    std::string_view bytes = cursor_.take(value.count * size);  // at most 2^33: no overflow
    if (value.type != GgufType::kBool) return;
    for (char byte : bytes) {
      if (byte != 0 && byte != 1) cursor_.fail("0 or 1", "a bool of " + quoted(value.key), "another byte");
    }
  }

  void read_alignment(const GgufValue& value) {
    if (value.array || value.type != GgufType::kU32) cursor_.fail("one u32", "general.alignment", "another type");
    alignment_ = static_cast<uint64_t>(GgufElements(value).number());
    if (alignment_ == 0 || (alignment_ & (alignment_ - 1)) != 0 || alignment_ > kMaxAlignment)
      cursor_.fail("a power of two up to 2^30", "general.alignment", std::to_string(alignment_));
  }

  void read_tensor() {
    GgufTensor tensor;
    std::string_view name = cursor_.string(kMaxName, "a tensor's name");
    if (name.empty()) cursor_.fail("a name", "each tensor", "none");
    if (!names_.insert(name).second) cursor_.fail("each tensor once", "the tensors", quoted(name) + " twice");
    tensor.name = std::string(name);
    uint32_t dimensions = cursor_.number<uint32_t>();
    if (dimensions == 0 || dimensions > kMaxDimensions)
      cursor_.fail("1 to 4 dimensions", quoted(name), std::to_string(dimensions));
    tensor.shape.resize(dimensions);
    uint64_t elements = 1;
    for (uint32_t i = dimensions; i-- > 0;) {
      uint64_t size = cursor_.number<uint64_t>();
      if (size == 0 || size > INT64_MAX) cursor_.fail("sizes from 1 to 2^63", quoted(name), std::to_string(size));
      if (__builtin_mul_overflow(elements, size, &elements) || elements > INT64_MAX)
        cursor_.fail("fewer than 2^63 elements", quoted(name), "more");
      tensor.shape[i] = static_cast<int64_t>(size);
    }
    uint32_t type = cursor_.number<uint32_t>();
    tensor.format = block_format(type);
    if (tensor.format == nullptr) cursor_.fail("a type of the format", quoted(name), std::to_string(type));
    if (tensor.shape.back() % tensor.format->elements != 0) {
      cursor_.fail(
          "rows of whole blocks of " + std::to_string(tensor.format->elements) + " (" + tensor.format->name + ")",
          quoted(name), std::to_string(tensor.shape.back()));
    }
    uint64_t blocks = elements / static_cast<uint64_t>(tensor.format->elements);
    if (__builtin_mul_overflow(blocks, static_cast<uint64_t>(tensor.format->bytes), &tensor.bytes))
      cursor_.fail("fewer than 2^64 bytes", quoted(name), "more");
    tensor.offset = cursor_.number<uint64_t>();
    result_.tensors.push_back(std::move(tensor));
  }

  // Each tensor begins where the one before it ends, rounded up to the alignment: no hole, no overlap.
  void place_tensors() {
    uint64_t data = 0;
    if (!round_up(cursor_.at(), &data)) cursor_.truncated(cursor_.at(), alignment_);
    uint64_t expected = 0;
    for (GgufTensor& tensor : result_.tensors) {
      if (tensor.offset != expected) {
        cursor_.fail("an offset of " + std::to_string(expected) + ", where the tensor before it ends,",
                     quoted(tensor.name), std::to_string(tensor.offset));
      }
      uint64_t end;
      if (__builtin_add_overflow(data, tensor.offset, &tensor.offset) ||
          __builtin_add_overflow(tensor.offset, tensor.bytes, &end) || end > cursor_.size()) {
        cursor_.truncated(tensor.offset, tensor.bytes);
      }
      if (!round_up(end - data, &expected)) cursor_.truncated(end, alignment_);
    }
  }

  bool round_up(uint64_t at, uint64_t* rounded) const {
    if (__builtin_add_overflow(at, alignment_ - 1, rounded)) return false;
    *rounded &= ~(alignment_ - 1);
    return true;
  }

  Cursor cursor_;
  GgufFile result_;
  uint64_t alignment_ = kDefaultAlignment;
  std::set<std::string_view> keys_;
  std::set<std::string_view> names_;
};

template <class T>
double next(std::string_view* rest) {
  T value{};
  if (rest->size() < sizeof(T)) throw Error("ERR_CHECKPOINT_CHANGED", "Expected metadata to stay as it was read");
  std::memcpy(&value, rest->data(), sizeof(T));
  rest->remove_prefix(sizeof(T));
  return static_cast<double>(value);
}

}  // namespace

bool is_gguf(std::string_view bytes) { return bytes.substr(0, 4) == "GGUF"; }

GgufFile read_gguf(std::string_view bytes, const std::string& file) { return HeaderReader(bytes, file).read(); }

std::string_view GgufElements::string() {
  std::string file = "the metadata";
  Cursor cursor(rest_, file);
  std::string_view text = cursor.string(kMaxElements, "a string");
  rest_.remove_prefix(cursor.at());
  return text;
}

int64_t GgufElements::integer() {
  int64_t value = 0;
  if (rest_.size() < 8) throw Error("ERR_CHECKPOINT_CHANGED", "Expected metadata to stay as it was read");
  std::memcpy(&value, rest_.data(), 8);
  rest_.remove_prefix(8);
  return value;
}

double GgufElements::number() {
  switch (type_) {
    case GgufType::kU8:
    case GgufType::kBool:
      return next<uint8_t>(&rest_);
    case GgufType::kI8:
      return next<int8_t>(&rest_);
    case GgufType::kU16:
      return next<uint16_t>(&rest_);
    case GgufType::kI16:
      return next<int16_t>(&rest_);
    case GgufType::kU32:
      return next<uint32_t>(&rest_);
    case GgufType::kI32:
      return next<int32_t>(&rest_);
    case GgufType::kF32:
      return next<float>(&rest_);
    case GgufType::kU64:
      return next<uint64_t>(&rest_);
    case GgufType::kI64:
      return next<int64_t>(&rest_);
    default:
      return next<double>(&rest_);
  }
}

}  // namespace ocelli
