// What the engine did when, in Chrome's trace event format (chrome://tracing, ui.perfetto.dev): a JSON array of events,
// microseconds. Written by the engine's thread alone.
#pragma once

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>

namespace ocelli {

class Trace {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // Rows of the picture: the engine's steps, the encoder's slices, then one per thread of the pool.
  enum Track : int { kSteps = 1, kEncoder = 2, kPool = 10 };

  // Null without a path; ERR_TRACE_FILE where the file cannot be written.
  static std::unique_ptr<Trace> open(const std::string& path);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  // args: the inside of a JSON object, made of numbers and plain names.
  void span(const char* name, int track, Time start, Time end, const std::string& args = {});
  // A span of a request's own row; `id` tells requests apart.
  void request(const char* name, int id, Time start, Time end, const std::string& args);

 private:
  explicit Trace(std::FILE* file);
  double microseconds(Time time) const;
  void name_track(int track, const char* name);
  std::FILE* file_;
  Time origin_;
  int named_pool_ = 0;
};

}  // namespace ocelli
