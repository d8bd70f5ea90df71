#include "core/arena.h"

#include <algorithm>
#include <numeric>

namespace ocelli {

namespace {

// Bytes that one or more values occupy one after the other.
struct Storage {
  uint64_t bytes = 0;
  Lifetime life;
  int32_t parent = -1;  // the storage that holds this one
  uint64_t inside = 0;  // where in it
  uint64_t offset = 0;
  bool kept = false;
};

class Planner {
 public:
  Planner(const Program& program, const std::vector<Placed>& placed, const std::vector<int32_t>& keep)
      : program_(program),
        placed_(placed),
        life_(lifetimes(program, placed, keep)),
        storage_of_(program.values.size(), -1) {}

  ArenaPlan plan() {
    for (size_t i = 0; i < program_.ops.size(); i++) {
      const ProgramOp& op = program_.ops[i];
      for (size_t j = 0; j < op.out.size(); j++) {
        int32_t reused = j == 0 ? in_place(static_cast<int32_t>(i), op) : -1;
        if (reused >= 0) {
          storage_of_[op.out[j]] = reused;
          Storage& storage = storages_[reused];
          storage.life.last = std::max(storage.life.last, life_[op.out[j]].last);
          storage.kept = storage.kept || life_[op.out[j]].last >= end();
        } else {
          add_storage(op.out[j]);
        }
      }
      if (op.op == Op::concat) join(static_cast<int32_t>(i), op);
    }
    ArenaPlan plan;
    plan.bytes = assign();
    plan.offset.assign(program_.values.size(), UINT64_MAX);
    for (size_t i = 0; i < program_.values.size(); i++) {
      if (storage_of_[i] >= 0) plan.offset[i] = offset_of(storage_of_[i]);
    }
    plan.scratch_offset = plan.bytes;
    return plan;
  }

 private:
  int32_t end() const { return static_cast<int32_t>(program_.ops.size()); }

  uint64_t bytes_of(int32_t id) const {
    const Tensor& shape = placed_[id].shape;
    return static_cast<uint64_t>(shape.numel()) * size_of(shape.dtype);
  }

  void add_storage(int32_t id) {
    Storage storage;
    storage.bytes = bytes_of(id);
    storage.life = life_[id];
    storage.kept = life_[id].last >= end();
    storage_of_[id] = static_cast<int32_t>(storages_.size());
    storages_.push_back(storage);
  }

  // Whether `id` sees every byte of its root, in order.
  bool whole(int32_t id) const {
    const Placed& view = placed_[id];
    return view.offset == 0 && view.shape.contiguous() && view.shape.numel() == placed_[view.root].shape.numel() &&
           view.shape.dtype == placed_[view.root].shape.dtype;
  }

  int32_t in_place(int32_t at, const ProgramOp& op) const {
    if (!contract_of(op.op)->in_place || op.in.empty() || op.in[0] < 0) return -1;
    int32_t root = placed_[op.in[0]].root;
    if (storage_of_[root] < 0 || life_[root].last != at || !whole(op.in[0])) return -1;
    if (bytes_of(op.out[0]) != bytes_of(root) || storages_[storage_of_[root]].parent >= 0) return -1;
    for (size_t j = 1; j < op.in.size(); j++) {
      if (op.in[j] >= 0 && placed_[op.in[j]].root == root) return -1;
    }
    return storage_of_[root];
  }

