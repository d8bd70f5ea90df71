// Attention in the manner of FlashAttention-2 (Dao 2023, arXiv:2307.08691), for paged and varlen alike: scores never
// leave the chip. K and V pass once per 16 or 64 rows: 4 bytes a key, dimension and row tile; 4 flops a key, dimension
// and row. Of heads above 128 a warp has 64 + 64 sums a thread, as of heads of 128, and per part of 32 keys 24 KiB of
// fragments from shared memory for 64 matrix instructions (128: 36 KiB for 128): what it pays for halves is that and
// two barriers a part.
#pragma once

#include "cuda/attention.h"
#include "cuda/mma.cuh"

namespace ocelli {
namespace cuda {

// The tokens of one segment.
struct Segment {
  int index, first, count, context;
};

__device__ inline Segment segment_at(const Attention& a, int index) {
  Segment segment;
  segment.index = index;
  const int each = a.tokens / a.segments;
  segment.first = a.borders != nullptr ? a.borders[index] : index * each;
  segment.count = a.borders != nullptr ? a.borders[index + 1] - segment.first : each;
  segment.context = a.block_table != nullptr ? a.context[index] : segment.count;
  return segment;
}

// A query row sees positions [lo, hi).
struct Range {
  int lo, hi;
};
__device__ inline Range range_of(const Attention& a, const Segment& segment, int token) {
  const int position = segment.context - segment.count + token;
  Range range;
  if (a.block_table != nullptr) {
    range.hi = min(a.hi[segment.first + token], segment.context);
  } else {
    range.hi = a.causal ? position + 1 : segment.count;
  }
  range.lo = a.window > 0 ? max(0, position + 1 - a.window) : 0;
  return range;
}

// Where position `position` of KV head `head` lies, in elements.
__device__ inline long long key_at(const Attention& a, const Segment& segment, int position, int head, int dim,
                                   long long token_stride, long long head_stride) {
  if (a.block_table == nullptr) return (segment.first + position) * token_stride + head * head_stride;
  const int block = a.block_table[static_cast<long long>(segment.index) * a.max_blocks + position / a.block_size];
  return ((static_cast<long long>(block) * a.kv_heads + head) * a.block_size + position % a.block_size) * dim;
}

__device__ inline float finite(float m) { return m == -INFINITY ? 0.f : m; }

// Scores are kept times log2(e), so that exp2f does for exp.
__device__ inline float score_of(const Attention& a, float product) {
  constexpr float kLog2e = 1.44269504f;
  if (a.softcap > 0) return a.softcap * tanhf(product * a.capped_scale) * kLog2e;
  return product * (a.scale * kLog2e);
}

// One tile more: (m, l) of everything so far, and the factors for the sums so far and for the tile's. Both callers
// round alike.
struct Merge {
  float old_factor, new_factor;
};
__device__ inline Merge merge(float* m, float* l, float tile_m, float tile_l) {
  const float most = fmaxf(*m, tile_m), safe = finite(most);
  const Merge factors{exp2f(*m - safe), exp2f(tile_m - safe)};
  *m = most;
  *l = __fmaf_rn(*l, factors.old_factor, __fmul_rn(tile_l, factors.new_factor));
  return factors;
}
__device__ inline float merged(const Merge& factors, float o, float tile_o) {
  return __fmaf_rn(o, factors.old_factor, __fmul_rn(tile_o, factors.new_factor));
}
// l is at least 1 where there is a key: the quick division, within 2 units in the last place, has no special cases
// left.
__device__ inline float divided(float o, float l) { return l > 0 ? __fdividef(o, l) : 0.f; }

__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
  return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}
__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}

// (m, l) of slot `slot` of a row; its o is slot_of(...) * dim_v into a.partial.
__device__ inline long long slot_of(const Attention& a, int row, int slot) {
  return static_cast<long long>(row) * (1 + a.tiles) + slot;
}
__device__ inline float* state_of(const Attention& a, long long slot) {
  return a.partial + slot_of(a, a.tokens * a.heads, 0) * a.dim_v + slot * 2;
}

