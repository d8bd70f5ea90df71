// Picture features: asked for by the scheduler, made by encoder programs in time slices between steps, kept by content.
#include <algorithm>
#include <chrono>

#include "engine/engine.h"

namespace ocelli {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

bool Engine::features_ready(Sequence& sequence, int32_t index) {
  const Item& item = sequence.request->items[index];
  EncoderCache::Entry* entry = encoder_cache_.find(item.hash);
  if (contains(sequence.pinned, index)) return entry->ready;
  encoder_cache_.queries++;
  if (entry) {
    if (entry->ready) encoder_cache_.hits++;
    encoder_cache_.pin(entry);
  } else {
    const uint64_t bytes = static_cast<uint64_t>(item.rows) * config_.feature_width * sizeof(float);
    entry = encoder_cache_.insert(item.hash, bytes);
    if (!entry) return false;
    if (item.encoder < 0) {
      memory_.upload(entry->rows.data(), item.features.tensor.data, bytes);
      memory_.synchronize();  // the request may go before the copy is made
      entry->ready = true;
    } else {
      jobs_.push_back({sequence.request, index, false});
    }
  }
  sequence.pinned.push_back(index);
  return entry->ready;
}

// Gives up the features that the sequence no longer reads: items that end at or before `before`.
void Engine::unpin(Sequence& sequence, int32_t before) {
  auto done = [&](int32_t index) {
    const Item& item = sequence.request->items[index];
    if (item.end() > before) return false;
    if (EncoderCache::Entry* entry = encoder_cache_.find(item.hash)) encoder_cache_.unpin(entry);
    return true;
  };
  sequence.pinned.erase(std::remove_if(sequence.pinned.begin(), sequence.pinned.end(), done), sequence.pinned.end());
}

void Engine::encode() {
  EncodeJob& job = jobs_.front();
  const Item& item = job.request->items[job.item];
  EncoderCache::Entry* entry = encoder_cache_.find(item.hash);
  if (!entry || entry->ready) {  // nobody waits for it any more
    jobs_.pop_front();
    return;
  }
  Executor& executor = *encoders_[item.encoder];
  const Program& program = *model_.encoders[item.encoder];
  try {
    if (!job.bound) {
      std::vector<int64_t> symbols;
      for (const std::string& name : program.symbols) {
        auto found = item.symbols.find(name);
        if (found == item.symbols.end()) throw Error("ERR_SHAPE", "Expected a value for the encoder's symbol " + name);
        symbols.push_back(found->second);
      }
      std::map<std::string, Tensor> inputs;
      for (const auto& [name, tensor] : item.inputs) inputs[name] = tensor.tensor;
      executor.bind(symbols, inputs, nullptr);
      job.bound = true;
    }
    const auto started = Clock::now();
    const std::chrono::duration<double> slice(pace_.encoder_seconds());
    const bool done = executor.run(started + std::chrono::duration_cast<Clock::duration>(slice));
    pace_.note_encoder(slice.count(), std::chrono::duration<double>(Clock::now() - started).count());
    if (trace_) {
      trace_->span("encode", Trace::kEncoder, started, Clock::now(),
                   "\"request\":" + std::to_string(job.request->id) + ",\"item\":" + std::to_string(job.item) +
                       ",\"rows\":" + std::to_string(item.rows));
      trace_pool();
    }
    if (!done) return;
    finish_encoding(job);
  } catch (const Error& e) {
    const std::shared_ptr<Request> request = job.request;
    const Digest hash = item.hash;
    jobs_.pop_front();
    // Everybody who shares the picture shares its fault.
    std::vector<std::shared_ptr<Request>> affected;
    for (auto& [id, active] : active_) {
      for (const Item& other : active.request->items) {
        if (other.hash == hash) {
          affected.push_back(active.request);
          break;
        }
      }
    }
    for (const auto& r : affected) fail(r, e);
    return;
  }
  jobs_.pop_front();
  std::lock_guard<std::mutex> lock(mutex_);
  stats_.encoder_runs++;
}

void Engine::finish_encoding(const EncodeJob& job) {
  const Item& item = job.request->items[job.item];
  EncoderCache::Entry* entry = encoder_cache_.find(item.hash);
  Tensor features = encoders_[item.encoder]->output("features");
  const int64_t width = config_.feature_width;
  if (features.numel() != item.rows * width || features.dtype != DType::kF32) {
    throw Error("ERR_PLACEHOLDER_COUNT",
                "Expected " + std::to_string(item.rows) + " feature rows but the encoder gave " + describe(features));
  }
  if (!features.contiguous()) throw Error("ERR_SHAPE", "Expected contiguous features from the encoder");
  memory_.copy(entry->rows.data(), features.data, entry->bytes);
  entry->ready = true;
}

}  // namespace ocelli
