#include "engine/scheduler.h"

#include <algorithm>

#include "core/check.h"

namespace ocelli {

bool comes_before(const Sequence& a, const Sequence& b) {
  if (a.request->priority != b.request->priority) return a.request->priority < b.request->priority;
  if (a.request->arrival != b.request->arrival) return a.request->arrival < b.request->arrival;
  return a.index < b.index;
}

Scheduler::Scheduler(const SchedulerConfig& config, BlockManager* blocks) : config_(config), blocks_(blocks) {}

void Scheduler::check(const Request& request) const {
  int64_t length = static_cast<int64_t>(request.prompt.size());
  if (length == 0) throw Error("ERR_PROMPT_EMPTY", "Expected at least one token for the prompt but received none");
  if (length >= config_.max_model_len) {
    throw Error("ERR_PROMPT_TOO_LONG",
                "Expected a prompt of at most " + std::to_string(config_.max_model_len - 1) + " tokens but received " +
                    std::to_string(length),
                "Shorten the prompt or load the engine with a larger maxModelLen.");
  }
  // The whole prompt and one token must fit: a request that starts must be able to end.
  int64_t most = std::min<int64_t>(length + request.max_tokens, config_.max_model_len);
  int64_t needed = (most + blocks_->block_size() - 1) / blocks_->block_size();
  if (needed > blocks_->total()) {
    throw Error("ERR_KV_CACHE",
                "Expected a request of at most " +
                    std::to_string(static_cast<int64_t>(blocks_->total()) * blocks_->block_size()) +
                    " tokens (prompt and answer) for the KV cache but received " + std::to_string(length) + " + " +
                    std::to_string(most - length),
                "Load the engine with a larger kvCacheMemoryBytes, or ask for fewer tokens.");
  }
  if (!config_.chunked_prefill && length > config_.max_tokens) {
    throw Error("ERR_PROMPT_TOO_LONG",
                "Expected a prompt of at most " + std::to_string(config_.max_tokens) +
                    " tokens without chunked prefill but received " + std::to_string(length),
                "Enable chunked prefill or raise maxNumBatchedTokens.");
  }
  for (auto [start, count] : request.atomic) {
    if (count > config_.max_tokens) {
      throw Error("ERR_ATOMIC_SPAN",
                  "Expected spans that attend both ways to have at most " + std::to_string(config_.max_tokens) +
                      " tokens (maxNumBatchedTokens) but received " + std::to_string(count),
                  "Load the engine with a larger maxNumBatchedTokens.");
    }
  }
}

void Scheduler::add(std::shared_ptr<Sequence> sequence) {
  auto at = std::upper_bound(waiting_.begin(), waiting_.end(), sequence,
                             [](const auto& a, const auto& b) { return comes_before(*a, *b); });
  waiting_.insert(at, std::move(sequence));
}

int32_t Scheduler::rows_for(Sequence& sequence, int32_t limit, const Ready& ready) const {
  int32_t start = sequence.computed;
  int32_t end = std::min(sequence.length(), start + limit);
  const Request& request = *sequence.request;
  for (size_t i = 0; i < request.items.size(); i++) {
    const Item& item = request.items[i];
    if (item.end() <= start) continue;
    if (item.first() >= end) break;
    if (!ready(sequence, static_cast<int32_t>(i))) {
      end = std::max(start, item.first());
      break;
    }
  }
  for (auto [from, count] : request.atomic) {
    if (from < end && end < from + count) end = std::max(start, from);
  }
  if (!config_.chunked_prefill && end < sequence.length()) return 0;
  return end - start;
}

bool Scheduler::reserve(const std::shared_ptr<Sequence>& sequence, int32_t tokens, Step* step) {
  while (!blocks_->grow(*sequence, tokens)) {
    if (running_.empty()) return false;
    std::shared_ptr<Sequence> last = running_.back();
    if (last == sequence || !comes_before(*sequence, *last)) return false;
    preempt(last, step);
  }
  return true;
}

void Scheduler::preempt(const std::shared_ptr<Sequence>& sequence, Step* step) {
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
  // Rows that this step had already planned for it do not run.
  auto planned = std::find_if(step->sequences.begin(), step->sequences.end(),
                              [&](const auto& s) { return s.sequence == sequence; });
  if (planned != step->sequences.end()) {
    step->rows -= planned->count;
    step->sequences.erase(planned);
  }
  blocks_->release(*sequence);
  sequence->state = SequenceState::kWaiting;
  preemptions++;
  step->preempted.push_back(sequence);
  add(sequence);
}

Step Scheduler::schedule(const Ready& ready) {
  Step step;
  int32_t budget = config_.max_tokens;
  bool preempted = false;
  auto plan = [&](const std::shared_ptr<Sequence>& s, int32_t limit) {
    int32_t rows = rows_for(*s, limit, ready);
    if (rows <= 0) return false;
    if (!reserve(s, s->computed + rows, &step)) return false;
    step.sequences.push_back({s, s->computed, rows, s->computed + rows == s->length()});
    step.rows += rows;
    return true;
  };
  // Decodes: one row each, all of them, so that nobody waits behind a prompt.
  std::vector<std::shared_ptr<Sequence>> order = running_;
  for (const auto& s : order) {
    if (s->state != SequenceState::kRunning || s->length() - s->computed != 1 || budget - step.rows <= 0) continue;
    plan(s, 1);
  }
  bool decoding = !step.sequences.empty();
  // Prompts share what is left, or a smaller part of it when somebody else's tokens wait for the step.
  int32_t prefill =
      decoding && config_.chunked_prefill ? std::min(budget - step.rows, config_.mixed_prefill) : budget - step.rows;
  auto prefill_limit = [&](const Sequence& s) {
    // A span that attends both ways runs whole, even where the smaller part would cut it.
    for (auto [from, count] : s.request->atomic) {
      if (s.computed >= from && s.computed < from + count)
        return std::min(std::max(prefill, from + count - s.computed), budget - step.rows);
    }
    return std::min(prefill, budget - step.rows);
  };
  for (const auto& s : order) {
    if (s->state != SequenceState::kRunning || s->length() - s->computed <= 1 || prefill <= 0) continue;
    int32_t before = step.rows;
    if (plan(s, prefill_limit(*s))) prefill -= step.rows - before;
  }
  preempted = !step.preempted.empty();
  // Waiting ones come in while there is room; a preempted one waits for the next step.
  while (!preempted && !waiting_.empty() && prefill > 0 &&
         static_cast<int32_t>(running_.size()) < config_.max_sequences) {
    std::shared_ptr<Sequence> s = waiting_.front();
    if (s->blocks.empty()) blocks_->adopt_prefix(*s);
    int32_t rows = rows_for(*s, prefill_limit(*s), ready);
    bool waits_for_features = rows == 0 && s->computed < s->length();
    if (!waits_for_features && blocks_->missing(*s, s->computed + rows) > blocks_->free_blocks()) {
      blocks_->release(*s);
      break;
    }
    waiting_.pop_front();
    s->state = SequenceState::kRunning;
    running_.insert(std::upper_bound(running_.begin(), running_.end(), s,
                                     [](const auto& a, const auto& b) { return comes_before(*a, *b); }),
                    s);
    if (waits_for_features) continue;
    int32_t before = step.rows;
    plan(s, rows);
    prefill -= step.rows - before;
  }
  return step;
}

void Scheduler::advance(const Step& step) {
  for (const ScheduledSequence& s : step.sequences) {
    if (s.sequence->state != SequenceState::kRunning) continue;
    s.sequence->computed = s.start + s.count;
    blocks_->publish(*s.sequence);
  }
}

void Scheduler::finish(const std::shared_ptr<Sequence>& sequence) {
  if (sequence->state == SequenceState::kFinished) return;
  auto running = std::find(running_.begin(), running_.end(), sequence);
  if (running != running_.end()) running_.erase(running);
  auto waiting = std::find(waiting_.begin(), waiting_.end(), sequence);
  if (waiting != waiting_.end()) waiting_.erase(waiting);
  blocks_->release(*sequence);
  sequence->state = SequenceState::kFinished;
}

}  // namespace ocelli
