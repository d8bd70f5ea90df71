// What the engine knows of a request: ids, pictures, sampling, and the sequences that answer it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/sample.h"
#include "core/tensor.h"
#include "engine/sha256.h"

namespace ocelli {

// A tensor and what keeps its bytes alive: what a request brings from JavaScript.
struct HeldTensor {
  Tensor tensor;
  std::shared_ptr<void> bytes;
};

// A picture of a prompt: where its feature rows go, and what the encoder makes them of.
struct Item {
  Digest hash;
  int32_t encoder = 0;  // -1: features are given
  std::map<std::string, HeldTensor> inputs;
  std::map<std::string, int64_t> symbols;
  HeldTensor features;
  int32_t rows = 0;
  std::vector<std::pair<int32_t, int32_t>> ranges;  // start, length in the prompt; rows in order

  int32_t first() const { return ranges.front().first; }
  int32_t end() const { return ranges.back().first + ranges.back().second; }
};

// What becomes of a prompt's hidden rows where a request asks for an embedding in place of tokens.
enum class Pooling : uint8_t { kNone, kLast, kMean, kCls };

struct Request {
  int32_t id = 0;
  std::vector<int32_t> prompt;
  std::vector<int32_t> positions;                   // [axes, prompt]; empty: 0, 1, 2 ...
  std::vector<int32_t> position_delta;              // [axes], added to a generated token's index; empty: 0
  std::vector<Item> items;                          // ascending by first()
  std::vector<std::pair<int32_t, int32_t>> atomic;  // start, length: never cut by a chunk border
  SamplingParams sampling;
  int32_t n = 1;
  int32_t max_tokens = 16;
  int32_t prompt_logprobs = -1;
  Pooling pooling = Pooling::kNone;
  std::vector<int32_t> eos_token_ids;
  bool ignore_eos = false;
  int32_t priority = 0;
  uint64_t arrival = 0;
  Digest salt{};

  // Whether rows before the last are looked at: none may then come out of the prefix cache.
  bool reads_all_rows() const { return prompt_logprobs >= 0 || pooling == Pooling::kMean || pooling == Pooling::kCls; }

  // A delta that says: this axis stays at 0.
  static constexpr int32_t kStill = INT32_MIN;

  // Position of the token at index p on an axis.
  int32_t position(int32_t axis, int32_t p) const {
    const int32_t length = static_cast<int32_t>(prompt.size());
    if (p < length) return positions.empty() ? p : positions[static_cast<size_t>(axis) * length + p];
    if (position_delta.empty()) return p;
    return position_delta[axis] == kStill ? 0 : p + position_delta[axis];
  }
};

enum class SequenceState : uint8_t { kWaiting, kRunning, kFinished };

// One output of a request.
struct Sequence {
  std::shared_ptr<Request> request;
  int32_t index = 0;
  std::weak_ptr<Sequence> leader;  // output 0 of the same request, for the others: they share its prompt's blocks
  SequenceState state = SequenceState::kWaiting;
  std::vector<int32_t> tokens;        // prompt, then what was generated
  int32_t computed = 0;               // tokens whose keys and values are in the cache
  int32_t prompt_reported = 0;        // prompt positions whose logprobs were emitted
  int32_t pooled_rows = 0;            // prompt positions whose hidden rows were looked at
  std::vector<double> pooled;         // what they came to so far
  bool announced = false;             // the first scheduling was reported
  std::vector<int32_t> blocks;        // block table; -1: given back, no window reaches it any more
  int32_t published = 0;              // blocks that the prefix cache knows of
  std::vector<Digest> keys;           // chained content keys of full blocks, as far as asked for
  std::vector<int32_t> draft;         // guesses of the next tokens that this step verifies
  std::vector<int32_t> pinned;        // items whose features this sequence holds in the encoder cache
  std::map<int32_t, int32_t> counts;  // generated token -> times, for penalties

  int32_t length() const { return static_cast<int32_t>(tokens.size()); }
  int32_t prompt_length() const { return static_cast<int32_t>(request->prompt.size()); }
  int32_t generated() const { return length() - prompt_length(); }
};

inline bool contains(const std::vector<int32_t>& list, int32_t x) {
  return std::find(list.begin(), list.end(), x) != list.end();
}

// One sequence for each output of the request.
std::vector<std::shared_ptr<Sequence>> sequences_of(const std::shared_ptr<Request>& request);

}  // namespace ocelli
