// Attention in the manner of FlashAttention-2 (Dao 2023, arXiv:2307.08691), for paged and varlen alike: scores never
// leave the chip. K and V pass once per 16 or 64 rows: 4 bytes a key, dimension and row tile; 4 flops a key, dimension
// and row.
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

// Block (x: a tile of rows of some segment, y: KV head, z: tile of keys where a.splits > 0).
template <int kFormat, class Tile>
__device__ void attend(const Attention& a) {
  constexpr int kRows = Tile::kRows, kThreads = Tile::kWarps * 32, kDim = Tile::kDim;
  constexpr int kChunks = kDim / 8, kPartsN = kDim / 8;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ int lows[kRows], highs[kRows];
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
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
  if (a.splits > 0) {
    begin = max(begin, static_cast<int>(blockIdx.z) * kTileKeys);
    end = min(end, static_cast<int>(blockIdx.z + 1) * kTileKeys);
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

  if (part0 < part_end) fetch(part0);
  commit_copies();
  for (int part = part0; part < part_end; part++) {
    __syncthreads();  // nobody reads the other stage any more
    if (part + 1 < part_end) fetch(part + 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const uint32_t at_k = parts + part % 2 * 2 * Tile::kPartBytes, at_v = at_k + Tile::kPartBytes;

    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; k++) {
      uint32_t q[4];
      load_matrices(q, query + k / 4 * kRows * 128 + swizzled(warp_row + lane % 16, k % 4 * 2 + lane / 16));
#pragma unroll
      for (int j = 0; j < kKeys / 16; j++) {
        uint32_t b[4];
        load_matrices(
            b, at_k + k / 4 * kKeys * 128 + swizzled(j * 16 + lane / 16 * 8 + lane % 8, k % 4 * 2 + lane / 8 % 2));
        multiply<kFormat>(scores[2 * j], q, b[0], b[1]);
        multiply<kFormat>(scores[2 * j + 1], q, b[2], b[3]);
      }
    }

    float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int position = part * kKeys + j * 8 + lane % 4 * 2 + i % 2;
        scores[j][i] = position >= lo[i / 2] && position < hi[i / 2] ? score_of(a, scores[j][i]) : -INFINITY;
        most[i / 2] = fmaxf(most[i / 2], scores[j][i]);
      }
    }
    float safe[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      most[r] = fmaxf(tile_m[r], quad_max(most[r]));
      safe[r] = finite(most[r]);
      const float factor = exp2f(tile_m[r] - safe[r]);
      tile_m[r] = most[r];
      tile_l[r] *= factor;
#pragma unroll
      for (int n = 0; n < kPartsN; n++) tile_o[n][2 * r] *= factor, tile_o[n][2 * r + 1] *= factor;
    }
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        scores[j][i] = exp2f(scores[j][i] - safe[i / 2]);
        tile_l[i / 2] += scores[j][i];
      }
    }
#pragma unroll
    for (int j = 0; j < kKeys / 16; j++) {
      const uint32_t p[4] = {pack(kFormat, scores[2 * j][0], scores[2 * j][1]),
                             pack(kFormat, scores[2 * j][2], scores[2 * j][3]),
                             pack(kFormat, scores[2 * j + 1][0], scores[2 * j + 1][1]),
                             pack(kFormat, scores[2 * j + 1][2], scores[2 * j + 1][3])};
#pragma unroll
      for (int n = 0; n < kPartsN / 2; n++) {
        uint32_t b[4];
        load_transposed(b, at_v + n / 4 * kKeys * 128 + swizzled(j * 16 + lane % 16, n % 4 * 2 + lane / 16));
        multiply<kFormat>(tile_o[2 * n], p, b[0], b[1]);
        multiply<kFormat>(tile_o[2 * n + 1], p, b[2], b[3]);
      }
    }

    constexpr int kPartsOfTile = kTileKeys / kKeys;
    if (a.splits == 0 && (part % kPartsOfTile == kPartsOfTile - 1 || part + 1 == part_end)) {
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const Merge factors = merge(&m[r], &l[r], tile_m[r], quad_sum(tile_l[r]));
#pragma unroll
        for (int n = 0; n < kPartsN; n++) {
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; i++) o[n][i] = merged(factors, o[n][i], tile_o[n][i]), tile_o[n][i] = 0;
        }
        tile_m[r] = -INFINITY, tile_l[r] = 0;
      }
    }
  }
  wait_copies<0>();

  // Both forms leave pairs of neighbours: 4 lanes write 32 bytes of a row of f32, a sector.
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const int row = row0 + warp_row + lane / 4 + 8 * r;
    const float sum = quad_sum(tile_l[r]);
    if (row >= rows) continue;
    const int flat = (segment.first + row / group) * a.heads + kv_head * group + row % group;
    if (a.splits > 0) {
      if (part0 >= part_end) continue;
      const long long slot = static_cast<long long>(flat) * a.splits + blockIdx.z;
      float* states = a.partial + static_cast<long long>(a.tokens) * a.heads * a.splits * a.dim_v + slot * 2;
      if (lane % 4 == 0) states[0] = tile_m[r], states[1] = sum;
#pragma unroll
      for (int n = 0; n < kPartsN; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int column = n * 8 + lane % 4 * 2 + i;
          if (column < a.dim_v) a.partial[slot * a.dim_v + column] = tile_o[n][2 * r + i];
        }
      }
    } else {
      const long long to = offset_of(a.out, flat);
#pragma unroll
      for (int n = 0; n < kPartsN; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int column = n * 8 + lane % 4 * 2 + i;
          if (column < a.dim_v) write(a.out, to + column, divided(o[n][2 * r + i], l[r]));
        }
      }
    }
  }
}

// The tiles of one row, in order. Block: (x: token, y: head), a thread a column.
__device__ inline void merge_tiles(const Attention& a) {
  const int token = blockIdx.x, head = blockIdx.y;
  Segment segment;
  for (int i = 0; i < a.segments; i++) {
    segment = segment_at(a, i);
    if (token < segment.first + segment.count) break;
  }
  const Range range = range_of(a, segment, token - segment.first);
  const int flat = token * a.heads + head;
  const float* states = a.partial + static_cast<long long>(a.tokens) * a.heads * a.splits * a.dim_v;
  for (int column = threadIdx.x; column < a.dim_v; column += blockDim.x) {
    float m = -INFINITY, l = 0, o = 0;
    for (int tile = range.lo / kTileKeys; tile * kTileKeys < range.hi; tile++) {
      const long long slot = static_cast<long long>(flat) * a.splits + tile;
      const Merge factors = merge(&m, &l, states[slot * 2], states[slot * 2 + 1]);
      o = merged(factors, o, a.partial[slot * a.dim_v + column]);
    }
    write(a.out, offset_of(a.out, flat) + column, divided(o, l));
  }
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
