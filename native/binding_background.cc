// Work off the event loop, and handles.
#include <pthread.h>
#include <signal.h>

#include <deque>
#include <list>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "binding.h"

namespace ocelli {
namespace binding {

namespace {

// {environment of handles: kind, a constant of this library}: tells our objects from everybody else's.
constexpr uint64_t kTag = 0x0ce111ba5e0f17e5ull;

// A signal handler of the host must run on the host's threads.
std::thread start_thread(std::function<void()> body, const char* name) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error&) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw Error("ERR_THREADS", "Expected to start a thread but the system refused one",
                "Raise the limit of processes (ulimit -u).");
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

struct Held {
  std::shared_ptr<void> held;
};

}  // namespace

struct Background::State {
  struct Task {
    Task(Napi::Env env, Work w, Result r)
        : deferred(Napi::Promise::Deferred::New(env)), work(std::move(w)), result(std::move(r)) {}
    Napi::Promise::Deferred deferred;
    Work work;
    Result result;
    bool failed = false;
    Failure failure;
    std::thread thread;
  };

  explicit State(Napi::Env e) : env(e) {}

  Napi::Env env;
  napi_threadsafe_function notify = nullptr;
  std::list<Task> tasks;  // of the environment's thread alone
  std::atomic<bool> cancel{false};
  std::mutex mutex;  // guards what follows
  std::deque<std::function<void(Napi::Env)>> notices;
  std::deque<Task*> done;

  void call() { napi_call_threadsafe_function(notify, nullptr, napi_tsfn_nonblocking); }

  void execute(Task* task) {
    try {
      task->work(cancel);
    } catch (...) {
      task->failed = true;
      task->failure = current_failure();
    }
    {
      std::lock_guard<std::mutex> lock(mutex);
      done.push_back(task);
    }
    call();
  }

  // On the event loop. Notices first: they were posted before the work that posted them ended.
  void settle() {
    Napi::HandleScope scope(env);
    std::deque<std::function<void(Napi::Env)>> todo;
    std::deque<Task*> ended;
    {
      std::lock_guard<std::mutex> lock(mutex);
      todo.swap(notices);
      ended.swap(done);
    }
    for (auto& notice : todo) {
      try {
        notice(env);
      } catch (...) {
        // A throwing progress callback must not lose the work.
      }
    }
    for (Task* task : ended) settle(task);
  }

  void settle(Task* task) {
    task->thread.join();
    try {
      if (!task->failed) {
        try {
          task->deferred.Resolve(task->result(env));
        } catch (const Error&) {
          task->deferred.Reject(error_object(env, current_failure()));
        } catch (const std::bad_alloc&) {
          task->deferred.Reject(error_object(env, current_failure()));
        }
      } else {
        task->deferred.Reject(error_object(env, task->failure));
      }
    } catch (const Napi::Error&) {
      // The environment is closing: nobody is left to hear of it.
    }
    for (auto it = tasks.begin(); it != tasks.end(); ++it) {
      if (&*it != task) continue;
      tasks.erase(it);
      break;
    }
    if (tasks.empty()) napi_unref_threadsafe_function(env, notify);
  }

  static void on_call(napi_env env, napi_value, void* self, void*) {
    if (env != nullptr) static_cast<State*>(self)->settle();
  }

  static void on_cleanup(void* self) {
    State* state = static_cast<State*>(self);
    state->cancel.store(true);
    for (Task& task : state->tasks) task.thread.join();
    delete state;
  }
};

Background* Background::create(Napi::Env env) {
  std::unique_ptr<State> state(new State(env));
  std::unique_ptr<Background> background(new Background(state.get()));
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "ocelli"), 0, 1,
                                                       nullptr, nullptr, state.get(), State::on_call, &state->notify);
  if (status != napi_ok) throw Napi::Error::New(env);
  napi_unref_threadsafe_function(env, state->notify);
  // Hooks run last in, first out: this one joins the threads while the function above still exists.
  status = napi_add_env_cleanup_hook(env, State::on_cleanup, state.get());
  if (status != napi_ok) throw Napi::Error::New(env);
  state.release();
  return background.release();
}

Napi::Promise Background::submit(Work work, Result result) {
  State* state = state_;
  state->tasks.emplace_back(state->env, std::move(work), std::move(result));
  State::Task* task = &state->tasks.back();
  Napi::Promise promise = task->deferred.Promise();
  try {
    task->thread = start_thread([state, task] { state->execute(task); }, "ocelli-work");
  } catch (...) {
    state->tasks.pop_back();
    throw;
  }
  if (state->tasks.size() == 1) napi_ref_threadsafe_function(state->env, state->notify);
  return promise;
}

void Background::post(std::function<void(Napi::Env)> notice) {
  {
    std::lock_guard<std::mutex> lock(state_->mutex);
    state_->notices.push_back(std::move(notice));
  }
  state_->call();
}

void release_later(std::shared_ptr<void> held) {
  if (held == nullptr || held.use_count() > 1) return;
  // On the heap, so that a thread that does not start leaves it here.
  auto* box = new std::shared_ptr<void>(std::move(held));
  try {
    start_thread([box] { delete box; }, "ocelli-release").detach();
  } catch (...) {
    delete box;
  }
}

Napi::Object make_handle(Napi::Env env, HandleKind kind, std::shared_ptr<void> held) {
  Napi::Object object = Napi::Object::New(env);
  napi_type_tag tag = {kTag, static_cast<uint64_t>(kind)};
  std::unique_ptr<Held> box(new Held{std::move(held)});
  auto finalize = [](napi_env, void* data, void*) {
    Held* mine = static_cast<Held*>(data);
    try {
      release_later(std::move(mine->held));
    } catch (...) {
      // Out of memory for the thread: the shared_ptr below drops it here.
    }
    delete mine;
  };
  if (napi_wrap(env, object, box.get(), finalize, nullptr, nullptr) != napi_ok) throw Napi::Error::New(env);
  box.release();
  if (napi_type_tag_object(env, object, &tag) != napi_ok) throw Napi::Error::New(env);
  return object;
}

static Held* held_of(Napi::Value value, HandleKind kind) {
  static const char* const kNames[] = {"", "a checkpoint", "a model", "an engine"};
  napi_type_tag tag = {kTag, static_cast<uint64_t>(kind)};
  bool matches = false;
  void* data = nullptr;
  const char* name = kNames[static_cast<int>(kind)];
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &tag, &matches) != napi_ok || !matches ||
      napi_unwrap(value.Env(), value, &data) != napi_ok) {
    fail_argument(name, "the handle", "something else");
  }
  return static_cast<Held*>(data);
}

std::shared_ptr<void> handle_of(Napi::Value value, HandleKind kind) {
  std::shared_ptr<void> held = held_of(value, kind)->held;
  if (held == nullptr) throw Error("ERR_DISPOSED", "Expected a live handle but received one that was disposed of");
  return held;
}

void dispose_handle(Napi::Value value, HandleKind kind) {
  std::shared_ptr<void> held;
  held.swap(held_of(value, kind)->held);
  release_later(std::move(held));
}

}  // namespace binding
}  // namespace ocelli
