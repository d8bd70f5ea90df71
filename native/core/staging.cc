#include "core/staging.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/check.h"

namespace ocelli {

namespace {

constexpr uint64_t kWord = sizeof(int32_t);

int32_t rows_of(const StepContext& step) { return step.cu_rows[step.sequences]; }

}  // namespace

void Staging::reserve(uint64_t bytes) {
  if (memory_.host() || bytes <= device_.bytes()) return;
  memory_.synchronize();  // what is under way reads the old ones
  // Twice as much as before at least, so that sizes that grow step by step come to rest.
  const uint64_t wanted = std::max(bytes, 2 * device_.bytes());
  const char* remedy = "Lower maxNumBatchedTokens or the size of pictures.";
  device_.reset();
  host_.reset();
  host_ = Allocation(memory_.staging(), wanted, Use::kWhole, "inputs", remedy);
  device_ = Allocation(memory_, wanted, Use::kWhole, "inputs", remedy);
}

void Staging::begin(uint64_t bytes) {
  if (under_way_) memory_.synchronize();
  under_way_ = false;
  reserve(bytes);
  used_ = 0;
}

void* Staging::place(const void* data, uint64_t bytes) {
  if (memory_.host()) return const_cast<void*>(data);
  const uint64_t at = used_;
  used_ += room(bytes);
  if (used_ > device_.bytes()) {
    throw Error("ERR_INTERNAL", "Expected at most " + std::to_string(device_.bytes()) +
                                    " bytes of inputs but received " + std::to_string(used_));
  }
  if (bytes > 0) std::memcpy(host_.data() + at, data, bytes);
  return device_.data() + at;
}

const StepContext* Staging::place(const StepContext* step, StepContext* placed) {
  if (step == nullptr || memory_.host()) return step;
  *placed = *step;
  const auto put = [this](const int32_t*& array, int64_t count) {
    array = static_cast<const int32_t*>(place(array, static_cast<uint64_t>(count) * kWord));
  };
  put(placed->cu_rows, step->sequences + 1);
  put(placed->context, step->sequences);
  put(placed->block_table, static_cast<int64_t>(step->sequences) * step->max_blocks);
  put(placed->slot, rows_of(*step));
  put(placed->hi, rows_of(*step));
  return placed;
}

void Staging::send() {
  if (used_ == 0) return;
  memory_.upload(device_.data(), host_.data(), used_);
  under_way_ = true;
}

uint64_t Staging::room(const StepContext& step) { return room(rows_of(step), step.sequences, step.max_blocks); }

uint64_t Staging::room(int64_t rows, int64_t sequences, int64_t blocks) {
  const auto words = [](int64_t count) { return room(static_cast<uint64_t>(count) * kWord); };
  return words(sequences + 1) + words(sequences) + words(sequences * blocks) + 2 * words(rows);
}

}  // namespace ocelli
