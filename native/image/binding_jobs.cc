#include "image/binding_jobs.h"

#include <algorithm>
#include <new>
#include <system_error>

#ifdef __linux__
#include <pthread.h>
#include <signal.h>
#endif

#include "core/check.h"
#include "core/threads.h"

namespace ocelli {
namespace image {
namespace {

constexpr size_t kMaxThreads = 4;  // a picture takes milliseconds; more threads would take cores from the model

// The threads take no signals: a handler of the host must run on the host's threads.
class SignalsBlocked {
 public:
#ifdef __linux__
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#endif
};

void fail(Job* job, const std::string& code, const std::string& message, const std::string& hint) {
  job->error_code = code;
  job->error_message = message;
  job->error_hint = hint;
}

void execute(Job* job, const std::atomic<bool>& stop) {
  try {
    job->work(stop);
  } catch (const Error& e) {
    fail(job, e.code(), e.what(), e.hint());
  } catch (const std::bad_alloc&) {
    fail(job, "ERR_OUT_OF_MEMORY", "Expected memory for an image operation but the system has none",
         "Use a smaller picture.");
  } catch (...) {
    fail(job, "ERR_INTERNAL", "Expected an image operation to finish but it failed", "");
  }
  job->work = nullptr;  // frees the input before the result waits for the event loop
}

}  // namespace

Napi::Value make_js_error(Napi::Env env, const std::string& code, const std::string& message, const std::string& hint) {
  Napi::Object error = Napi::Error::New(env, message).Value();
  error.Set("code", Napi::String::New(env, code));
  if (!hint.empty()) error.Set("hint", Napi::String::New(env, hint));
  return error;
}

Job::Job(Napi::Env env, Napi::TypedArray array)
    : deferred(Napi::Promise::Deferred::New(env)), result(Napi::Reference<Napi::TypedArray>::New(array, 1)) {}

Jobs* Jobs::create(Napi::Env env) {
  std::unique_ptr<Jobs> jobs(new Jobs(env));
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "ocelli:image"), 0,
                                                       1, nullptr, nullptr, jobs.get(), on_done, &jobs->notify_);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, jobs->notify_);
  // Hooks run last in, first out: registered after the function above, ours joins the threads while it still exists.
  status = napi_add_env_cleanup_hook(env, on_cleanup, jobs.get());
  if (status != napi_ok) throw Napi::Error::New(env);
  return jobs.release();
}

void Jobs::submit(std::unique_ptr<Job> job) {
  bool need_thread;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    need_thread = idle_ <= waiting_.size();
  }
  if (max_threads_ == 0) max_threads_ = std::min(kMaxThreads, static_cast<size_t>(available_cores()));
  if (need_thread && threads_.size() < max_threads_) {
    try {
      start_thread();
    } catch (const std::system_error&) {
      if (threads_.empty()) {
        throw Error("ERR_OUT_OF_MEMORY", "Expected to start a thread for image work but the system refused one");
      }
    }
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(job));
  }
  if (pending_++ == 0) napi_ref_threadsafe_function(env_, notify_);
  wake_.notify_one();
}

void Jobs::start_thread() {
  SignalsBlocked blocked;
  threads_.emplace_back([this] { run(); });
#ifdef __linux__
  pthread_setname_np(threads_.back().native_handle(), "ocelli-image");
#endif
}

void Jobs::run() {
  stand_behind_event_loop(kNicerToPrepare);
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    ++idle_;
    wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    --idle_;
    if (stop_) return;
    std::unique_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    execute(job.get(), stop_);
    lock.lock();
    done_.push_back(std::move(job));  // never destroyed here: its references belong to the environment's thread
    lock.unlock();
    napi_call_threadsafe_function(notify_, nullptr, napi_tsfn_nonblocking);
    lock.lock();
  }
}

void Jobs::on_done(napi_env env, napi_value, void* self, void*) {
  if (env != nullptr) static_cast<Jobs*>(self)->settle_all();
}

void Jobs::settle_all() {
  Napi::HandleScope scope(env_);
  std::deque<std::unique_ptr<Job>> done;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    done.swap(done_);
  }
  for (std::unique_ptr<Job>& job : done) {
    if (--pending_ == 0) napi_unref_threadsafe_function(env_, notify_);
    try {
      if (job->error_code.empty()) {
        job->deferred.Resolve(job->result.Value());
      } else {
        job->deferred.Reject(make_js_error(env_, job->error_code, job->error_message, job->error_hint));
      }
    } catch (const Napi::Error&) {
      // The environment is closing: nobody is left to hear of it.
    }
  }
}

void Jobs::on_cleanup(void* self) {
  Jobs* jobs = static_cast<Jobs*>(self);
  {
    std::lock_guard<std::mutex> lock(jobs->mutex_);
    jobs->stop_ = true;
  }
  jobs->wake_.notify_all();
  for (std::thread& thread : jobs->threads_) thread.join();
  delete jobs;
}

}  // namespace image
}  // namespace ocelli
