// What this machine can do at most, measured in the same minute as the kernels: multiply-adds of f32, bf16 pairs and
// int8 quads from registers, by vectors and by AMX's tiles, and bytes read from memory. Prints one JSON object; compiled for the machine by
// bench/roof/roof.mjs.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int kChains = 20;  // independent ones: more than latency times throughput of any of the three
volatile float sink;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The shortest of several runs of work(thread) on `threads` threads, in seconds.
template <class Work>
double best(int threads, const Work& work) {
  double shortest = 1e9;
  for (int run = 0; run < 7; run++) {
    double start = now();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back(work, t);
    work(0);
    for (std::thread& other : others) other.join();
    shortest = std::min(shortest, now() - start);
  }
  return shortest;
}

template <class V, class Step>
void spin(V start, Step step) {
  V sum[kChains];
  for (auto& s : sum) s = start;
  for (int i = 0; i < 1000000; i++) {
#pragma GCC unroll 20
    for (int c = 0; c < kChains; c++) sum[c] = step(sum[c]);
  }
  for (int c = 1; c < kChains; c++) sum[0] += sum[c];
  float first;
  std::memcpy(&first, &sum[0], 4);
  sink = first;
}

void multiply_f32(int) {
#if defined(__AVX512F__)
  __m512 a = _mm512_set1_ps(1.0001f), b = _mm512_set1_ps(0.9f);
  spin(_mm512_set1_ps(1), [&](__m512 c) { return _mm512_fmadd_ps(a, b, c); });
#else
  __m256 a = _mm256_set1_ps(1.0001f), b = _mm256_set1_ps(0.9f);
  spin(_mm256_set1_ps(1), [&](__m256 c) { return _mm256_fmadd_ps(a, b, c); });
#endif
}

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
void multiply_bf16(int) {
  __m512bh a = (__m512bh)_mm512_set1_epi32(0x3f803f80), b = (__m512bh)_mm512_set1_epi32(0x3f003f00);
  spin(_mm512_set1_ps(1), [&](__m512 c) { return _mm512_dpbf16_ps(c, a, b); });
}

// Written out: the compiler would copy accumulators to the stack around the intrinsic.
void multiply_int8(int) {
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  spin(_mm512_set1_epi32(1), [&](__m512i c) {
    asm("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
    return c;
  });
}
constexpr bool kHasBf16 = true;
#else
void multiply_bf16(int) {}
void multiply_int8(int) {}
constexpr bool kHasBf16 = false;
#endif

#if defined(__linux__) && defined(__AMX_BF16__) && defined(__AMX_INT8__)
bool has_tiles() { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }

// Four independent tiles of sums, as many as a kernel has that keeps two tiles of either operand.
template <class Step>
void spin_tiles(Step step) {
  struct Sizes {
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static const Sizes sizes;
  asm volatile("ldtilecfg %0" : : "m"(sizes));
  for (int i = 0; i < 100000; i++) step();
  _tile_release();
}
void tiles_bf16(int) {
  spin_tiles([] {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  });
}
void tiles_int8(int) {
  spin_tiles([] {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  });
}
#else
bool has_tiles() { return false; }
void tiles_bf16(int) {}
void tiles_int8(int) {}
#endif

#if defined(__AVX512F__)
constexpr double kLanes = 16;
#else
constexpr double kLanes = 8;
#endif

double operations(int threads, void (*work)(int), double each) {
  return threads * 1e6 * kChains * each / best(threads, work);
}

// `each`: of one tile by another.
double tile_operations(int threads, void (*work)(int), double each) {
  return threads * 1e5 * 4 * each / best(threads, work);
}

// Bytes per second that `threads` threads read from memory, each from its own part.
double bandwidth(int threads) {
  constexpr size_t kBytes = size_t{512} << 20;
  char* data = static_cast<char*>(::operator new(kBytes, std::align_val_t(2 << 20)));
#if defined(__linux__)
  madvise(data, kBytes, MADV_HUGEPAGE);
#endif
  std::memset(data, 1, kBytes);
  size_t part = kBytes / threads;
  double seconds = best(threads, [&](int t) {
    const __m256i* from = reinterpret_cast<const __m256i*>(data + t * part);
    __m256i sum[4] = {};
    for (size_t i = 0; i < part / 32; i += 4) {
      _mm_prefetch(reinterpret_cast<const char*>(from + i) + 4096, _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(from + i + 2) + 4096, _MM_HINT_T0);
      for (int c = 0; c < 4; c++) sum[c] = _mm256_xor_si256(sum[c], _mm256_load_si256(from + i + c));
    }
    sink = static_cast<float>(
        _mm256_extract_epi32(_mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3])), 0));
  });
  ::operator delete(data, std::align_val_t(2 << 20));
  return static_cast<double>(kBytes) / seconds;
}

}  // namespace

int main(int, char** arguments) {
  int threads = std::max(1, std::atoi(arguments[1]));
  std::printf("{\"threads\": %d, \"f32\": %.4g", threads, operations(threads, multiply_f32, 2 * kLanes));
  if (kHasBf16) {
    std::printf(", \"bf16\": %.4g", operations(threads, multiply_bf16, 4 * kLanes));
    std::printf(", \"int8\": %.4g", operations(threads, multiply_int8, 8 * kLanes));
  }
  if (has_tiles()) {
    std::printf(", \"tiles\": {\"bf16\": %.4g", tile_operations(threads, tiles_bf16, 2 * 16 * 16 * 32));
    std::printf(", \"int8\": %.4g}", tile_operations(threads, tiles_int8, 2 * 16 * 16 * 64));
  }
  std::printf(", \"read\": %.4g}\n", bandwidth(threads));
}
