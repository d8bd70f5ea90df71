// From logits to records: sampling, stopping, and what is told to JavaScript.
#include <algorithm>
#include <cmath>

#include "engine/engine.h"

namespace ocelli {

// The step's rows of logits, where the host reads them.
const float* Engine::read_logits(const Tensor& logits) {
  if (memory_.host()) return logits.as<float>();
  const uint64_t bytes = logits.shape[0] * logits.stride[0] * sizeof(float);
  if (bytes > logits_.bytes()) throw Error("ERR_ENGINE", "Expected at most as many rows of logits as were planned");
  memory_.download(logits_.data(), logits.data, bytes);
  memory_.synchronize();
  return reinterpret_cast<const float*>(logits_.data());
}

void Engine::collect(const Step& step) {
  if (sample_rows_.empty()) return;
  const Tensor logits = text_.output("logits");
  const int64_t width = logits.stride[0];
  const float* rows = read_logits(logits);
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const ScheduledSequence& s = step.sequences[i];
    Sequence& q = *s.sequence;
    const Request& r = *q.request;
    int64_t next = sample_start_[i];
    try {
      for (int32_t p = s.start; p < s.start + s.count; p++) {
        if (!prompt_logprob_at(q, p)) continue;
        const SampleResult result = sampler_.logprobs(rows + next++ * width, q.tokens[p + 1], r.prompt_logprobs);
        emit(q, Record::kPromptLogprob, p + 1, result.logprob, result.rank, result.top, q.tokens[p + 1]);
        q.prompt_reported = p + 1;
      }
      if (s.sample) verify(s, rows + next * width, width);
    } catch (const Error& e) {
      fail(s.sequence->request, e);
    }
  }
}

// A guess is right iff the ordinary sampler draws it from the row before; the row behind a right guess is then as good
// as one of its own step. Bits are the same with and without guesses.
void Engine::verify(const ScheduledSequence& s, const float* logits, int64_t width) {
  Sequence& q = *s.sequence;
  int32_t right = 0;
  for (int32_t d = 0; d <= s.drafts && q.state == SequenceState::kRunning; d++) {
    const SampleResult result = sampler_.sample(logits + d * width, q);
    accept(s.sequence, result);
    if (d == s.drafts || result.token != q.draft[d]) break;
    right++;
    q.computed++;
  }
  if (s.drafts == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.draft_tokens += s.drafts;
  stats_.accepted_tokens += right;
}

// Whether the row at position p tells the log-probability of the prompt's next token, and nobody was told yet.
bool Engine::prompt_logprob_at(const Sequence& q, int32_t p) {
  return q.request->prompt_logprobs >= 0 && q.index == 0 && p + 1 < q.prompt_length() && p + 1 > q.prompt_reported;
}

void Engine::accept(const std::shared_ptr<Sequence>& sequence, const SampleResult& result) {
  Sequence& q = *sequence;
  if (q.state == SequenceState::kFinished) return;
  const Request& r = *q.request;
  q.tokens.push_back(result.token);
  q.counts[result.token]++;
  emit(q, Record::kToken, result.token, result.logprob, result.rank, result.top, 0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stats_.generation_tokens++;
  }
  auto in = [&](const std::vector<int32_t>& list) {
    return std::find(list.begin(), list.end(), result.token) != list.end();
  };
  if (!r.ignore_eos && in(r.eos_token_ids)) {
    finish(sequence, Record::kStop, -1, result.token);
  } else if (in(r.sampling.stop_token_ids)) {
    finish(sequence, Record::kStop, result.token, result.token);
  } else if (q.generated() >= r.max_tokens || q.length() >= config_.scheduler.max_model_len) {
    finish(sequence, Record::kLength, -1, 0);
  }
}

void Engine::finish(const std::shared_ptr<Sequence>& sequence, Record kind, double token, double extra) {
  if (sequence->state == SequenceState::kFinished) return;
  unpin(*sequence, INT32_MAX);
  scheduler_.finish(sequence);
  emit(*sequence, kind, token, 0, 0, {}, extra);
  const int32_t id = sequence->request->id;
  auto found = active_.find(id);
  if (found == active_.end() || --found->second.unfinished > 0) return;
  if (found->second.held) held_--;
  active_.erase(found);
  std::lock_guard<std::mutex> lock(mutex_);
  known_.erase(id);
  note_occupancy();
}

void Engine::fail(const std::shared_ptr<Request>& request, const Error& error) {
  auto found = active_.find(request->id);
  if (found == active_.end()) return;
  local_.errors.push_back(error);
  const double index = static_cast<double>(local_.errors.size() - 1);
  const std::vector<std::shared_ptr<Sequence>> sequences = found->second.sequences;
  for (const auto& s : sequences) finish(s, Record::kFailed, -1, index);
}

void Engine::fail_step(const Step& step, const Error& error) {
  for (const ScheduledSequence& s : step.sequences) fail(s.sequence->request, error);
}

void Engine::emit(const Sequence& sequence, Record kind, double token, double logprob, double rank,
                  const std::vector<TokenLogprob>& top, double extra) {
  std::vector<double>& out = local_.data;
  out.insert(out.end(), {static_cast<double>(sequence.request->id), static_cast<double>(sequence.index),
                         static_cast<double>(kind), token, logprob, rank, static_cast<double>(top.size())});
  for (const TokenLogprob& t : top) {
    out.insert(out.end(), {static_cast<double>(t.token), static_cast<double>(t.logprob), static_cast<double>(t.rank)});
  }
  out.push_back(extra);
}

// Hands the step's records over; at most one notification is under way.
void Engine::flush() {
  if (local_.empty()) return;
  bool notify = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    // Error records index the list they are delivered with.
    const double shift = static_cast<double>(pending_.errors.size());
    std::vector<double>& data = local_.data;
    for (size_t at = 0; at < data.size();) {
      const size_t size = 8 + 3 * static_cast<size_t>(data[at + 6]);
      if (data[at + 2] == static_cast<double>(Record::kFailed)) data[at + size - 1] += shift;
      at += size;
    }
    pending_.data.insert(pending_.data.end(), data.begin(), data.end());
    pending_.errors.insert(pending_.errors.end(), local_.errors.begin(), local_.errors.end());
    notify = !notified_;
    notified_ = true;
  }
  local_.data.clear();
  local_.errors.clear();
  if (notify) notify_();
}

}  // namespace ocelli
