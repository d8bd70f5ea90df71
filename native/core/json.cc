#include "core/json.h"

#include <charconv>
#include <cstring>

#include "core/check.h"

namespace ocelli {

JsonReader::JsonReader(std::string_view text, std::string code, std::string subject)
    : text_(text), code_(std::move(code)), subject_(std::move(subject)) {}

void JsonReader::fail(const std::string& expected) const {
  std::string found = "the end";
  if (at_ < text_.size()) {
    unsigned char c = static_cast<unsigned char>(text_[at_]);
    found = c >= 0x20 && c < 0x7f ? "'" + std::string(1, static_cast<char>(c)) + "'" : "byte " + std::to_string(c);
  }
  throw Error(
      code_, "Expected " + expected + " at byte " + std::to_string(at_) + " of " + subject_ + " but received " + found);
}

void JsonReader::space() {
  while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
    at_++;
}

JsonReader::Kind JsonReader::peek() {
  space();
  if (at_ >= text_.size()) fail("a JSON value");
  switch (text_[at_]) {
    case '{':
      return Kind::kObject;
    case '[':
      return Kind::kArray;
    case '"':
      return Kind::kString;
    case 't':
      return Kind::kTrue;
    case 'f':
      return Kind::kFalse;
    case 'n':
      return Kind::kNull;
    default:
      if (text_[at_] == '-' || (text_[at_] >= '0' && text_[at_] <= '9')) return Kind::kNumber;
      fail("a JSON value");
  }
}

void JsonReader::open(char bracket) {
  space();
  if (at_ >= text_.size() || text_[at_] != bracket) fail(bracket == '{' ? "an object" : "an array");
  if (static_cast<int>(levels_.size()) >= kMaxDepth)
    fail("at most " + std::to_string(kMaxDepth) + " levels of nesting");
  levels_.push_back({bracket == '{', true});
  at_++;
}

bool JsonReader::next(char close) {
  space();
  Level& level = levels_.back();
  if (at_ < text_.size() && text_[at_] == close) {
    levels_.pop_back();
    at_++;
    return false;
  }
  if (!level.first) {
    if (at_ >= text_.size() || text_[at_] != ',') fail(std::string("',' or '") + close + "'");
    at_++;
    space();
  }
  level.first = false;
  return true;
}

void JsonReader::begin_object() { open('{'); }
void JsonReader::begin_array() { open('['); }
bool JsonReader::next_element() { return next(']'); }

bool JsonReader::next_key(std::string* key) {
  if (!next('}')) return false;
  if (at_ >= text_.size() || text_[at_] != '"') fail("a key");
  *key = string();
  space();
  if (at_ >= text_.size() || text_[at_] != ':') fail("':'");
  at_++;
  return true;
}

unsigned JsonReader::hex4() {
  unsigned value = 0;
  for (int i = 0; i < 4; i++, at_++) {
    if (at_ >= text_.size()) fail("four hexadecimal digits");
    char c = text_[at_];
    unsigned digit;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else {
      fail("four hexadecimal digits");
    }
    value = value * 16 + digit;
  }
  return value;
}

void JsonReader::append_utf8(unsigned c, std::string* out) const {
  if (c < 0x80) {
    out->push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    out->push_back(static_cast<char>(0xc0 | (c >> 6)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  } else if (c < 0x10000) {
    out->push_back(static_cast<char>(0xe0 | (c >> 12)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3f)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  } else {
    out->push_back(static_cast<char>(0xf0 | (c >> 18)));
    out->push_back(static_cast<char>(0x80 | ((c >> 12) & 0x3f)));
    out->push_back(static_cast<char>(0x80 | ((c >> 6) & 0x3f)));
    out->push_back(static_cast<char>(0x80 | (c & 0x3f)));
  }
}

size_t JsonReader::utf8_length() const {
  auto byte = [&](size_t i) -> unsigned {
    return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0;
  };
  auto tail = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf && tail(1)) return 2;
  if (lead >= 0xe0 && lead <= 0xef && tail(1) && tail(2)) {
    bool overlong = lead == 0xe0 && byte(1) < 0xa0;
    bool surrogate = lead == 0xed && byte(1) > 0x9f;
    if (!overlong && !surrogate) return 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4 && tail(1) && tail(2) && tail(3)) {
    if (!(lead == 0xf0 && byte(1) < 0x90) && !(lead == 0xf4 && byte(1) > 0x8f)) return 4;
  }
  fail("valid UTF-8");
}

std::string JsonReader::string(size_t max_bytes) {
  space();
  if (at_ >= text_.size() || text_[at_] != '"') fail("a string");
  at_++;
  std::string out;
  for (;;) {
    if (at_ >= text_.size()) fail("'\"'");
    if (out.size() > max_bytes) fail("a string of at most " + std::to_string(max_bytes) + " bytes");
    unsigned char c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') {
      at_++;
      return out;
    }
    if (c < 0x20) fail("no control character in a string");
    if (c != '\\') {
      size_t length = utf8_length();
      out.append(text_.data() + at_, length);
      at_ += length;
      continue;
    }
    at_++;
    if (at_ >= text_.size()) fail("an escape");
    char escape = text_[at_];
    static const char kFrom[] = "\"\\/bfnrt";
    static const char kTo[] = "\"\\/\b\f\n\r\t";
    const char* found = escape == 0 ? nullptr : std::strchr(kFrom, escape);
    if (found != nullptr) {
      out.push_back(kTo[found - kFrom]);
      at_++;
    } else if (escape == 'u') {
      at_++;
      unsigned unit = hex4();
      if (unit >= 0xdc00 && unit <= 0xdfff) fail("no lone surrogate");
      if (unit >= 0xd800 && unit <= 0xdbff) {
        if (at_ + 1 >= text_.size() || text_[at_] != '\\' || text_[at_ + 1] != 'u')
          fail("the second half of a surrogate pair");
        at_ += 2;
        unsigned low = hex4();
        if (low < 0xdc00 || low > 0xdfff) fail("the second half of a surrogate pair");
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
      }
      append_utf8(unit, &out);
    } else {
      fail("an escape");
    }
  }
}

std::string_view JsonReader::number_text() {
  space();
  size_t start = at_;
  auto digit = [&] { return at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; };
  if (at_ < text_.size() && text_[at_] == '-') at_++;
  if (!digit()) fail("a number");
  if (text_[at_] == '0') {
    at_++;
    if (digit()) fail("no digit after a leading 0");
  } else {
    while (digit()) at_++;
  }
  if (at_ < text_.size() && text_[at_] == '.') {
    at_++;
    if (!digit()) fail("a digit");
    while (digit()) at_++;
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    at_++;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) at_++;
    if (!digit()) fail("a digit");
    while (digit()) at_++;
  }
  return text_.substr(start, at_ - start);
}

double JsonReader::number() {
  std::string_view text = number_text();
  double value = 0;
  auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  // from_chars leaves the value alone when it under- or overflows: the former is 0, the latter no number that fits.
  if (result.ec == std::errc::result_out_of_range) {
    size_t exponent = text.find_first_of("eE");
    if (exponent != std::string_view::npos && text.substr(exponent + 1, 1) == "-") return 0;
    fail("a number that a double holds");
  }
  return value;
}

int64_t JsonReader::integer() {
  std::string_view text = number_text();
  int64_t value = 0;
  auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) fail("a 64-bit integer");
  return value;
}

