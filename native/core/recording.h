#pragma once

#include <utility>

#include "core/op.h"

namespace ocelli {

// What a recorder keeps of some ops, and its owner.
class Recording {
 public:
  Recording() = default;
  Recording(Recorder* recorder, void* handle) : recorder_(recorder), handle_(handle) {}
  Recording(Recording&& other) noexcept { *this = std::move(other); }
  Recording& operator=(Recording&& other) noexcept {
    std::swap(recorder_, other.recorder_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Recording() {
    if (handle_ != nullptr) recorder_->release(handle_);
  }
  explicit operator bool() const { return handle_ != nullptr; }
  void replay() const { recorder_->replay(handle_); }

 private:
  Recorder* recorder_ = nullptr;
  void* handle_ = nullptr;
};

}  // namespace ocelli
