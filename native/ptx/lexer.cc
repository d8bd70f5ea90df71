#include "ptx/lexer.h"

#include <algorithm>
#include <cctype>

#include "core/check.h"

namespace ocelli {
namespace ptx {
namespace {

bool begins_word(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_' || c == '$' || c == '%'; }
bool continues_word(char c) { return begins_word(c) || std::isdigit(static_cast<unsigned char>(c)) || c == '.'; }

}  // namespace

std::vector<Token> lex(std::string_view source) {
  std::vector<Token> tokens;
  size_t at = 0;
  int line = 1;
  const auto peek = [&](size_t ahead) { return at + ahead < source.size() ? source[at + ahead] : '\0'; };
  const auto skip = [&](size_t end) {
    line += static_cast<int>(std::count(source.begin() + at, source.begin() + end, '\n'));
    at = end;
  };
  const auto push = [&](Token::Kind kind, size_t end) {
    tokens.push_back({kind, source.substr(at, end - at), line});
    skip(end);
  };
  while (at < source.size()) {
    const char c = source[at];
    size_t end = at + 1;
    if (std::isspace(static_cast<unsigned char>(c))) {
      skip(end);
    } else if (c == '/' && peek(1) == '/') {
      skip(std::min(source.find('\n', at), source.size()));
    } else if (c == '/' && peek(1) == '*') {
      const size_t close = source.find("*/", at + 2);
      skip(close == source.npos ? source.size() : close + 2);
    } else if (c == '"') {
      push(Token::Kind::kString, std::min(source.find('"', end), source.size() - 1) + 1);
    } else if (std::isdigit(static_cast<unsigned char>(c))) {
      while (end < source.size() && (std::isalnum(static_cast<unsigned char>(source[end])) || source[end] == '.'))
        end++;
      push(Token::Kind::kNumber, end);
    } else if (begins_word(c) || c == '.') {
      // `L2::128B` is a modifier; a single colon ends a label.
      while (end < source.size()) {
        if (continues_word(source[end])) {
          end++;
        } else if (source.compare(end, 2, "::") == 0) {
          end += 2;
        } else {
          break;
        }
      }
      push(Token::Kind::kWord, end);
    } else if (std::string_view("{}()[]<>,;:@!|+-=").find(c) != std::string_view::npos) {
      push(Token::Kind::kPunctuation, end);
    } else {
      throw Error("ERR_PTX", "Expected PTX at line " + std::to_string(line) + " but received '" + c + "'");
    }
  }
  tokens.push_back({Token::Kind::kEnd, {}, line});
  return tokens;
}

}  // namespace ptx
}  // namespace ocelli