// Block (x: a tile of rows of some segment, y: KV head, z: a share of its tiles of keys where kSplit).
template <int kFormat, class Tile, bool kSplit>
__device__ void attend(const Attention& a) {
  constexpr int kRows = Tile::kRows, kThreads = Tile::kThreads, kDim = Tile::kDim, kKeys = Tile::kKeys;
  constexpr int kHalves = Tile::kHalves, kOwnKeys = kKeys / kHalves;
  constexpr int kChunks = kDim / 8, kPartsN = kDim / 8 / kHalves;  // parts of 8 columns, this warp's
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ int lows[kRows], highs[kRows];
  __shared__ float halves[kHalves][kRows];
  const int lane = threadIdx.x % 32, half = threadIdx.x / 32 % kHalves, warp_row = threadIdx.x / 32 / kHalves * 16;
  const int group = a.heads / a.kv_heads, kv_head = blockIdx.y;

  int tile = blockIdx.x, row0 = -1;
  Segment segment;
  for (int i = 0; i < a.segments && row0 < 0; i++) {
    segment = segment_at(a, i);
    const int tiles = (segment.count * group + kRows - 1) / kRows;
    if (tile < tiles) row0 = tile * kRows;
    tile -= tiles;
  }
  if (row0 < 0) return;  // the grid has room for the worst case
  const int rows = segment.count * group;

  for (int i = threadIdx.x; i < kRows; i += kThreads) {
    const int row = row0 + i;
    const Range range = row < rows ? range_of(a, segment, row / group) : Range{INT_MAX, 0};
    lows[i] = range.lo, highs[i] = range.hi;
  }
  const uint32_t query = shared_address(shared), parts = query + Tile::kQueryBytes;
  for (int i = threadIdx.x; i < kRows * kChunks; i += kThreads) {
    const int row = row0 + i / kChunks, chunk = i % kChunks;
    float values[kRun] = {};
    if (row < rows)
      read_run(a.q, offset_of(a.q, (segment.first + row / group) * a.heads + kv_head * group + row % group), chunk * 8,
               values);
    const uint4 words = make_uint4(pack(kFormat, values[0], values[1]), pack(kFormat, values[2], values[3]),
                                   pack(kFormat, values[4], values[5]), pack(kFormat, values[6], values[7]));
    *reinterpret_cast<uint4*>(shared + chunk / 8 * kRows * 128 + swizzled(i / kChunks, chunk % 8)) = words;
  }
  __syncthreads();
  int begin = INT_MAX, end = 0;
  for (int i = 0; i < kRows; i++) begin = min(begin, lows[i]), end = max(end, highs[i]);
  if constexpr (kSplit) {
    const int first = max(begin / kTileKeys, a.first_tile);
    const int last = min((end + kTileKeys - 1) / kTileKeys, a.first_tile + a.tiles);
    const int share = (max(last - first, 0) + a.splits - 1) / a.splits;
    const int mine = first + static_cast<int>(blockIdx.z) * share;
    begin = max(begin, mine * kTileKeys), end = min(end, min(mine + share, last) * kTileKeys);
  }
  const int part0 = begin / kKeys, part_end = (end + kKeys - 1) / kKeys;  // none where end <= begin

  const auto fetch = [&](int part) {
    const uint32_t to_k = parts + part % 2 * 2 * Tile::kPartBytes, to_v = to_k + Tile::kPartBytes;
    for (int i = threadIdx.x; i < kKeys * kChunks; i += kThreads) {
      const int position = part * kKeys + i / kChunks, chunk = i % kChunks;
      const uint32_t to = chunk / 8 * kKeys * 128 + swizzled(i / kChunks, chunk % 8);
      const bool inside = position < segment.context;
      const bool k_inside = inside && chunk * 8 < a.dim_k, v_inside = inside && chunk * 8 < a.dim_v;
      const uint16_t* k = static_cast<const uint16_t*>(a.k);
      const uint16_t* v = static_cast<const uint16_t*>(a.v);
      if (k_inside) k += key_at(a, segment, position, kv_head, a.dim_k, a.k_token, a.k_head) + chunk * 8;
      if (v_inside) v += key_at(a, segment, position, kv_head, a.dim_v, a.v_token, a.v_head) + chunk * 8;
      copy_async(to_k + to, k, k_inside ? 16 : 0);
      copy_async(to_v + to, v, v_inside ? 16 : 0);
    }
  };

  // Of this thread's two rows, warp_row + lane / 4 and eight further down.
  const int lo[2] = {lows[warp_row + lane / 4], lows[warp_row + lane / 4 + 8]};
  const int hi[2] = {highs[warp_row + lane / 4], highs[warp_row + lane / 4 + 8]};
  float m[2] = {-INFINITY, -INFINITY}, l[2] = {}, o[kPartsN][4] = {};
  float tile_m[2] = {-INFINITY, -INFINITY}, tile_l[2] = {}, tile_o[kPartsN][4] = {};
  // Of a value of both rows that the two warps of these rows have each a half of, the other half: a barrier.
  [[maybe_unused]] const auto other_half = [&](const float(&own)[2], float(&other)[2]) {
    if (lane % 4 == 0) halves[half][warp_row + lane / 4] = own[0], halves[half][warp_row + lane / 4 + 8] = own[1];
    __syncthreads();
    other[0] = halves[kHalves - 1 - half][warp_row + lane / 4];
    other[1] = halves[kHalves - 1 - half][warp_row + lane / 4 + 8];
  };

  if (part0 < part_end) fetch(part0);
  commit_copies();
  for (int part = part0; part < part_end; part++) {
    __syncthreads();  // nobody reads the other stage any more
    if (part + 1 < part_end) fetch(part + 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const uint32_t at_k = parts + part % 2 * 2 * Tile::kPartBytes, at_v = at_k + Tile::kPartBytes;

    float scores[kOwnKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; k++) {
      uint32_t q[4];
      load_matrices(q, query + k / 4 * kRows * 128 + swizzled(warp_row + lane % 16, k % 4 * 2 + lane / 16));
#pragma unroll
      for (int j = 0; j < kOwnKeys / 16; j++) {
        uint32_t b[4];
        const int key = half * kOwnKeys + j * 16 + lane / 16 * 8 + lane % 8;
        load_matrices(b, at_k + k / 4 * kKeys * 128 + swizzled(key, k % 4 * 2 + lane / 8 % 2));
        multiply<kFormat>(scores[2 * j], q, b[0], b[1]);
        multiply<kFormat>(scores[2 * j + 1], q, b[2], b[3]);
      }
    }

    float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < kOwnKeys / 8; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int position = part * kKeys + half * kOwnKeys + j * 8 + lane % 4 * 2 + i % 2;
        scores[j][i] = position >= lo[i / 2] && position < hi[i / 2] ? score_of(a, scores[j][i]) : -INFINITY;
        most[i / 2] = fmaxf(most[i / 2], scores[j][i]);
      }
    }
    float safe[2];
#pragma unroll
    for (int r = 0; r < 2; r++) most[r] = quad_max(most[r]);
    if constexpr (kHalves > 1) {
      float other[2];
      other_half(most, other);
      most[0] = fmaxf(most[0], other[0]), most[1] = fmaxf(most[1], other[1]);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      most[r] = fmaxf(tile_m[r], most[r]);
      safe[r] = finite(most[r]);
      const float factor = exp2f(tile_m[r] - safe[r]);
      tile_m[r] = most[r];
      tile_l[r] *= factor;
#pragma unroll
      for (int n = 0; n < kPartsN; n++) tile_o[n][2 * r] *= factor, tile_o[n][2 * r + 1] *= factor;
    }
#pragma unroll
    for (int j = 0; j < kOwnKeys / 8; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        scores[j][i] = exp2f(scores[j][i] - safe[i / 2]);
        tile_l[i / 2] += scores[j][i];
      }
    }
    if constexpr (kHalves > 1) {
      // Nobody reads this part's keys any more: other_half had a barrier.
#pragma unroll
      for (int j = 0; j < kOwnKeys / 8; j++) {
#pragma unroll
        for (int r = 0; r < 2; r++)
          store_word(at_k + swizzled(warp_row + lane / 4 + 8 * r, half * kOwnKeys / 8 + j) + lane % 4 * 4,
                     pack(kFormat, scores[j][2 * r], scores[j][2 * r + 1]));
      }
      __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < kKeys / 16; j++) {
      uint32_t p[4];
      if constexpr (kHalves > 1) {
        load_matrices(p, at_k + swizzled(warp_row + lane % 16, j * 2 + lane / 16));
      } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
          p[i] = pack(kFormat, scores[2 * j + i / 2][i % 2 * 2], scores[2 * j + i / 2][i % 2 * 2 + 1]);
      }
