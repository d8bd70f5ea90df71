// Sampling on a device: rows of logits to tokens, in the bits of native/engine/sampler.h.
#pragma once

#include <cstdint>

#ifndef __CUDACC__
#include <vector>

#include "core/sample.h"
#endif

namespace ocelli {
namespace cuda {

// One change of one logit. A row's lie sorted by token, those of one token in the order in which they are made.
struct SampleEdit {
  enum Kind : int { kRepetition, kMinus, kPlus, kMask };
  int token;
  int kind;
  float value;
};

// How a row is drawn from.
struct SampleRow {
  unsigned long long seed;   // of the sequence
  unsigned long long index;  // of the token that is drawn
  double top_p;
  float scale;  // 1 / temperature; 0: greedy
  float min_p;
  int top_k;      // 0: all
  int top;        // that many best are told of; -1: not even the rank
  int edits[2];   // [begin, end) of Sample::edits
  int allowed[2]; // of Sample::allowed; others cannot be
  int restricted; // whether `allowed` says anything
};

struct SampleBest {
  int token;
  float logit;
};

struct SampleOutcome {
  enum Fault : int { kNone, kNan, kInfinity };
  double sum;  // of e^(logit - max), all as the model gave them
  float max, logit;
  int token, rank;
  int best;  // how many SampleBest there are
  int fault;
};

constexpr int kSampleBest = 20;  // of each row at most

// Pointers are the device's.
struct Sample {
  const float* logits;  // row r begins at r * stride
  long long stride;
  int vocab;
  const SampleRow* rows;
  const SampleEdit* edits;
  const int* allowed;
  float* edited;  // [rows, vocab]: written and read where a row has edits
  SampleOutcome* outcomes;
  SampleBest* best;  // [rows, kSampleBest]
};

#ifndef __CUDACC__

// What a step's sequences ask for, for the host to copy to the device.
class SampleBatch {
 public:
  explicit SampleBatch(int32_t vocab) : vocab_(vocab) {}
  // tokens: of prompt and answer, the last `generated` of them the answer's; `output`: which one of the request's.
  void add(const SamplingParams& params, const std::vector<int32_t>& tokens, int32_t generated, int32_t output,
           const std::vector<int32_t>& eos_token_ids);

  const std::vector<SampleRow>& rows() const { return rows_; }
  const std::vector<SampleEdit>& edits() const { return edits_; }
  const std::vector<int32_t>& allowed() const { return allowed_; }

 private:
  int32_t vocab_;
  std::vector<SampleRow> rows_;
  std::vector<SampleEdit> edits_;
  std::vector<int32_t> allowed_;
};

// Launches on current_queue(). Throws ERR_SHAPE for a vocabulary that is larger than the kernel has room for.
void sample(const Sample& sample, int rows);

// Throws ERR_NUMERIC where the logits hold a NaN or infinity.
SampleResult result_of(const SampleOutcome& outcome, const SampleBest* best);

#endif

}  // namespace cuda
}  // namespace ocelli
