#include "engine/engine.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <set>

namespace ocelli {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

Engine::Engine(EngineModel model, const EngineConfig& config, std::function<void()> notify)
    : model_(std::move(model)),
      config_(config),
      notify_(std::move(notify)),
      memory_(memory_of(*model_.backend)),
      kv_(memory_, config.kv_dtype, config.kv_blocks, config.block_size, config.kv_layers, config.kv_heads,
          config.head_dim_k, config.head_dim_v),
      blocks_(config.kv_blocks, config.block_size, config.prefix_caching),
      scheduler_(config.scheduler, &blocks_),
      encoder_cache_(config.encoder_cache_bytes, memory_),
      samplers_(model_.pool ? model_.pool->threads() : 1, Sampler(config.vocab)),
      text_(*model_.text, model_.backend, model_.weights, 0, model_.pool) {
  trace_ = Trace::open(config.trace_file);
  if (trace_ && model_.pool) model_.pool->record(true);
  reserve_step();
  for (size_t i = 0; i < model_.encoders.size(); i++) {
    encoders_.push_back(std::make_unique<Executor>(*model_.encoders[i], model_.backend, model_.weights,
                                                   static_cast<int>(i) + 1, model_.pool));
    encoders_.back()->reserve(config.encoder_arena_bytes);
  }
  stats_.kv_blocks_total = blocks_.total();
  // Signals belong to the host's threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::thread([this] { loop(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Engine::~Engine() { stop(); }

void Engine::check(const Request& r) const {
  scheduler_.check(r);
  for (int32_t id : r.prompt) {
    if (id < 0 || id >= config_.vocab) {
      throw Error("ERR_TOKEN_ID", "Expected token ids from 0 to " + std::to_string(config_.vocab - 1) +
                                      " but received " + std::to_string(id));
    }
  }
  if (!r.positions.empty() && r.positions.size() != r.prompt.size() * config_.position_axes) {
    throw Error("ERR_POSITIONS", "Expected " + std::to_string(r.prompt.size() * config_.position_axes) +
                                     " positions but received " + std::to_string(r.positions.size()));
  }
  if (!r.position_delta.empty() && r.position_delta.size() != static_cast<size_t>(config_.position_axes)) {
    throw Error("ERR_POSITIONS", "Expected " + std::to_string(config_.position_axes) +
                                     " position deltas but received " + std::to_string(r.position_delta.size()));
  }
  for (const Item& item : r.items) {
    int64_t rows = 0;
    int32_t end = 0;
    for (auto [start, count] : item.ranges) {
      if (start < end || count <= 0 || start > static_cast<int32_t>(r.prompt.size()) - count) {
        throw Error("ERR_PLACEHOLDER_COUNT", "Expected ascending placeholder ranges inside the prompt");
      }
      end = start + count;
      rows += count;
    }
    if (rows != item.rows || rows == 0) {
      throw Error("ERR_PLACEHOLDER_COUNT", "Expected as many placeholders as feature rows but received " +
                                               std::to_string(rows) + " for " + std::to_string(item.rows));
    }
    if (item.encoder >= static_cast<int32_t>(model_.encoders.size()))
      throw Error("ERR_ENCODER", "Expected an encoder of the model");
    const Tensor& features = item.features.tensor;
    if (item.encoder < 0 &&
        (!features.present() || features.dtype != DType::kF32 || features.rank != 2 || features.shape[0] != rows ||
         features.shape[1] != config_.feature_width || !features.contiguous())) {
      throw Error("ERR_IMAGE_EMBEDS", "Expected float32 features [" + std::to_string(rows) + ", " +
                                          std::to_string(config_.feature_width) + "]");
    }
  }
  check_features(r);
}

// Features that one step reads together have to be in the cache together: a picture's, those of all pictures in a span
// that attends both ways, those of the whole prompt where it runs in one piece.
void Engine::check_features(const Request& r) const {
  std::vector<std::pair<int32_t, int32_t>> pieces = r.atomic;
  for (const Item& item : r.items) pieces.push_back({item.first(), 1});
  if (!config_.scheduler.chunked_prefill) pieces = {{0, static_cast<int32_t>(r.prompt.size())}};
  for (auto [start, count] : pieces) {
    std::map<Digest, int32_t> rows;
    for (const Item& item : r.items) {
      if (item.end() > start && item.first() < start + count) rows[item.hash] = item.rows;
    }
    uint64_t bytes = 0;
    for (const auto& [hash, n] : rows) bytes += static_cast<uint64_t>(n) * config_.feature_width * sizeof(float);
    if (bytes <= encoder_cache_.capacity()) continue;
    throw Error("ERR_ENCODER_CACHE",
                "Expected pictures of at most " + std::to_string(encoder_cache_.capacity()) +
                    " bytes of features together but received " + std::to_string(bytes),
                "Load the engine with a larger encoderCacheBytes, or send smaller or fewer pictures.");
  }
}

void Engine::submit(std::vector<std::shared_ptr<Request>> requests) {
  for (const auto& request : requests) check(*request);
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) throw Error("ERR_DISPOSED", "Expected a running engine but it was disposed");
  const size_t queued = incoming_.size() + static_cast<size_t>(std::max(stats_.waiting, 0));
  if (config_.max_queued > 0 && queued + requests.size() > static_cast<size_t>(config_.max_queued)) {
    throw Error("ERR_QUEUE_FULL",
                "Expected at most " + std::to_string(config_.max_queued) + " queued requests but " +
                    std::to_string(queued) + " wait already",
                "Send it later, or raise maxNumQueuedReqs.");
  }
  std::set<int32_t> fresh;
  for (const auto& request : requests) {
    if (known_.count(request->id) != 0 || !fresh.insert(request->id).second)
      throw Error("ERR_REQUEST_ID", "Expected a new request id but " + std::to_string(request->id) + " is in flight");
  }
  for (auto& request : requests) {
    known_[request->id] = true;
    request->arrival = arrivals_++;
    incoming_.push_back(std::move(request));
  }
  wake_.notify_one();
}

void Engine::abort(int32_t id, int32_t output) {
  std::lock_guard<std::mutex> lock(mutex_);
  aborts_.push_back({id, output});
  wake_.notify_one();
}

void Engine::hold(int32_t id, bool held) {
  std::lock_guard<std::mutex> lock(mutex_);
  holds_.push_back({id, held});
  wake_.notify_one();
}

EngineEvents Engine::take() {
  std::lock_guard<std::mutex> lock(mutex_);
  EngineEvents events;
  std::swap(events, pending_);
  notified_ = false;
  return events;
}

EngineStats Engine::stats() {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void Engine::stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  if (trace_ && model_.pool) model_.pool->record(false);
  trace_.reset();
}

void Engine::loop() {
  pthread_setname_np(pthread_self(), "ocelli-engine");
  stand_behind_event_loop(kNicerToCompute);
  for (bool going = true; going;) {
    try {
      going = intake();
      if (going) step();
      flush();
    } catch (const std::exception& e) {
      fail_all(e);
    }
  }
  try {
    std::vector<std::shared_ptr<Sequence>> all;
    for (auto& [id, active] : active_) all.insert(all.end(), active.sequences.begin(), active.sequences.end());
    for (const auto& s : all) finish(s, Record::kAborted, -1, 0);
    flush();
  } catch (const std::exception&) {
    // Out of memory for the last records: the engine is being disposed of, and whoever waits is told so by that.
  }
}

// A fault outside any request's own work: those in flight end with it, the engine goes on.
void Engine::fail_all(const std::exception& fault) {
  try {
    std::vector<std::shared_ptr<Request>> all;
    for (auto& [id, active] : active_) all.push_back(active.request);
    const Error* known = dynamic_cast<const Error*>(&fault);
    const Error error = known ? *known : Error("ERR_ENGINE", std::string("The engine's step failed: ") + fault.what());
    jobs_.clear();
    for (const auto& request : all) fail(request, error);
    flush();
  } catch (const std::exception&) {
    // Not even memory to say so: what is still in flight is tried again with the next step.
  }
}

// Waits for work and takes it in; false when the engine is to end.
bool Engine::intake() {
  std::deque<std::shared_ptr<Request>> incoming;
  std::vector<std::pair<int32_t, int32_t>> aborts;
  std::vector<std::pair<int32_t, bool>> holds;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait(lock, [this] {
      return stopping_ || !incoming_.empty() || !aborts_.empty() || !holds_.empty() || active_.size() > held_;
    });
    std::swap(incoming, incoming_);
    std::swap(aborts, aborts_);
    std::swap(holds, holds_);
    if (stopping_) {
      // What never started still has to be answered.
      lock.unlock();
      for (const auto& request : incoming) {
        Sequence sequence;
        sequence.request = request;
        for (sequence.index = 0; sequence.index < request->n; sequence.index++)
          emit(sequence, Record::kAborted, -1, 0, 0, {}, 0);
      }
      return false;
    }
  }
  for (auto& request : incoming) add_request(request);
  for (auto [id, output] : aborts) {
    auto found = active_.find(id);
    if (found == active_.end()) continue;
    std::vector<std::shared_ptr<Sequence>> sequences = found->second.sequences;
    for (const auto& s : sequences) {
      if (output < 0 || s->index == output) finish(s, Record::kAborted, -1, 0);
    }
  }
  for (auto [id, held] : holds) {
    auto found = active_.find(id);
    if (found != active_.end()) set_held(found->second, held);
  }
  return true;
}

