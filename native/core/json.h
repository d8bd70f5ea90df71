// A pull reader for JSON: strict (RFC 8259, valid UTF-8), depth-limited, builds no tree, so hostile text costs no
// memory. Duplicate keys are the caller's to refuse: next_key() hands every key over.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ocelli {

class JsonReader {
 public:
  enum class Kind { kObject, kArray, kString, kNumber, kTrue, kFalse, kNull };
  static constexpr int kMaxDepth = 32;

  // Errors carry `code` and name `subject` (a file, "program"). The text must outlive the reader.
  JsonReader(std::string_view text, std::string code, std::string subject);

  Kind peek();
  void begin_object();
  bool next_key(std::string* key);  // false: the object has ended
  void begin_array();
  bool next_element();  // false: the array has ended
  std::string string(size_t max_bytes = 1 << 20);
  double number();
  int64_t integer();      // a number without fraction or exponent that fits
  uint64_t unsigned64();  // the same, not negative
  bool boolean();
  void null();
  void skip();
  void finish();  // nothing but white space may follow

  size_t offset() const { return at_; }
  [[noreturn]] void fail(const std::string& expected) const;

 private:
  struct Level {
    bool object;
    bool first;
  };
  void space();
  void open(char bracket);
  bool next(char close);
  void literal(const char* text);
  std::string_view number_text();
  unsigned hex4();
  void append_utf8(unsigned code_point, std::string* out) const;
  size_t utf8_length() const;  // of the sequence at at_; fails when it is invalid

  std::string_view text_;
  size_t at_ = 0;
  std::vector<Level> levels_;
  std::string code_;
  std::string subject_;
};

}  // namespace ocelli
