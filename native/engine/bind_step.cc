// A step's rows as the text program's inputs.
#include <algorithm>

#include "engine/engine.h"

namespace ocelli {

void Engine::bind_step(const Step& step) {
  const int32_t axes = config_.position_axes;
  const int64_t rows = step.rows;
  input_ids_.clear();
  positions_.assign(rows * axes, 0);
  sample_rows_.clear();
  sample_start_.clear();
  feature_rows_.clear();
  features_.clear();
  cu_rows_.assign(1, 0);
  context_.clear();
  slot_.clear();
  hi_.clear();
  size_t max_blocks = 1;
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
    for (int32_t d = s.drafts; s.sample && d >= 0; d--) sample_rows_.push_back(first_row + s.count - 1 - d);
    for (const Item& item : r.items) {
      if (item.end() <= s.start || item.first() >= end) continue;
      const float* source = reinterpret_cast<const float*>(encoder_cache_.find(item.hash)->rows.get());
      int32_t done = 0;
      for (auto [start, count] : item.ranges) {
        const int32_t from = std::max(start, s.start), to = std::min(start + count, end);
        for (int32_t p = from; p < to; p++) {
          feature_rows_.push_back(first_row + p - s.start);
          const float* feature = source + static_cast<int64_t>(done + p - start) * config_.feature_width;
          features_.insert(features_.end(), feature, feature + config_.feature_width);
        }
        done += count;
      }
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
      {"features", tensor(features_.data(), DType::kF32, {featured, config_.feature_width})},
      {"featureRows", tensor(feature_rows_.data(), DType::kI32, {featured})},
  };
  std::map<std::string, Tensor> inputs;
  for (const ProgramInput& input : model_.text->inputs) {
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
  text_.bind(symbols, inputs, &step_);
}

}  // namespace ocelli
