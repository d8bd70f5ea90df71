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

// Rows are sampled side by side, each from its logits and its sequence alone; what they give is told in their order.
void Engine::collect(const Step& step) {
  pool(step);
  if (sample_rows_.empty()) return;
  const Tensor logits = text_.output("logits");
  const int64_t width = logits.stride[0];
  const float* rows = read_logits(logits);
  sampled_.clear();
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const ScheduledSequence& s = step.sequences[i];
    int64_t row = sample_start_[i];
    for (int32_t p = s.start; p < s.start + s.count; p++) {
      if (prompt_logprob_at(*s.sequence, p)) sampled_.emplace_back(i, p, row++);
    }
    if (s.sample && s.sequence->request->pooling == Pooling::kNone) sampled_.emplace_back(i, -1, row);
  }
  const auto one = [&](int64_t task, int worker) {
    Sampled& mine = sampled_[task];
    const ScheduledSequence& s = step.sequences[mine.sequence];
    const float* row = rows + mine.row * width;
    try {
      if (mine.position < 0) return sample(s, row, width, &samplers_[worker], &mine);
      const Request& r = *s.sequence->request;
      mine.results.push_back(samplers_[worker].logprobs(row, r.prompt[mine.position + 1], r.prompt_logprobs));
    } catch (const Error& e) {
      mine.error = e;
    }
  };
  if (model_.pool) {
    model_.pool->parallel_for(static_cast<int64_t>(sampled_.size()), one);
  } else {
    for (size_t task = 0; task < sampled_.size(); task++) one(static_cast<int64_t>(task), 0);
  }
  uint64_t tokens = 0, guesses = 0, right = 0;
  for (const Sampled& sampled : sampled_) {
    const ScheduledSequence& s = step.sequences[sampled.sequence];
    if (s.sequence->state == SequenceState::kFinished) continue;
    if (sampled.error) {
      fail(s.sequence->request, *sampled.error);
      continue;
    }
    report(s, sampled);
    if (sampled.position >= 0) continue;
    tokens += sampled.results.size();
    guesses += s.drafts;
    right += sampled.right;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.generation_tokens += tokens;
  stats_.draft_tokens += guesses;
  stats_.accepted_tokens += right;
}

// The sequence's next tokens: one, and one more behind each guess that was right. A guess is right iff the ordinary
// sampler draws it from the row before; the row behind a right guess is then as good as one of its own step. Bits are
// the same with and without guesses.
void Engine::sample(const ScheduledSequence& s, const float* logits, int64_t width, Sampler* sampler,
                    Sampled* out) const {
  Sequence& q = *s.sequence;
  for (int32_t d = 0;; d++) {
    out->results.push_back(sampler->sample(logits + d * width, q));
    const int32_t token = out->results.back().token;
    q.tokens.push_back(token);
    q.counts[token]++;
    if (d == s.drafts || token != q.draft[d]) return;
    out->right++;
    q.computed++;
    Record end;
    if (ends(q, token, &end)) return;
  }
}

void Engine::report(const ScheduledSequence& s, const Sampled& sampled) {
  Sequence& q = *s.sequence;
  for (const SampleResult& result : sampled.results) {
    if (sampled.position < 0) {
      emit(q, Record::kToken, result.token, result.logprob, result.rank, result.top, 0);
      continue;
    }
    q.prompt_reported = sampled.position + 1;
    emit(q, Record::kPromptLogprob, q.prompt_reported, result.logprob, result.rank, result.top, result.token);
  }
  Record kind;
  const int32_t token = sampled.results.back().token;
  if (sampled.position >= 0 || !ends(q, token, &kind)) return;
  // Of what stops an answer the end of a sequence is not told, and of what is too long nothing.
  const bool eos = !q.request->ignore_eos && contains(q.request->eos_token_ids, token);
  finish(s.sequence, kind, kind == Record::kLength || eos ? -1 : token, kind == Record::kLength ? 0 : token);
}

// Whether a row at position p tells the log-probability of the prompt's next token, and nobody was told yet.
bool Engine::prompt_logprob_at(const Sequence& q, int32_t p) {
  return q.request->prompt_logprobs >= 0 && q.index == 0 && p + 1 < q.prompt_length() && p + 1 > q.prompt_reported;
}

// Whether the sequence ends with `token`, which is its last, and why.
bool Engine::ends(const Sequence& q, int32_t token, Record* kind) const {
  const Request& r = *q.request;
  *kind = Record::kStop;
  if (!r.ignore_eos && contains(r.eos_token_ids, token)) return true;
  if (contains(r.sampling.stop_token_ids, token)) return true;
  *kind = Record::kLength;
  return q.generated() >= r.max_tokens || q.length() >= config_.scheduler.max_model_len;
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