  void join(int32_t at, const ProgramOp& op) {
    const Tensor& out = placed_[op.out[0]].shape;
    int64_t dim = op.attrs.integer("dim", -1);
    if (dim < 0 || dim >= out.rank) return;  // the contract refuses it later
    for (int64_t d = 0; d < dim; d++) {
      if (out.shape[d] != 1) return;  // the operands' places would have gaps
    }
    int32_t target = storage_of_[op.out[0]];
    uint64_t inside = 0;
    for (size_t j = 0; j < op.in.size(); j++) {
      if (op.in[j] < 0) return;
      int32_t root = placed_[op.in[j]].root;
      int32_t mine = storage_of_[root];
      bool fits = mine >= 0 && mine != target && storages_[mine].parent < 0 && life_[root].last == at &&
                  whole(op.in[j]) && placed_[root].shape.dtype == out.dtype &&
                  storages_[mine].bytes == bytes_of(root) && !storages_[mine].kept;
      for (size_t other = 0; fits && other < op.in.size(); other++) {
        if (other != j && op.in[other] >= 0 && placed_[op.in[other]].root == root) fits = false;
      }
      uint64_t bytes = bytes_of(op.in[j]);
      if (fits && bytes > 0 && inside + bytes <= storages_[target].bytes) {
        storages_[mine].parent = target;
        storages_[mine].inside = inside;
        storages_[target].life.first = std::min(storages_[target].life.first, storages_[mine].life.first);
      }
      inside += bytes;
    }
  }

  // Largest first, each at the lowest offset that nothing alive with it holds: best fit among the gaps left.
  uint64_t assign() {
    std::vector<int32_t> order(storages_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [this](int32_t a, int32_t b) { return storages_[a].bytes > storages_[b].bytes; });
    std::vector<int32_t> done;  // by offset
    uint64_t peak = 0;
    for (int32_t id : order) {
      Storage& mine = storages_[id];
      if (mine.parent >= 0 || mine.bytes == 0) continue;
      uint64_t free_from = 0;
      uint64_t best = UINT64_MAX;
      uint64_t best_gap = UINT64_MAX;
      for (int32_t other_id : done) {
        const Storage& other = storages_[other_id];
        if (other.life.last < mine.life.first || mine.life.last < other.life.first) continue;
        if (other.offset > free_from) {
          uint64_t gap = other.offset - free_from;
          if (gap >= mine.bytes && gap < best_gap) {
            best = free_from;
            best_gap = gap;
          }
        }
        free_from = std::max(free_from, align(other.offset + other.bytes));
      }
      mine.offset = best != UINT64_MAX ? best : free_from;
      peak = std::max(peak, align(mine.offset + mine.bytes));
      auto place = std::upper_bound(done.begin(), done.end(), id,
                                    [this](int32_t a, int32_t b) { return storages_[a].offset < storages_[b].offset; });
      done.insert(place, id);
    }
    return peak;
  }

  static uint64_t align(uint64_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

  uint64_t offset_of(int32_t id) const {
    uint64_t inside = 0;
    while (storages_[id].parent >= 0) {
      inside += storages_[id].inside;
      id = storages_[id].parent;
    }
    return storages_[id].offset + inside;
  }

  const Program& program_;
  const std::vector<Placed>& placed_;
  std::vector<Lifetime> life_;
  std::vector<int32_t> storage_of_;
  std::vector<Storage> storages_;
};

}  // namespace

std::vector<Lifetime> lifetimes(const Program& program, const std::vector<Placed>& placed,
                                const std::vector<int32_t>& keep) {
  std::vector<Lifetime> life(program.values.size());
  int32_t end = static_cast<int32_t>(program.ops.size());
  for (int32_t i = 0; i < end; i++) {
    const ProgramOp& op = program.ops[i];
    for (int32_t id : op.out) life[id] = {i, i};
    for (int32_t id : op.in) {
      if (id >= 0 && life[placed[id].root].first >= 0) life[placed[id].root].last = i;
    }
  }
  auto hold = [&](int32_t id) {
    if (life[placed[id].root].first >= 0) life[placed[id].root].last = end;
  };
  for (const auto& output : program.outputs) hold(output.second);
  for (int32_t id : keep) hold(id);
  return life;
}

ArenaPlan plan_arena(const Program& program, const std::vector<Placed>& placed, const std::vector<int32_t>& keep) {
  return Planner(program, placed, keep).plan();
}

}  // namespace ocelli
