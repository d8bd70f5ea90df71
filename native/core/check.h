// Errors of the native side: a stable code, what was expected and what came, what to do. Nothing here aborts.
#pragma once

#include <exception>
#include <string>

namespace ocelli {

class Error : public std::exception {
 public:
  Error(std::string code, std::string message, std::string hint = {})
      : code_(std::move(code)), message_(std::move(message)), hint_(std::move(hint)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  const std::string& code() const { return code_; }
  const std::string& hint() const { return hint_; }

 private:
  std::string code_;
  std::string message_;
  std::string hint_;
};

}  // namespace ocelli
