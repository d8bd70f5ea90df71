// y = act(x w^T + bias), or a gate. Activations are packed once into tiles of rows (rounded to bf16 where weights are and the set
// multiplies bf16), then every tile meets every panel of the weight; native/cpu/gemm.h has the kernels.
#include "cpu/linear_call.h"
#include "cpu/linear_quantized.h"
#include "cpu/linear_rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

extern const OpImpl linear;
extern const OpImpl gated_act;

namespace {

template <class Kind>
struct Linear : LinearCall {
  using A = typename Kind::A;
  using B = typename Kind::B;

  int64_t steps;
  const A* packed = nullptr;

  explicit Linear(const OpCall& c) : LinearCall(c, kMR), steps(steps_of<Kind>(w.k)) {}

  void pack_activations() {
    // One row of f32 is its own tile.
    if (tiles.rows == 1 && sizeof(A) == sizeof(float)) {
      packed = reinterpret_cast<const A*>(row_at(x, 0));
      return;
    }
    A* out = static_cast<A*>(call.scratch);
    packed = out;
    call.pool->parallel_for(tiles.count, [&](int64_t tile, int) {
      int64_t begin = tiles.begin(tile);
      pack_tile<Kind>(
          tiles.size(tile), w.k, [&](int i) { return row_at(x, begin + i); }, out + begin * steps * Kind::kStep);
    });
  }

  template <int MR, int NP>
  void multiply(int64_t row, int64_t first, int64_t ahead) const {
    multiply_and_finish<MR, NP>(row, first, [&](int64_t panel, float* sums) {
      const B* b = static_cast<const B*>(w.data) + panel * steps * Kind::kStep * kNR;
      multiply_tile<Kind, MR, NP, MR * Kind::kStep, Kind::kStep, NP * kNR, false, true>(
          packed + row * steps * Kind::kStep, b, steps * Kind::kStep * kNR, steps, ahead, sums);
    });
  }

  // Tiles [tile, end) against panels [panel, last): the panels stay in cache while tiles pass.
  void multiply_block(int64_t tile, int64_t end, int64_t first, int64_t last) const {
    for (int64_t begin = tile; tile < end; tile++) {
      int64_t ahead = tile == begin ? kAheadMemory : kAheadCache;
      with_rows(tiles.size(tile), [&](auto rows) {
        constexpr int MR = decltype(rows)::value;
        over_panels<panels_at_once(MR)>(first, last, [&](int64_t panel, auto count) {
          multiply<MR, decltype(count)::value>(tiles.begin(tile), panel, ahead);
        });
      });
    }
  }

  void run() {
    if (tiles.rows == 0 || w.n == 0) return;
    pack_activations();
    int64_t panel_bytes = steps * Kind::kStep * kNR * static_cast<int64_t>(sizeof(B));
    auto block = [&](int64_t tile, int64_t end, int64_t first, int64_t last, int) {
      multiply_block(tile, end, first, last);
    };
    distribute(panel_bytes, block, panels_at_once(tiles.size(0)));
  }
};

void run_linear(const OpCall& call) {
  if (gated_apart(call)) return run_gated(call, linear, gated_act);
  const WeightFormat format = call.in[1].packed->format;
  if (format == WeightFormat::kI8Rows) return run_rows(call);
  if (quantized(format)) return run_quantized(call);
  with_kind(format, [&](auto kind) { Linear<decltype(kind)>(call).run(); });
}

size_t scratch_of_linear(const OpCall& call) {
  if (gated_apart(call)) return scratch_of_gated(call, linear);
  const PackedMatrix& w = *call.in[1].packed;
  if (w.format == WeightFormat::kI8Rows) return scratch_of_rows(call);
  if (quantized(w.format)) return scratch_of_quantized(call);
  size_t bytes = 0;
  with_kind(w.format, [&](auto kind) {
    using Kind = decltype(kind);
    bytes = static_cast<size_t>(rows_of(call.in[0]) * steps_of<Kind>(w.k) * Kind::kStep) * sizeof(typename Kind::A);
  });
  return bytes;
}

}  // namespace

const OpImpl linear = {run_linear, scratch_of_linear};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
