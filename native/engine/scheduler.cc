#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "engine/draft.h"

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
  int64_t end = 0;
  for (auto [start, count] : request.atomic) {
    if (start < end || count < 1 || start > length - count) {
      throw Error("ERR_ATOMIC_SPAN", "Expected ascending spans inside a prompt of " + std::to_string(length) +
                                         " tokens but received " + std::to_string(count) + " tokens from " +
                                         std::to_string(start));
    }
    end = static_cast<int64_t>(start) + count;
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

int32_t Scheduler::rows_for(const std::shared_ptr<Sequence>& sequence, int32_t limit, const Ready& ready) {
  const Request& request = *sequence->request;
  const int32_t start = sequence->computed;
  const int32_t prompt = sequence->prompt_length();
  int32_t end = std::min(sequence->length(), start + limit);
  bool featured = true;
  for (size_t i = 0; featured && i < request.items.size(); i++) {
    const Item& item = request.items[i];
    if (item.end() <= start) continue;
    if (item.first() >= end) break;
    featured = ready(*sequence, static_cast<int32_t>(i));
    if (!featured) end = std::max(start, item.first());
  }
  for (auto [from, count] : request.atomic) {
    if (from < end && end < from + count) end = std::max(start, from);
  }
  // Unchunked, a prompt runs in one piece; what had been generated before a preemption may follow in others.
  if (!config_.chunked_prefill && end < prompt) end = start;
  if (featured && end == start && crowded_out_ == nullptr) crowded_out_ = sequence;
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
    step->logits -= planned->logits;
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
  const int32_t budget = config_.max_tokens;
  auto place = [&](const std::shared_ptr<Sequence>& s, int32_t rows) {
    // Spans that attend both ways and unchunked prompts cannot be cut: their logits may be more.
    if (s->request->prompt_logprobs >= 0 && config_.chunked_prefill && s->request->atomic.empty()) {
      while (rows > 1 && step.logits + logits_of(*s, rows) > config_.max_logits) rows--;
    }
    if (rows <= 0 || !reserve(s, s->computed + rows, &step)) return 0;
    const int32_t logits = logits_of(*s, rows);
    step.sequences.push_back({s, s->computed, rows, s->computed + rows == s->length(), logits});
    step.rows += rows;
    step.logits += logits;
    return rows;
  };
  // What found too little room beside others in the last step has all of this one to begin with.
  const std::shared_ptr<Sequence> first = std::exchange(crowded_out_, nullptr);
  if (first != nullptr && first->state == SequenceState::kRunning) place(first, rows_for(first, budget, ready));
  // Decodes: one row each, all of them, so that nobody waits behind a prompt.
  const std::vector<std::shared_ptr<Sequence>> order = running_;
  bool decoding = false;
  for (const auto& s : order) {
    if (s->state != SequenceState::kRunning || s == first || s->length() - s->computed != 1 || step.rows >= budget)
      continue;
    decoding = place(s, rows_for(s, 1, ready)) > 0 || decoding;
  }
  if (config_.draft_tokens > 0) add_drafts(&step);
  // Prompts share what is left, or a smaller part of it when somebody else's tokens wait for the step.
  int32_t prefill = budget - step.rows;
  if (decoding && config_.chunked_prefill) prefill = std::min(prefill, config_.mixed_prefill);
  auto prefill_limit = [&](const Sequence& s) {
    // A span that attends both ways runs whole, even where the smaller part would cut it.
    for (auto [from, count] : s.request->atomic) {
      if (s.computed >= from && s.computed < from + count)
        return std::min(std::max(prefill, from + count - s.computed), budget - step.rows);
    }
    return std::min(prefill, budget - step.rows);
  };
  for (const auto& s : order) {
    if (s->state != SequenceState::kRunning || s == first || s->length() - s->computed <= 1 || prefill <= 0) continue;
    prefill -= place(s, rows_for(s, prefill_limit(*s), ready));
  }
  // Waiting ones come in while there is room for all of their tokens; a preempted one waits for the next step.
  for (size_t next = 0; step.preempted.empty() && next < waiting_.size() && prefill > 0 && blocks_->free_blocks() > 0 &&
                        static_cast<int32_t>(running_.size()) < config_.max_sequences;) {
    std::shared_ptr<Sequence> s = waiting_[next];
    if (waits_for_leader(*s)) {
      next++;
      continue;
    }
    if (std::shared_ptr<Sequence> leader = s->leader.lock()) blocks_->share_prompt(*s, *leader, config_.window);
    blocks_->adopt_prefix(*s);
    if (blocks_->missing(*s, s->length()) > blocks_->free_blocks()) {
      blocks_->release(*s);
      break;
    }
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(next));
    s->state = SequenceState::kRunning;
    running_.insert(std::upper_bound(running_.begin(), running_.end(), s,
                                     [](const auto& a, const auto& b) { return comes_before(*a, *b); }),
                    s);
    blocks_->count_prefix(*s);
    prefill -= place(s, rows_for(s, prefill_limit(*s), ready));
  }
  return step;
}

