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

// Per thread: tasks up to which tiles are computed apart, and tiles that are apart at once.
constexpr int64_t kFewTasks = 2;
constexpr int64_t kTilesApart = 4;

// States and outputs of one block of pairs.
struct Partial {
  State* state;
  float* output;

  static size_t bytes(int64_t dv) {
    return align64(kBlockRows * sizeof(State)) + align64(kBlockRows * padded(dv, kNR) * sizeof(float));
  }
  Partial(void* memory, int64_t index, int64_t dv) {
    char* mine = static_cast<char*>(memory) + index * bytes(dv);
    state = reinterpret_cast<State*>(mine);
    output = reinterpret_cast<float*>(mine + align64(kBlockRows * sizeof(State)));
  }
};

// Tiles [first, last) of one block.
void attend(const AttentionShape& shape, const AttentionTasks& tasks, int64_t task, const AttentionRow* rows,
            int64_t count, int64_t first, int64_t last, const Work& work, const Partial& into) {
  auto run = [&](auto mode) {
    Block<decltype(mode)> block = {{shape, rows, count, work, into.state, into.output, nullptr}};
    block.run(tasks, task, first, last);
  };
#if defined(OCELLI_ISA_amx)
  auto on_tiles = [&](auto source) {
    TileBlock<decltype(source)> block = {{shape, rows, count, work, into.state, into.output, nullptr}};
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
  char* partial;  // kFewTasks per thread that add up, then kTilesApart per thread

  void* share_of(int worker) const { return shares + worker * Work(shape.dk, shape.dv, nullptr).bytes; }

  void run_whole() const {
    pool->parallel_for(count, [&](int64_t task, int worker) {
      Work work(shape.dk, shape.dv, share_of(worker));
      AttentionRow rows[kBlockRows];
      int64_t n = tasks.rows(task, rows);
      Range range = range_of(rows, n);
      Partial mine(partial, worker, shape.dv);
      attend(shape, tasks, task, rows, n, range.first_tile(), range.last_tile(), work, mine);
      finish(shape, rows, n, mine);
    });
  }

  // Tiles of the task that has most, from 0.
  int64_t most_tiles() const {
    int64_t most = 0;
    for (int64_t task = 0; task < count; task++) {
      AttentionRow rows[kBlockRows];
      Range range = range_of(rows, tasks.rows(task, rows));
      if (range.last_tile() > most) most = range.last_tile();
    }
    return most;
  }

  void run_apart(int64_t tiles) const {
    int64_t apart = kTilesApart * pool->threads() / count;
    for (int64_t task = 0; task < count; task++) {
      Partial sum(partial, task, shape.dv);
      for (int64_t r = 0; r < kBlockRows; r++) sum.state[r] = State();
    }
    int64_t slots = kFewTasks * pool->threads();
    for (int64_t first = 0; first < tiles; first += apart) {
      pool->parallel_for(count * apart, [&](int64_t job, int worker) {
        Work work(shape.dk, shape.dv, share_of(worker));
        AttentionRow rows[kBlockRows];
        int64_t n = tasks.rows(job / apart, rows);
        int64_t tile = first + job % apart;
        Range range = range_of(rows, n);
        bool there = tile >= range.first_tile() && tile < range.last_tile();
        attend(shape, tasks, job / apart, rows, n, tile, there ? tile + 1 : tile, work,
               Partial(partial, slots + job, shape.dv));
      });
      pool->parallel_for(count, [&](int64_t task, int) {
        AttentionRow rows[kBlockRows];
        int64_t n = tasks.rows(task, rows);
        Partial sum(partial, task, shape.dv);
        for (int64_t i = 0; i < apart; i++)
          add_tile(shape.dv, n, Partial(partial, slots + task * apart + i, shape.dv), sum);
        if (first + apart >= tiles) finish(shape, rows, n, sum);
      });
    }
  }
};

}  // namespace

size_t attention_scratch(int64_t dk, int64_t dv, int threads) {
  return (Work(dk, dv, nullptr).bytes + (kFewTasks + kTilesApart) * Partial::bytes(dv)) * threads;
}

void run_attention(const AttentionShape& shape, const AttentionTasks& tasks, int64_t count, Pool* pool, void* scratch) {
  if (count == 0) return;
  int threads = pool->threads();
  char* shares = static_cast<char*>(scratch);
  Attention op = {shape, tasks, count, pool, shares, shares + Work(shape.dk, shape.dv, nullptr).bytes * threads};
  // Few tasks that do not come out even leave threads idle; a tile is work enough to be worth a task of its own.
  bool few = threads > 1 && count < kFewTasks * threads && count % threads != 0;
  int64_t tiles = few ? op.most_tiles() : 0;
  if (tiles > 1) {
    op.run_apart(tiles);
  } else {
    op.run_whole();
  }
}

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