void Engine::add_request(const std::shared_ptr<Request>& request) {
  Active& active = active_[request->id];
  active.request = request;
  active.unfinished = request->n;
  active.sequences = sequences_of(request);
  for (const auto& sequence : active.sequences) scheduler_.add(sequence);
}

void Engine::set_held(Active& active, bool held) {
  if (active.held == held) return;
  active.held = held;
  held_ += held ? 1 : -1;
  for (const auto& s : active.sequences) {
    if (s->state == SequenceState::kFinished) continue;
    if (held) {
      scheduler_.remove(s);
      unpin(*s, INT32_MAX);
    } else {
      scheduler_.add(s);
    }
  }
  std::lock_guard<std::mutex> lock(mutex_);
  note_occupancy();
}

void Engine::note_occupancy() {
  stats_.running = static_cast<int32_t>(scheduler_.running().size());
  stats_.waiting = static_cast<int32_t>(scheduler_.waiting().size());
  stats_.kv_blocks_used = blocks_.used_blocks();
}

void Engine::step() {
  if (active_.size() == held_) return;
  const auto started = Clock::now();
  scheduler_.set_mixed_prefill(pace_.prompt_rows());
  Step step = scheduler_.schedule([this](Sequence& s, int32_t item) { return features_ready(s, item); });
  for (const auto& s : step.preempted) unpin(*s, INT32_MAX);
  // Features that were asked for on behalf of a sequence that did not come in are not held for it.
  for (const auto& s : scheduler_.waiting()) unpin(*s, INT32_MAX);
  const auto scheduled = Clock::now();
  double forward = 0;
  if (!step.sequences.empty()) {
    idle_rounds_ = 0;
    for (const ScheduledSequence& s : step.sequences) {
      if (s.sequence->announced) continue;
      s.sequence->announced = true;
      emit(*s.sequence, Record::kScheduled, -1, 0, 0, {}, s.start);
    }
    try {
      bind_step(step);
      const auto bound = Clock::now();
      text_.run();
      const auto ran = Clock::now();
      forward = std::chrono::duration<double>(ran - bound).count();
      scheduler_.advance(step);
      for (const ScheduledSequence& s : step.sequences) unpin(*s.sequence, s.sequence->computed);
      collect(step);
      if (trace_) trace_step(step, started, scheduled, bound, ran);
    } catch (const Error& e) {
      fail_step(step, e);
    } catch (const std::bad_alloc&) {
      fail_step(step, Error("ERR_MEMORY", "Expected memory for a step but the system refused it",
                            "Lower maxNumBatchedTokens."));
    }
  }
  note_step(step, seconds_since(started), forward, std::chrono::duration<double>(scheduled - started).count());
  if (!jobs_.empty()) {
    idle_rounds_ = 0;
    encode();
  } else if (step.sequences.empty() && !active_.empty()) {
    // Each waits for features whose room the others hold. Alone, a request always goes on: Engine::check has seen to
    // it.
    const std::vector<std::shared_ptr<Sequence>> yielded = scheduler_.yield();
    for (const auto& s : yielded) unpin(*s, INT32_MAX);
    if (!yielded.empty() || ++idle_rounds_ < 1000) return;
    // Cannot happen by construction; a request is failed rather than a core burnt.
    auto stuck = std::find_if(active_.begin(), active_.end(), [](const auto& entry) { return !entry.second.held; });
    fail(stuck->second.request, Error("ERR_ENGINE", "The engine could not make progress on this request"));
    idle_rounds_ = 0;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  note_occupancy();
  stats_.prefix_queries = blocks_.prefix_queries;
  stats_.prefix_hits = blocks_.prefix_hits;
  stats_.encoder_hits = encoder_cache_.hits;
  stats_.encoder_queries = encoder_cache_.queries;
  stats_.encoder_bytes = encoder_cache_.bytes();
  stats_.preemptions = scheduler_.preemptions;
}

// Counts a step and what it took, the encoder's slice after it not included.
void Engine::note_step(const Step& step, double seconds, double forward, double scheduler) {
  bool decodes = false;
  int32_t prompt_rows = 0, of_prompts = 0;
  for (const ScheduledSequence& s : step.sequences) {
    const bool decode = s.count - s.drafts == 1 && s.start >= s.sequence->prompt_length();
    decodes = decodes || decode;
    if (!decode) prompt_rows += s.count;
    of_prompts += std::max(0, std::min(s.start + s.count, s.sequence->prompt_length()) - s.start);
  }
  pace_.note(decodes, prompt_rows, seconds);
  if (step.sequences.empty()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.steps++;
  stats_.prompt_tokens += of_prompts;
  stats_.step_seconds += seconds;
  stats_.forward_seconds += forward;
  stats_.scheduler_seconds += scheduler;
}

void Engine::trace_step(const Step& step, Trace::Time started, Trace::Time scheduled, Trace::Time bound,
                        Trace::Time ran) {
  const auto ended = Clock::now();
  int32_t decodes = 0;
  for (const ScheduledSequence& s : step.sequences) {
    const Sequence& q = *s.sequence;
    const bool prefill = s.start < q.prompt_length();
    decodes += prefill ? 0 : 1;
    trace_->request(prefill ? "prefill" : "decode", q.request->id, started, ended,
                    "\"output\":" + std::to_string(q.index) + ",\"start\":" + std::to_string(s.start) +
                        ",\"rows\":" + std::to_string(s.count));
  }
  trace_->span("step", Trace::kSteps, started, ended,
               "\"rows\":" + std::to_string(step.rows) + ",\"decodes\":" + std::to_string(decodes) +
                   ",\"prefills\":" + std::to_string(step.sequences.size() - decodes) +
                   ",\"preempted\":" + std::to_string(step.preempted.size()));
  trace_->span("schedule", Trace::kSteps, started, scheduled);
  trace_->span("bind", Trace::kSteps, scheduled, bound);
  trace_->span("forward", Trace::kSteps, bound, ran);
  trace_->span("sample", Trace::kSteps, ran, ended);
  trace_pool();
}

void Engine::trace_pool() {
  if (!model_.pool) return;
  for (const Pool::Span& span : model_.pool->take_spans())
    trace_->span("busy", Trace::kPool + span.worker, span.start, span.end);
}

}  // namespace ocelli
