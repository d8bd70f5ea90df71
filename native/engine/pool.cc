// Embeddings: the hidden rows of a prompt become one vector, whatever chunks they come in.
#include <algorithm>
#include <cmath>

#include "engine/engine.h"

namespace ocelli {

void Engine::pool(const Step& step) {
  std::vector<float> copy;
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const ScheduledSequence& s = step.sequences[i];
    if (s.sequence->request->pooling == Pooling::kNone) continue;
    try {
      const Tensor hidden = text_.output("hidden");
      const int64_t stride = hidden.stride[0];
      const float* rows = hidden.as<float>() + cu_rows_[i] * stride;
      if (!memory_.host()) {
        copy.resize(s.count * stride);
        memory_.download(copy.data(), rows, copy.size() * sizeof(float));
        memory_.synchronize();
        rows = copy.data();
      }
      pool_rows(s, rows, hidden.shape[1], stride);
    } catch (const Error& e) {
      fail(s.sequence->request, e);
    }
  }
}

// Rows are added in the order of the prompt, in double: neither chunks nor a preemption change a bit of the mean.
void Engine::pool_rows(const ScheduledSequence& s, const float* rows, int64_t width, int64_t stride) {
  Sequence& q = *s.sequence;
  const Pooling pooling = q.request->pooling;
  const int32_t length = q.prompt_length();
  q.pooled.resize(width);
  for (int32_t p = std::max(s.start, q.pooled_rows); p < s.start + s.count; p++) {
    q.pooled_rows = p + 1;
    if ((pooling == Pooling::kLast && p + 1 < length) || (pooling == Pooling::kCls && p > 0)) continue;
    const float* row = rows + (p - s.start) * stride;
    for (int64_t j = 0; j < width; j++) q.pooled[j] += row[j];
  }
  if (q.pooled_rows < length) return;
  for (double& value : q.pooled) {
    if (pooling == Pooling::kMean) value /= length;
    if (!std::isfinite(value)) {
      throw Error("ERR_NUMERIC", "Expected finite hidden states but the model produced NaN or infinity",
                  "Load it with dtype 'float32'.");
    }
  }
  emit_pooled(q);
  finish(s.sequence, Record::kLength, -1, 0);
}

// The record's list holds the vector, filled up with zeros to whole triples; its length stands last.
void Engine::emit_pooled(const Sequence& q) {
  const size_t triples = (q.pooled.size() + 2) / 3;
  std::vector<double>& out = local_.data;
  out.insert(out.end(), {static_cast<double>(q.request->id), static_cast<double>(q.index),
                         static_cast<double>(Record::kPooled), -1, 0, 0, static_cast<double>(triples)});
  out.insert(out.end(), q.pooled.begin(), q.pooled.end());
  out.insert(out.end(), triples * 3 - q.pooled.size(), 0.0);
  out.push_back(static_cast<double>(q.pooled.size()));
}

}  // namespace ocelli
