// PTX text cut into tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ocelli {
namespace ptx {

struct Token {
  enum class Kind { kWord, kNumber, kString, kPunctuation, kEnd };
  Kind kind = Kind::kEnd;
  std::string_view text;  // a piece of the source, which must outlive the token
  int line = 0;           // from 1

  bool is(std::string_view what) const { return kind != Kind::kString && text == what; }
};

// A word holds its dots, so that `ld.global.v4.f32`, `.align` and `%tid.x` are one token each. The last token is kEnd.
// Throws ERR_PTX for a character that PTX does not have.
std::vector<Token> lex(std::string_view source);

}  // namespace ptx
}  // namespace ocelli