#pragma unroll
      for (int n = 0; n < kPartsN / 2; n++) {
        uint32_t b[4];
        const int pair = half * (kPartsN / 2) + n;
        load_transposed(b, at_v + pair / 4 * kKeys * 128 + swizzled(j * 16 + lane % 16, pair % 4 * 2 + lane / 16));
        multiply<kFormat>(tile_o[2 * n], p, b[0], b[1]);
        multiply<kFormat>(tile_o[2 * n + 1], p, b[2], b[3]);
      }
    }

    constexpr int kPartsOfTile = kTileKeys / kKeys;
    if (part % kPartsOfTile != kPartsOfTile - 1 && part + 1 < part_end) continue;
    tile_l[0] = quad_sum(tile_l[0]), tile_l[1] = quad_sum(tile_l[1]);
    if constexpr (kHalves > 1) {
      float other[2];
      other_half(tile_l, other);
      tile_l[0] += other[0], tile_l[1] += other[1];
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if constexpr (kSplit) {
        const int row = row0 + warp_row + lane / 4 + 8 * r;
        if (row < rows) {
          const int flat = (segment.first + row / group) * a.heads + kv_head * group + row % group;
          const long long slot = slot_of(a, flat, 1 + part / kPartsOfTile - a.first_tile);
          if (half == 0 && lane % 4 == 0) state_of(a, slot)[0] = tile_m[r], state_of(a, slot)[1] = tile_l[r];
          const int column = half * kPartsN * 8 + lane % 4 * 2;
          float* const to = a.partial + slot * a.dim_v + column;
#pragma unroll
          for (int n = 0; n < kPartsN; n++) {
            if (column + n * 8 < a.dim_v)
              *reinterpret_cast<float2*>(to + n * 8) = make_float2(tile_o[n][2 * r], tile_o[n][2 * r + 1]);
          }
        }
      } else {
        const Merge factors = merge(&m[r], &l[r], tile_m[r], tile_l[r]);
#pragma unroll
        for (int n = 0; n < kPartsN; n++) {
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; i++) o[n][i] = merged(factors, o[n][i], tile_o[n][i]);
        }
      }
      tile_m[r] = -INFINITY, tile_l[r] = 0;
