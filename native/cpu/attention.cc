// Shares out attention: a task is one block of pairs. Where there are fewer tasks than threads want, tiles of one task
// are computed apart and joined in their order afterwards, by the same arithmetic as in one go.
#include "cpu/attention.h"

#include "cpu/attention_tile.h"
#if defined(OCELLI_ISA_amx)
#include "cpu/amx/attention_block.h"
#endif

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

// Tasks per thread up to which tiles are computed apart; of so few none has more pairs than kApartRows, by most_rows.
constexpr int64_t kFewTasks = 2;
constexpr int64_t kApartRows = 2 * kLeastRows;
// Tiles apart that one thread takes in their order, so that it can ask for the next one's keys and values.
constexpr int64_t kTilesInOrder = 4;

// States and outputs of one block of at most `rows` pairs.
struct Partial {
  State* state;
  float* output;

  static size_t bytes(int64_t rows, int64_t dv) {
    return align64(rows * sizeof(State)) + align64(rows * padded(dv, kNR) * sizeof(float));
  }
  Partial(void* memory, int64_t index, int64_t rows, int64_t dv) {
    char* mine = static_cast<char*>(memory) + index * bytes(rows, dv);
    state = reinterpret_cast<State*>(mine);
    output = reinterpret_cast<float*>(mine + align64(rows * sizeof(State)));
  }
};

// What all threads need: one for a whole block each; the tiles of smaller ones share it.
size_t partial_bytes(int64_t dv, int threads) {
  size_t apart = kFewTasks * (1 + kTilesInOrder) * Partial::bytes(kApartRows, dv);
  size_t whole = Partial::bytes(kBlockRows, dv);
  return (whole > apart ? whole : apart) * threads;
}

// Tiles [first, last) of one block: into one partial result, or each into its own, `apart` bytes behind the one before.
void attend(const AttentionShape& shape, const AttentionTasks& tasks, int64_t task, const AttentionRow* rows,
            int64_t count, int64_t first, int64_t last, const Work& work, const Partial& into, size_t apart) {
  auto run = [&](auto mode) {
    Block<decltype(mode)> block = {{shape, rows, count, work, into.state, into.output, apart, nullptr}};
    block.run(tasks, task, first, last);
  };
#if defined(OCELLI_ISA_amx)
  auto on_tiles = [&](auto source) {
    TileBlock<decltype(source)> block = {{shape, rows, count, work, into.state, into.output, apart, nullptr}};
    block.run(tasks, task, first, last);
  };
  if (shape.dtype == DType::kBF16) return on_tiles(uint16_t());
  if (shape.bf16) return on_tiles(float());
#elif defined(OCELLI_ISA_avx512)
  if (shape.dtype == DType::kBF16) return run(Paired<uint16_t>());
  if (shape.bf16) return run(Paired<float>());
#else
  if (shape.dtype == DType::kBF16) return run(Wide<BF16>());
  if (shape.bf16) return run(Wide<RoundedF32>());
#endif
  run(Wide<F32>());
}

void finish(const AttentionShape& shape, const AttentionRow* rows, int64_t count, const Partial& from) {
  for (int64_t r = 0; r < count; r++) {
    if (from.state[r].empty) {
      std::memset(rows[r].out, 0, shape.dv * sizeof(float));
      continue;
    }
    Vec total = set1(from.state[r].l);
    // No -0: a sum of products that underflow takes its sign from what other pairs see.
    for_vectors<F32>(from.output + r * padded(shape.dv, kNR), shape.dv,
                     [&](int64_t d, Vec v, int lanes) { store_some(rows[r].out + d, v / total + zero(), lanes); });
  }
}

// `from` holds one more tile of the same rows.
void add_tile(int64_t dv, int64_t count, const Partial& from, const Partial& into) {
  int64_t width = padded(dv, kNR);
  for (int64_t r = 0; r < count; r++) {
    if (from.state[r].empty) continue;
    bool fresh = into.state[r].empty;
    float keep;
    float add;
    join(&into.state[r], from.state[r], &keep, &add);
    merge(into.output + r * width, from.output + r * width, width, keep, add, fresh);
  }
}

struct Attention {
  const AttentionShape& shape;
  const AttentionTasks& tasks;
  int64_t count;  // of tasks
  Pool* pool;
  char* shares;   // each worker's Work
  char* partial;  // one per thread; or kFewTasks per thread that add up, then kTilesApart per thread

