// The image threads of one environment: jobs in, settled promises out. Not libuv's pool, which a host needs for its
// files.
#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "core/check.h"

namespace ocelli {
namespace image {

Napi::Value make_js_error(Napi::Env env, const std::string& code, const std::string& message, const std::string& hint);

// Calls F; what it throws becomes a thrown error as above.
template <Napi::Value (*F)(const Napi::CallbackInfo& info)>
Napi::Value thrown(const Napi::CallbackInfo& info) {
  try {
    return F(info);
  } catch (const Error& e) {
    throw Napi::Error(info.Env(), make_js_error(info.Env(), e.code(), e.what(), e.hint()));
  } catch (const std::bad_alloc&) {
    throw Napi::Error(info.Env(), make_js_error(info.Env(), "ERR_OUT_OF_MEMORY",
                                                "Expected memory for a picture but the system has none", ""));
  }
}

struct Job {
  Job(Napi::Env env, Napi::TypedArray result);

  Napi::Promise::Deferred deferred;
  // The work writes straight into the result's bytes: JavaScript cannot reach, and so not detach, an array that it has
  // not been given yet, and the reference keeps it.
  Napi::Reference<Napi::TypedArray> result;
  std::function<void(const std::atomic<bool>& cancel)> work;
  std::string error_code;  // empty: success
  std::string error_message;
  std::string error_hint;
};

class Jobs {
 public:
  // Lives until the environment's cleanup hook, which joins the threads and deletes it.
  static Jobs* create(Napi::Env env);

  // On the environment's thread.
  void submit(std::unique_ptr<Job> job);

 private:
  explicit Jobs(Napi::Env env) : env_(env) {}
  static void on_cleanup(void* self);
  static void on_done(napi_env env, napi_value callback, void* self, void* data);
  void start_thread();
  void run();
  void settle_all();

  Napi::Env env_;
  napi_threadsafe_function notify_ = nullptr;
  size_t pending_ = 0;      // of the environment's thread alone
  size_t max_threads_ = 0;  // 0: not asked yet
  std::vector<std::thread> threads_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<std::unique_ptr<Job>> waiting_;
  std::deque<std::unique_ptr<Job>> done_;
  size_t idle_ = 0;
};

}  // namespace image
}  // namespace ocelli