#pragma unroll
      for (int n = 0; n < kPartsN; n++) tile_o[n][2 * r] = tile_o[n][2 * r + 1] = 0;
    }
  }
  wait_copies<0>();
  if constexpr (!kSplit) {
    // Pairs of neighbours: 4 lanes write 32 bytes of a row of f32, a sector.
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = row0 + warp_row + lane / 4 + 8 * r;
      if (row >= rows) continue;
      const long long to = offset_of(a.out, (segment.first + row / group) * a.heads + kv_head * group + row % group);
#pragma unroll
      for (int n = 0; n < kPartsN; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int column = (half * kPartsN + n) * 8 + lane % 4 * 2 + i;
          if (column < a.dim_v) write(a.out, to + column, divided(o[n][2 * r + i], l[r]));
        }
      }
    }
  }
}

// A round's tiles of one row, in order, after those of the rounds before. Block: (x: token, y: head), a thread a
// column.
__device__ inline void merge_tiles(const Attention& a) {
  const int token = blockIdx.x, head = blockIdx.y, column = min(static_cast<int>(threadIdx.x), a.dim_v - 1);
  Segment segment;
  for (int i = 0; i < a.segments; i++) {
    segment = segment_at(a, i);
    if (token < segment.first + segment.count) break;
  }
  const Range range = range_of(a, segment, token - segment.first);
  const int flat = token * a.heads + head;
  const int first = max(range.lo / kTileKeys, a.first_tile);
  const int last = min((range.hi + kTileKeys - 1) / kTileKeys, a.first_tile + a.tiles);
  float* const state = state_of(a, slot_of(a, flat, 0));
  float* const sums = a.partial + slot_of(a, flat, 0) * a.dim_v + column;
  float m = -INFINITY, l = 0, o = 0;
  if (a.first_tile > 0) m = state[0], l = state[1], o = sums[0];
  for (int tile = first; tile < last; tile += kMergeBatch) {
    float2 states[kMergeBatch];
    float parts[kMergeBatch];
#pragma unroll
    for (int i = 0; i < kMergeBatch; i++) {
      const long long slot = slot_of(a, flat, 1 + min(tile + i, last - 1) - a.first_tile);
      states[i] = *reinterpret_cast<const float2*>(state_of(a, slot));
      parts[i] = a.partial[slot * a.dim_v + column];
    }
#pragma unroll
    for (int i = 0; i < kMergeBatch; i++) {
      if (tile + i >= last) break;
      const Merge factors = merge(&m, &l, states[i].x, states[i].y);
      o = merged(factors, o, parts[i]);
    }
  }
  if (a.last_round) {
    if (threadIdx.x < a.dim_v) write(a.out, offset_of(a.out, flat) + column, divided(o, l));
    return;
  }
  __syncthreads();  // all have read the state
  if (threadIdx.x == 0) state[0] = m, state[1] = l;
  if (threadIdx.x < a.dim_v) sums[0] = o;
}