  void* share_of(int worker) const { return shares + worker * Work(shape.dk, shape.dv, nullptr).bytes; }

  void run_whole() const {
    pool->parallel_for(count, [&](int64_t task, int worker) {
      Work work(shape.dk, shape.dv, share_of(worker));
      AttentionRow rows[kBlockRows];
      int64_t n = tasks.rows(task, rows);
      Range range = range_of(rows, n);
      Partial mine(partial, worker, kBlockRows, shape.dv);
      attend(shape, tasks, task, rows, n, range.first_tile(), range.last_tile(), work, mine, 0);
      finish(shape, rows, n, mine);
    });
  }

  // Of the task that has most: tiles, from 0, and pairs.
  struct Most {
    int64_t tiles = 0;
    int64_t rows = 0;
  };
  Most most() const {
    Most most;
    for (int64_t task = 0; task < count; task++) {
      AttentionRow rows[kBlockRows];
      int64_t n = tasks.rows(task, rows);
      int64_t tiles = range_of(rows, n).last_tile();
      if (tiles > most.tiles) most.tiles = tiles;
      if (n > most.rows) most.rows = n;
    }
    return most;
  }

  // A round computes as many tiles of each task as there is room for, then adds them up in their order.
  void run_apart(const Most& most) const {
    const size_t bytes = Partial::bytes(most.rows, shape.dv);
    int64_t room = static_cast<int64_t>(partial_bytes(shape.dv, pool->threads()) / bytes) / count - 1;
    int64_t runs = (room < most.tiles ? room : most.tiles + kTilesInOrder - 1) / kTilesInOrder;  // of one task
    int64_t share = runs * kTilesInOrder;
    auto sum_of = [&](int64_t task) { return Partial(partial, task, most.rows, shape.dv); };
    auto tile_of = [&](int64_t task, int64_t i) {
      return Partial(partial, count + task * share + i, most.rows, shape.dv);
    };
    auto clear = [&](const Partial& result) {
      for (int64_t r = 0; r < most.rows; r++) result.state[r] = State();
    };
    for (int64_t task = 0; task < count; task++) clear(sum_of(task));
    for (int64_t first = 0; first < most.tiles; first += share) {
      pool->parallel_for(count * runs, [&](int64_t job, int worker) {
        Work work(shape.dk, shape.dv, share_of(worker));
        AttentionRow rows[kBlockRows];
        int64_t task = job % count;
        int64_t n = tasks.rows(task, rows);
        Range range = range_of(rows, n);
        int64_t from = job / count * kTilesInOrder;
        for (int64_t i = 0; i < kTilesInOrder; i++) clear(tile_of(task, from + i));
        int64_t begin = first + from;
        int64_t end = begin + kTilesInOrder < range.last_tile() ? begin + kTilesInOrder : range.last_tile();
        if (begin < range.first_tile()) begin = range.first_tile();
        if (begin < end) attend(shape, tasks, task, rows, n, begin, end, work, tile_of(task, begin - first), bytes);
      });
      pool->parallel_for(count, [&](int64_t task, int) {
        AttentionRow rows[kBlockRows];
        int64_t n = tasks.rows(task, rows);
        for (int64_t i = 0; i < share; i++) add_tile(shape.dv, n, tile_of(task, i), sum_of(task));
        if (first + share >= most.tiles) finish(shape, rows, n, sum_of(task));
      });
    }
  }
};

}  // namespace

size_t attention_scratch(int64_t dk, int64_t dv, int threads) {
  return Work(dk, dv, nullptr).bytes * threads + partial_bytes(dv, threads);
}

void run_attention(const AttentionShape& shape, const AttentionTasks& tasks, int64_t count, Pool* pool, void* scratch) {
  if (count == 0) return;
  int threads = pool->threads();
  char* shares = static_cast<char*>(scratch);
  Attention op = {shape, tasks, count, pool, shares, shares + Work(shape.dk, shape.dv, nullptr).bytes * threads};
  // Few tasks that do not come out even leave threads idle; a tile is work enough to be worth a task of its own.
  bool few = threads > 1 && count < kFewTasks * threads && count % threads != 0;
  Attention::Most most = few ? op.most() : Attention::Most();
  if (most.tiles > 1 && most.rows <= kApartRows) {
    op.run_apart(most);
  } else {
    op.run_whole();
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
