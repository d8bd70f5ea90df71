// Which rows run in the next step. No device, no clock: tests replay traces.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "engine/block_manager.h"
#include "engine/request.h"

namespace ocelli {

struct SchedulerConfig {
  int32_t max_sequences = 16;
  int32_t max_tokens = 2048;  // rows per step
  int32_t max_model_len = 4096;
  bool chunked_prefill = true;
  // Rows of prompts that share a step with decoding sequences: bounds the gap between their tokens.
  int32_t mixed_prefill = 128;
  // Rows of logits per step. Prompts that report log-probabilities have one per token and run in chunks of it.
  int32_t max_logits = INT32_MAX;
  // Where every layer looks back this far at most, blocks behind are given back; 0: none does.
  int32_t window = 0;
  // Guesses per sequence and step, looked up by the last tokens, lookup_max of them at most; 0: none.
  int32_t draft_tokens = 0;
  int32_t lookup_max = 4;
};

struct ScheduledSequence {
  std::shared_ptr<Sequence> sequence;
  int32_t start = 0;    // first row's position
  int32_t count = 0;    // rows
  bool sample = false;  // the last row yields a token; with drafts each of the last 1 + drafts rows may
  int32_t logits = 0;   // rows of logits
  int32_t drafts = 0;   // last rows that hold guesses
};

struct Step {
  std::vector<ScheduledSequence> sequences;
  std::vector<std::shared_ptr<Sequence>> preempted;
  int32_t rows = 0;
  int32_t logits = 0;
};

class Scheduler {
 public:
  // ready(sequence, item): the item's features can be read now (and stay while the sequence runs); false: they are
  // asked for.
  using Ready = std::function<bool(Sequence&, int32_t item)>;
  Scheduler(const SchedulerConfig& config, BlockManager* blocks);

  void add(std::shared_ptr<Sequence> sequence);
  // Throws ERR_PROMPT_TOO_LONG, ERR_KV_CACHE or ERR_ATOMIC_SPAN for what can never run.
  void check(const Request& request) const;
  // Decodes first, then running prompts, then waiting ones; blocks are reserved. The caller runs the rows, then calls
  // advance.
  Step schedule(const Ready& ready);
  // Another bound than the configuration's, for the steps to come.
  void set_mixed_prefill(int32_t rows) { config_.mixed_prefill = rows; }
  // The step's rows are in the cache.
  void advance(const Step& step);
  // Takes a sequence out without ending it; its blocks are free at once. `add` lets it come in again.
  void remove(const std::shared_ptr<Sequence>& sequence);
  // Ends a sequence in any state; its blocks are free at once.
  void finish(const std::shared_ptr<Sequence>& sequence);
  // Nothing can run because running sequences wait for what others hold: all but the first give way. Returns them.
  std::vector<std::shared_ptr<Sequence>> yield();

  const std::vector<std::shared_ptr<Sequence>>& running() const { return running_; }
  const std::deque<std::shared_ptr<Sequence>>& waiting() const { return waiting_; }
  uint64_t preemptions = 0;

 private:
  // Rows of `sequence` that may run now, at most `limit`; 0 when features are missing or what has to run in one piece
  // is longer than `limit` (then it may go first in the next step).
  int32_t rows_for(const std::shared_ptr<Sequence>& sequence, int32_t limit, const Ready& ready);
  // Blocks for the rows, preempting sequences behind `sequence` if need be.
  bool reserve(const std::shared_ptr<Sequence>& sequence, int32_t tokens, Step* step);
  // Rows of logits that positions [start, start + rows) give.
  static int32_t logits_of(const Sequence& sequence, int32_t rows);
  void add_drafts(Step* step);
  // An output beside the first waits until that one has computed the prompt they share.
  static bool waits_for_leader(const Sequence& sequence);
  void preempt(const std::shared_ptr<Sequence>& sequence, Step* step);

  SchedulerConfig config_;
  BlockManager* blocks_;
  std::vector<std::shared_ptr<Sequence>> running_;  // by priority, then arrival
  std::deque<std::shared_ptr<Sequence>> waiting_;   // likewise
  std::shared_ptr<Sequence> crowded_out_;           // found too little room for what has to run in one piece
};

// Whether a comes before b: lower priority value, then earlier arrival, then lower output index (as in vLLM).
bool comes_before(const Sequence& a, const Sequence& b);

}  // namespace ocelli
