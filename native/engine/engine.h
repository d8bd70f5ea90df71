// The engine: one thread that takes requests, schedules rows, encodes pictures, runs the model, samples and reports. It
// never waits for JavaScript: what it reports is collected until somebody takes it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/executor.h"
#include "engine/encoder_cache.h"
#include "engine/kv_memory.h"
#include "engine/pace.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/trace.h"

namespace ocelli {

struct EngineConfig {
  SchedulerConfig scheduler;
  int32_t block_size = 16;
  int32_t kv_blocks = 0;
  DType kv_dtype = DType::kF32;
  int32_t kv_layers = 0, kv_heads = 0, head_dim_k = 0, head_dim_v = 0;
  uint64_t encoder_cache_bytes = 0;
  bool prefix_caching = true;
  int32_t position_axes = 1;
  int32_t feature_width = 0;
  int32_t vocab = 0;
  int32_t max_queued = 0;  // 0: no limit
  uint64_t text_arena_bytes = 0, encoder_arena_bytes = 0;
  std::string trace_file;  // empty: none
};

// What the engine runs; `owner` keeps all of it alive.
struct EngineModel {
  const Program* text = nullptr;
  std::vector<const Program*> encoders;
  const Weights* weights = nullptr;
  const Backend* backend = nullptr;
  Pool* pool = nullptr;
  std::shared_ptr<void> owner;
};

struct EngineStats {
  int32_t running = 0, waiting = 0, kv_blocks_total = 0, kv_blocks_used = 0;
  uint64_t prefix_queries = 0, prefix_hits = 0, encoder_hits = 0, encoder_queries = 0, encoder_bytes = 0,
           encoder_runs = 0;
  uint64_t draft_tokens = 0, accepted_tokens = 0;
  uint64_t preemptions = 0, steps = 0, prompt_tokens = 0, generation_tokens = 0;
  double step_seconds = 0, forward_seconds = 0, scheduler_seconds = 0;
};

// The kinds of records (lib/native.ts, EngineEvent).
enum class Record : int {
  kToken = 0,
  kStop = 1,
  kLength = 2,
  kAborted = 3,
  kFailed = 4,
  kPromptLogprob = 5,
  kScheduled = 6,
  kPooled = 7
};

struct EngineEvents {
  std::vector<double> data;
  std::vector<Error> errors;
  bool empty() const { return data.empty(); }
};

class Engine {
 public:
  // notify is called on the engine thread when events wait that nobody was told of; take() collects them.
  Engine(EngineModel model, const EngineConfig& config, std::function<void()> notify);
  ~Engine();

  // Throws what can be known of a request before it runs.
  void check(const Request& request) const;
  // All or none: the queue has room for each, and every id is new; else it throws and takes none. Each passes check
  // first.
  void submit(std::vector<std::shared_ptr<Request>> requests);
  // output -1: the whole request; else that output alone. Unknown ids are passed over: an abort may cross the end.
  void abort(int32_t id, int32_t output = -1);
  // A held request makes no tokens until it is let go; its blocks are free for others meanwhile (and found again in the
  // prefix cache, as long as nobody needed them).
  void hold(int32_t id, bool held);
  EngineEvents take();
  EngineStats stats();
  // Aborts everything and ends the thread; waits for it. Safe to call twice.
  void stop();

 private:
  struct Active {
    std::shared_ptr<Request> request;
    std::vector<std::shared_ptr<Sequence>> sequences;
    int32_t unfinished = 0;
    bool held = false;
  };
  struct EncodeJob {
    std::shared_ptr<Request> request;
    int32_t item;
    bool bound = false;
  };

  // What one row of logits gave, or the rows of a sequence that verifies guesses: its next tokens.
  struct Sampled {
    Sampled(size_t sequence, int32_t position, int64_t row) : sequence(sequence), position(position), row(row) {}
    size_t sequence;    // of the step's
    int32_t position;   // of a prompt's row that tells the log-probability of the next token; -1: the next tokens
    int64_t row;        // of the logits
    int32_t right = 0;  // guesses
    std::vector<SampleResult> results;
    std::optional<Error> error;
  };

  void check_features(const Request& request) const;
  void loop();
  bool intake();
  void add_request(const std::shared_ptr<Request>& request);
  void set_held(Active& active, bool held);
  void step();
  void trace_step(const Step& step, Trace::Time started, Trace::Time scheduled, Trace::Time bound, Trace::Time ran);
  void trace_pool();
  bool features_ready(Sequence& sequence, int32_t item);
  void encode();
  void note_step(const Step& step, double seconds, double forward, double scheduler);
  void finish_encoding(const EncodeJob& job);
  void unpin(Sequence& sequence, int32_t before);
  void reserve_step();
  void bind_step(const Step& step);
  void place_features(const Item& item, const ScheduledSequence& s, int32_t first_row);
  void collect(const Step& step);
  const float* read_logits(const Tensor& logits);
  void sample(const ScheduledSequence& s, const float* logits, int64_t width, Sampler* sampler, Sampled* out) const;
  void report(const ScheduledSequence& s, const Sampled& sampled);
  bool ends(const Sequence& sequence, int32_t token, Record* kind) const;
  void pool(const Step& step);
  void pool_rows(const ScheduledSequence& s, const float* rows, int64_t width, int64_t stride);
  void emit_pooled(const Sequence& sequence);
  void finish(const std::shared_ptr<Sequence>& sequence, Record kind, double token, double extra);
  void fail(const std::shared_ptr<Request>& request, const Error& error);
  void fail_step(const Step& step, const Error& error);
  void fail_all(const std::exception& fault);
  void emit(const Sequence& sequence, Record kind, double token, double logprob, double rank,
            const std::vector<TokenLogprob>& top, double extra);
  void note_occupancy();  // under mutex_
  void flush();
  static bool prompt_logprob_at(const Sequence& sequence, int32_t position);

  EngineModel model_;
  EngineConfig config_;
  std::function<void()> notify_;
  Memory& memory_;  // where the model's tensors lie
  KvMemory kv_;
  BlockManager blocks_;
  Scheduler scheduler_;
  Pace pace_;
  EncoderCache encoder_cache_;
  std::vector<Sampler> samplers_;  // one for each thread of the pool
  std::vector<Sampled> sampled_;   // this step's
  Executor text_;
  std::vector<std::unique_ptr<Executor>> encoders_;
  std::map<int32_t, Active> active_;  // engine thread only
  std::deque<EncodeJob> jobs_;
  uint64_t arrivals_ = 0;
  size_t held_ = 0;  // active requests that are held
  int32_t idle_rounds_ = 0;

  // One step's inputs, reserved once.
  std::vector<int32_t> input_ids_, positions_, sample_rows_, feature_rows_, cu_rows_, context_, block_table_, slot_,
      hi_;
  std::vector<int64_t> sample_start_;  // per scheduled sequence: its first row of logits
  Allocation features_;                // [max_tokens, feature_width], of memory_
  Allocation logits_;                  // where they are read, if memory_ is not the host's
  size_t least_blocks_ = 1;            // of a row of block_table_
  StepContext step_;
  std::unique_ptr<Trace> trace_;  // null: none is written

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Request>> incoming_;
  std::vector<std::pair<int32_t, int32_t>> aborts_;  // id, output
  std::vector<std::pair<int32_t, bool>> holds_;      // id, held
  std::map<int32_t, bool> known_;                    // ids in flight
  EngineEvents pending_;                             // emitted, not yet taken
  EngineEvents local_;                               // engine thread only, until flush
  bool notified_ = false;
  bool stopping_ = false;
  EngineStats stats_;
  std::thread thread_;
};

}  // namespace ocelli