// Attention in f32, for caches of f32 and heads that tensor cores have no instance for. Block: (x: token, y: head); a
// thread a key, then a thread a column. Rows that no segment holds come out as zeros.
__device__ inline void attend_plain(const Attention& a) {
  __shared__ float query[kPlainDim], scores[kPlainKeys];
  const int token = blockIdx.x, head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
  const int flat = token * a.heads + head;
  Range range{0, 0};
  Segment segment{};
  for (int i = 0; i < a.segments; i++) {
    segment = segment_at(a, i);
    if (token < segment.first || token >= segment.first + segment.count) continue;
    range = range_of(a, segment, token - segment.first);
    break;
  }
  const Rows k{const_cast<void*>(a.k), a.format, a.dim_k, {1, 1, 1}, 0, {0, 0, 0}},
      v{const_cast<void*>(a.v), a.format, a.dim_v, {1, 1, 1}, 0, {0, 0, 0}};
  for (int d = threadIdx.x; d < a.dim_k; d += kPlainKeys) query[d] = read(a.q, offset_of(a.q, flat) + d);
  float m = -INFINITY, l = 0, o[kPlainDim / kPlainKeys] = {};
  for (int begin = range.lo / kPlainKeys * kPlainKeys; begin < range.hi; begin += kPlainKeys) {
    __syncthreads();
    const int position = begin + threadIdx.x;
    float sum = -INFINITY;
    if (position >= range.lo && position < range.hi) {
      sum = 0;
      const long long at = key_at(a, segment, position, kv_head, a.dim_k, a.k_token, a.k_head);
      for (int d = 0; d < a.dim_k; d++) sum = fmaf(query[d], read(k, at + d), sum);
      sum = score_of(a, sum);
    }
    scores[threadIdx.x] = sum;
    __syncthreads();
    float most = m;
    for (int i = 0; i < kPlainKeys; i++) most = fmaxf(most, scores[i]);
    const float factor = exp2f(m - most);
    m = most;
    l *= factor;
#pragma unroll
    for (int i = 0; i < kPlainDim / kPlainKeys; i++) o[i] *= factor;
    for (int i = max(range.lo - begin, 0); i < min(range.hi - begin, kPlainKeys); i++) {
      const float p = exp2f(scores[i] - m);
      l += p;
      const long long at = key_at(a, segment, begin + i, kv_head, a.dim_v, a.v_token, a.v_head);
#pragma unroll
      for (int j = 0; j < kPlainDim / kPlainKeys; j++) {
        const int d = threadIdx.x + j * kPlainKeys;
        if (d < a.dim_v) o[j] = fmaf(p, read(v, at + d), o[j]);
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kPlainDim / kPlainKeys; j++) {
    const int d = threadIdx.x + j * kPlainKeys;
    if (d < a.dim_v) write(a.out, offset_of(a.out, flat) + d, divided(o[j], l));
  }
}

}  // namespace cuda
}  // namespace ocelli