// Guesses ride along where a step has room for them without anybody giving way. Up to some 16 rows a product over the
// weights takes as long as one row's: their memory is what it waits for.
void Scheduler::add_drafts(Step* step) {
  constexpr int32_t kCheapRows = 16;
  for (ScheduledSequence& s : step->sequences) {
    Sequence& q = *s.sequence;
    if (!s.sample || s.count != 1 || s.start < q.prompt_length()) continue;
    const int32_t room = std::min({config_.draft_tokens, std::min(kCheapRows, config_.max_tokens) - step->rows,
                                   config_.max_logits - step->logits, q.request->max_tokens - q.generated() - 1,
                                   config_.max_model_len - q.length() - 1});
    q.draft = draft_by_lookup(q.tokens, config_.lookup_max, room);
    while (!q.draft.empty() &&
           blocks_->missing(q, q.length() + static_cast<int32_t>(q.draft.size())) > blocks_->free_blocks()) {
      q.draft.pop_back();
    }
    s.drafts = static_cast<int32_t>(q.draft.size());
    if (s.drafts == 0) continue;
    blocks_->grow(q, q.length() + s.drafts);
    s.count += s.drafts;
    s.logits += s.drafts;
    step->rows += s.drafts;
    step->logits += s.drafts;
  }
}

int32_t Scheduler::logits_of(const Sequence& sequence, int32_t rows) {
  const int32_t end = sequence.computed + rows;
  int32_t logits = end == sequence.length() ? 1 : 0;
  if (sequence.request->prompt_logprobs < 0 || sequence.index != 0) return logits;
  const int32_t first = std::max(sequence.computed, sequence.prompt_reported);
  return logits + std::max(0, std::min(end, sequence.prompt_length() - 1) - first);
}

bool Scheduler::waits_for_leader(const Sequence& sequence) {
  const std::shared_ptr<Sequence> leader = sequence.leader.lock();
  return leader && leader->state != SequenceState::kFinished && leader->computed < leader->prompt_length();
}

std::vector<std::shared_ptr<Sequence>> Scheduler::yield() {
  Step step;
  while (running_.size() > 1) preempt(running_.back(), &step);
  return step.preempted;
}

void Scheduler::advance(const Step& step) {
  for (const ScheduledSequence& s : step.sequences) {
    if (s.sequence->state != SequenceState::kRunning) continue;
    s.sequence->computed = s.start + s.count - s.drafts;
    blocks_->publish(*s.sequence);
    // The next row sees (computed - window, computed].
    if (config_.window > 0) blocks_->release_below(*s.sequence, s.sequence->computed - config_.window + 1);
  }
}

std::vector<std::shared_ptr<Sequence>> sequences_of(const std::shared_ptr<Request>& request) {
  std::vector<std::shared_ptr<Sequence>> sequences;
  for (int32_t i = 0; i < request->n; i++) {
    auto sequence = std::make_shared<Sequence>();
    sequence->request = request;
    sequence->index = i;
    sequence->tokens = request->prompt;
    sequence->tokens.reserve(request->prompt.size() + std::min(request->max_tokens, 4096));
    if (i > 0) sequence->leader = sequences.front();
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

void Scheduler::remove(const std::shared_ptr<Sequence>& sequence) {
  auto running = std::find(running_.begin(), running_.end(), sequence);
  if (running != running_.end()) running_.erase(running);
  auto waiting = std::find(waiting_.begin(), waiting_.end(), sequence);
  if (waiting != waiting_.end()) waiting_.erase(waiting);
  if (crowded_out_ == sequence) crowded_out_ = nullptr;
  blocks_->release(*sequence);
  sequence->state = SequenceState::kWaiting;
}

void Scheduler::finish(const std::shared_ptr<Sequence>& sequence) {
  if (sequence->state == SequenceState::kFinished) return;
  remove(sequence);
  sequence->state = SequenceState::kFinished;
}

}  // namespace ocelli