uint64_t JsonReader::unsigned64() {
  std::string_view text = number_text();
  uint64_t value = 0;
  auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) fail("an unsigned 64-bit integer");
  return value;
}

void JsonReader::literal(const char* expected) {
  space();
  size_t length = std::strlen(expected);
  if (text_.substr(at_, length) != expected) fail(expected);
  at_ += length;
}

bool JsonReader::boolean() {
  if (peek() == Kind::kTrue) {
    literal("true");
    return true;
  }
  literal("false");
  return false;
}

void JsonReader::null() { literal("null"); }

void JsonReader::skip() {
  size_t base = levels_.size();
  std::string key;
  do {
    // A value is due at this point; after it, levels that ended are closed.
    switch (peek()) {
      case Kind::kObject:
        begin_object();
        break;
      case Kind::kArray:
        begin_array();
        break;
      case Kind::kString:
        string(text_.size());
        break;
      case Kind::kNumber:
        number_text();
        break;
      case Kind::kNull:
        null();
        break;
      default:
        boolean();
    }
    while (levels_.size() > base) {
      if (levels_.back().object ? next_key(&key) : next_element()) break;
    }
  } while (levels_.size() > base);
}

void JsonReader::finish() {
  space();
  if (at_ != text_.size()) fail("the end");
}

}  // namespace ocelli
