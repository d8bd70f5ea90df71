// A step's rows as the text program's inputs.
#include <algorithm>

#include "core/staging.h"
#include "engine/engine.h"

namespace ocelli {

// What steps need, allocated before the first.
void Engine::reserve_step() {
  const size_t rows = config_.scheduler.max_tokens;
  input_ids_.reserve(rows);
  positions_.reserve(rows * config_.position_axes);
  feature_rows_.reserve(rows);
  slot_.reserve(rows);
  hi_.reserve(rows);
  const char* remedy = "Lower maxNumBatchedTokens.";
  features_ = Allocation(memory_, rows * config_.feature_width * sizeof(float), Use::kInParts, "a step's features",
                         remedy, "ERR_MEMORY");
  uint64_t inputs = 0;
  if (!memory_.host()) {
    logits_ = Allocation(memory_.staging(),
                         static_cast<uint64_t>(config_.scheduler.max_logits) * config_.vocab * sizeof(float),
                         Use::kWhole, "logits", remedy, "ERR_MEMORY");
    // A device's launches go by the room in the block table: it is always the same.
    least_blocks_ = (config_.scheduler.max_model_len + config_.block_size - 1) / config_.block_size;
    const auto words = [](size_t count) { return Staging::room(count * sizeof(int32_t)); };
    inputs =
        words(rows * config_.position_axes) + 3 * words(rows) +
        Staging::room(static_cast<int64_t>(rows), config_.scheduler.max_sequences, static_cast<int64_t>(least_blocks_));
  }
  text_.reserve(config_.text_arena_bytes, inputs);
}

void Engine::bind_step(const Step& step) {
  const int32_t axes = config_.position_axes;
  const int64_t rows = step.rows;
  input_ids_.clear();
  positions_.assign(rows * axes, 0);
  sample_rows_.clear();
  sample_start_.clear();
  feature_rows_.clear();
  cu_rows_.assign(1, 0);
  context_.clear();
  slot_.clear();
  hi_.clear();
  size_t max_blocks = least_blocks_;
  for (const ScheduledSequence& s : step.sequences) max_blocks = std::max(max_blocks, s.sequence->blocks.size());
  block_table_.assign(step.sequences.size() * max_blocks, 0);
  for (size_t i = 0; i < step.sequences.size(); i++) {
    const ScheduledSequence& s = step.sequences[i];
    const Sequence& q = *s.sequence;
    const Request& r = *q.request;
    const int32_t end = s.start + s.count;
    // A block that was given back is behind every window: what stands in its place is not read.
    std::transform(q.blocks.begin(), q.blocks.end(), block_table_.begin() + i * max_blocks,
                   [](int32_t block) { return std::max(block, 0); });
    const int32_t first_row = cu_rows_.back();
    sample_start_.push_back(static_cast<int64_t>(sample_rows_.size()));
    for (int32_t p = s.start; p < end; p++) {
      const int64_t row = input_ids_.size();
      input_ids_.push_back(p < q.length() ? q.tokens[p] : q.draft[p - q.length()]);
      for (int32_t a = 0; a < axes; a++) positions_[a * rows + row] = r.position(a, p);
      slot_.push_back(q.blocks[p / config_.block_size] * config_.block_size + p % config_.block_size);
      int32_t hi = p + 1;
      for (auto [start, count] : r.atomic) {
        if (p >= start && p < start + count) hi = start + count;
      }
      hi_.push_back(hi);
      if (prompt_logprob_at(q, p)) sample_rows_.push_back(static_cast<int32_t>(row));
    }
    for (int32_t d = s.drafts; s.sample && r.pooling == Pooling::kNone && d >= 0; d--)
      sample_rows_.push_back(first_row + s.count - 1 - d);
    for (const Item& item : r.items) {
      if (item.end() > s.start && item.first() < end) place_features(item, s, first_row);
    }
    cu_rows_.push_back(first_row + s.count);
    context_.push_back(end);
  }
  step_.sequences = static_cast<int32_t>(step.sequences.size());
  step_.cu_rows = cu_rows_.data();
  step_.context = context_.data();
  step_.block_table = block_table_.data();
  step_.max_blocks = static_cast<int32_t>(max_blocks);
  step_.slot = slot_.data();
  step_.hi = hi_.data();
  step_.kv = &kv_.cache();

  const int64_t samples = sample_rows_.size(), featured = feature_rows_.size();
  auto tensor = [](void* data, DType dtype, std::initializer_list<int64_t> shape) {
    static int32_t nothing;  // a valid address for tensors of no rows
    Tensor t;
    t.data = data ? data : &nothing;
    t.dtype = dtype;
    for (int64_t n : shape) t.shape[t.rank++] = n;
    int64_t stride = 1;
    for (int i = t.rank - 1; i >= 0; i--) {
      t.stride[i] = stride;
      stride *= t.shape[i];
    }
    return t;
  };
  const std::map<std::string, Tensor> offered = {
      {"inputIds", tensor(input_ids_.data(), DType::kI32, {rows})},
      {"positions", axes == 1 ? tensor(positions_.data(), DType::kI32, {rows})
                              : tensor(positions_.data(), DType::kI32, {axes, rows})},
      {"sampleRows", tensor(sample_rows_.data(), DType::kI32, {samples})},
      {"featureRows", tensor(feature_rows_.data(), DType::kI32, {featured})},
  };
  std::map<std::string, Tensor> inputs, resident;
  for (const ProgramInput& input : model_.text->inputs) {
    if (input.name == "features") {
      resident[input.name] = tensor(features_.data(), DType::kF32, {featured, config_.feature_width});
      continue;
    }
    auto found = offered.find(input.name);
    if (found == offered.end())
      throw Error("ERR_PROGRAM", "Expected an input of text programs but received " + input.name);
    inputs.insert(*found);
  }
  std::vector<int64_t> symbols;
  for (const std::string& name : model_.text->symbols) {
    if (name == "T")
      symbols.push_back(rows);
    else if (name == "S")
      symbols.push_back(samples);
    else if (name == "F")
      symbols.push_back(featured);
    else
      throw Error("ERR_PROGRAM", "Expected T, S or F for a text program's symbol but received " + name);
  }
  text_.bind(symbols, inputs, &step_, {}, resident);
}

// The rows of an item that are among a sequence's rows of this step, the first of which is `first_row`.
void Engine::place_features(const Item& item, const ScheduledSequence& s, int32_t first_row) {
  const uint64_t row_bytes = config_.feature_width * sizeof(float);
  const char* source = encoder_cache_.find(item.hash)->rows.data();
  const int32_t end = s.start + s.count;
  int32_t done = 0;
  for (auto [start, count] : item.ranges) {
    const int32_t from = std::max(start, s.start), to = std::min(start + count, end);
    if (from < to) {
      const uint64_t at = feature_rows_.size() * row_bytes, bytes = (to - from) * row_bytes;
      if (at + bytes > features_.bytes()) throw Error("ERR_ENGINE", "Expected at most as many feature rows as rows");
      memory_.copy(features_.data() + at, source + (done + from - start) * row_bytes, bytes);
      for (int32_t p = from; p < to; p++) feature_rows_.push_back(first_row + p - s.start);
    }
    done += count;
  }
}

}  // namespace ocelli
