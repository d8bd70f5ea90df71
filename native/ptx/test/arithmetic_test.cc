// The emulator's arithmetic against the host's: bits, for everything that IEEE 754 or the PTX ISA defines.
#include <cfenv>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/convert.h"
#include "ptx/test/support.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

constexpr int kCount = 500;

template <class To, class From>
To bits_of(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class F>
float rounded(int mode, F f) {
  std::fesetround(mode);
  const volatile float result = f();
  std::fesetround(FE_TONEAREST);
  return result;
}

std::vector<float> hard_floats(uint32_t seed) {
  Noise noise(seed);
  const float kSpecial[] = {0.f,     -0.f,    1.f,     -1.f,    INFINITY, -INFINITY, NAN,  1e-40f,
                            -1e-45f, 3.4e38f, 65504.f, 65520.f, 6e-8f,    0.5f,      1.5f, 2.5f};
  std::vector<float> values(kCount);
  for (float& value : values) {
    const int kind = noise.below(8);
    value = kind == 0   ? kSpecial[noise.below(16)]
            : kind == 1 ? bits_of<float>(noise.bits())
                        : static_cast<float>(std::ldexp(static_cast<int>(noise.bits()), noise.below(40) - 50));
  }
  return values;
}

bool same(float a, float b) { return (std::isnan(a) && std::isnan(b)) || bits_of<uint32_t>(a) == bits_of<uint32_t>(b); }
bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || bits_of<uint64_t>(a) == bits_of<uint64_t>(b);
}
bool same(uint32_t a, uint32_t b) { return a == b; }

std::string text(double value) {
  char buffer[40];
  std::snprintf(buffer, sizeof buffer, "%a", value);
  return buffer;
}

// Slot k of the kernel's output against expected[k](i).
template <class T>
void compare(const char* kernel, const std::vector<T>& out, const std::vector<std::function<T(int)>>& expected) {
  for (size_t k = 0; k < expected.size(); k++) {
    int wrong = 0, first = -1;
    for (int i = 0; i < kCount; i++) {
      if (same(out[k * kCount + i], expected[k](i))) continue;
      if (first < 0) first = i;
      wrong++;
    }
    expect(wrong == 0, std::string(kernel) + ", result " + std::to_string(k) + ": " + std::to_string(wrong) +
                           " wrong, the first at " + std::to_string(first) + ": " +
                           (first < 0 ? "" : text(out[k * kCount + first]) + " for " + text(expected[k](first))));
  }
}

constexpr Dim3 kGrid{(kCount + 127) / 128, 1, 1}, kBlock{128, 1, 1};

void floats(Program& program, Arena& arena) {
  const std::vector<float> a = hard_floats(1), b = hard_floats(2), c = hard_floats(3);
  const std::vector<std::function<float(int)>> expected = {
      [&](int i) { return std::fma(a[i], b[i], c[i]); },
      [&](int i) { return rounded(FE_DOWNWARD, [&] { return std::fma(a[i], b[i], c[i]); }); },
      [&](int i) { return rounded(FE_UPWARD, [&] { return std::fma(a[i], b[i], c[i]); }); },
      [&](int i) { return rounded(FE_TOWARDZERO, [&] { return std::fma(a[i], b[i], c[i]); }); },
      [&](int i) {
        volatile float x = a[i];
        return rounded(FE_DOWNWARD, [&] { return x + b[i]; });
      },
      [&](int i) {
        volatile float x = a[i];
        return rounded(FE_UPWARD, [&] { return x + b[i]; });
      },
      [&](int i) {
        volatile float x = a[i];
        return rounded(FE_TOWARDZERO, [&] { return x * b[i]; });
      },
      [&](int i) { return a[i] / b[i]; },
      [&](int i) { return std::sqrt(std::fabs(a[i])); },
      [&](int i) {
        return std::isnan(a[i])   ? b[i]
               : std::isnan(b[i]) ? a[i]
               : a[i] == b[i]     ? (std::signbit(a[i]) ? a[i] : b[i])
                                  : std::min(a[i], b[i]);
      },
      [&](int i) {
        return std::isnan(a[i])   ? b[i]
               : std::isnan(b[i]) ? a[i]
               : a[i] == b[i]     ? (std::signbit(a[i]) ? b[i] : a[i])
                                  : std::max(a[i], b[i]);
      },
      [&](int i) { return std::copysign(a[i], b[i]); },
      [&](int i) { return std::trunc(a[i]); },
      [&](int i) { return std::floor(a[i]); },
      [&](int i) { return std::nearbyint(a[i]); },
      [&](int i) { return a[i] > 0 ? std::min(a[i], 1.f) : 0.f; },
      [&](int i) { return widen_f16(narrow_f16(a[i])); },
      [&](int i) {
        const float near = widen_f16(narrow_f16(a[i]));  // toward zero: one step back where nearest went away
        if (std::isinf(near) && !std::isinf(a[i])) return std::copysign(65504.f, a[i]);
        return std::fabs(near) > std::fabs(a[i]) ? widen_f16(static_cast<uint16_t>(narrow_f16(a[i]) - 1)) : near;
      },
      [&](int i) { return widen_bf16(narrow_bf16(a[i])); },
      [&](int i) {
        return widen_bf16(std::isnan(a[i]) ? uint16_t{0x7fff} : static_cast<uint16_t>(bits_of<uint32_t>(a[i]) >> 16));
      },
      [&](int i) { return std::isnan(a[i])   ? 1.f
                          : std::isinf(a[i]) ? 2.f
                                             : 3.f; },
  };
  const Address in[] = {arena.upload(a), arena.upload(b), arena.upload(c)};
  const Address out = arena.allocate(expected.size() * kCount * 4);
  expect_proof(arena, program.launch("floats", kGrid, kBlock, 0, in[0], in[1], in[2], out, int32_t{kCount}), "floats");
  compare<float>("floats", arena.download<float>(out, expected.size() * kCount), expected);
}

void doubles(Program& program, Arena& arena) {
  Noise noise(9);
  std::vector<double> a(kCount), b(kCount);
  for (int i = 0; i < kCount; i++) {
    a[i] = std::ldexp(static_cast<int>(noise.bits()) / 3.0, noise.below(40) - 30);
    b[i] = std::ldexp(static_cast<int>(noise.bits()) / 7.0, noise.below(60) - 50);
  }
  const std::vector<std::function<double(int)>> expected = {
      [&](int i) { return a[i] + b[i]; },
      [&](int i) { return std::fma(a[i], b[i], a[i]); },
      [&](int i) { return a[i] / b[i]; },
      [&](int i) { return std::sqrt(std::fabs(a[i])); },
      [&](int) { return 0.0; },  // sin and exp: below, they are not specified to the bit
      [&](int) { return 0.0; },
      [&](int i) { return static_cast<double>(static_cast<float>(a[i])); },
      [&](int i) { return static_cast<double>(static_cast<long long>(a[i])); },
      [&](int i) { return std::floor(a[i]); },
  };
  const Address in[] = {arena.upload(a), arena.upload(b)};
  const Address out = arena.allocate(expected.size() * kCount * 8);
  expect_proof(arena, program.launch("doubles", kGrid, kBlock, 0, in[0], in[1], out, int32_t{kCount}), "doubles");
  std::vector<double> results = arena.download<double>(out, expected.size() * kCount);
  double worst = 0;
  for (int i = 0; i < kCount; i++) {
    worst = std::max(worst, std::fabs(results[4 * kCount + i] - std::sin(a[i])));
    worst = std::max(worst, std::fabs(results[5 * kCount + i] / std::exp(a[i] * 1e-3) - 1));
    results[4 * kCount + i] = results[5 * kCount + i] = 0;
  }
  expect(worst < 4e-16,
         "doubles, sin and exp: off by " + std::to_string(worst * 1e16) + "e-16");  // 2 ulp, as the manual says
  compare<double>("doubles", results, expected);
}

// The bf16 nearest to the exact a * b + c, by trying the neighbours in quadruple precision.
uint32_t bf16_fma(uint16_t a, uint16_t b, uint16_t c) {
  const float x = widen_bf16(a), y = widen_bf16(b), z = widen_bf16(c);
  const float rough = x * y + z;
  if (!std::isfinite(rough)) return narrow_bf16(static_cast<float>(static_cast<double>(x) * y + z));
  const __float128 exact = static_cast<__float128>(x) * y + z;
  if (exact == 0) return narrow_bf16(static_cast<float>(static_cast<double>(x) * y + z));
  const auto distance = [&](uint16_t bits) {
    const __float128 error = static_cast<__float128>(widen_bf16(bits)) - exact;
    return error < 0 ? -error : error;
  };
  uint16_t best = narrow_bf16(rough);
  for (int step : {-1, 1}) {
    const uint16_t next = static_cast<uint16_t>(best + step);
    if ((next ^ best) >> 15 || !std::isfinite(widen_bf16(next))) continue;
    if (distance(next) < distance(best) || (distance(next) == distance(best) && !(next & 1))) best = next;
  }
  return best;
}

void halves(Program& program, Arena& arena) {
  Noise noise(5);
  std::vector<uint16_t> a(kCount), b(kCount), c(kCount);
  // As bf16: exponents between 2^-30 and 2^33, so that the reference's 113 bits hold any sum exactly, and some
  // infinities.
  for (std::vector<uint16_t>* values : {&a, &b, &c}) {
    for (uint16_t& value : *values) {
      const uint32_t bits = noise.bits();
      value = static_cast<uint16_t>((bits & 0x807f) | (noise.below(50) == 0 ? 255 : 97 + (bits >> 7 & 63)) << 7);
    }
  }
  // A product halfway between two bf16, and a subnormal number far below it that decides.
  a[0] = 0x009a, b[0] = 0xeac0, c[0] = 0x14d2;
  const auto half = [](uint16_t bits) { return static_cast<double>(widen_f16(bits)); };
  const auto narrow = [](double value) -> uint32_t { return bits_of<uint16_t>(static_cast<_Float16>(value)); };
  // An f16 product has 22 bits and an f16 sum at most 42: exact in double; their fused sum may need more, and long
  // double has it.
  const auto fused = [&](uint16_t x, uint16_t y, uint16_t z) -> uint32_t {
    return bits_of<uint16_t>(static_cast<_Float16>(static_cast<__float128>(half(x)) * half(y) + half(z)));
  };
  const std::vector<std::function<uint32_t(int)>> expected = {
      [&](int i) { return narrow(half(a[i]) + half(b[i])); },
      [&](int i) { return narrow(half(a[i]) * half(b[i])); },
      [&](int i) { return fused(a[i], b[i], c[i]); },
      [&](int i) { return bf16_fma(a[i], b[i], c[i]); },
      [&](int i) { return bf16_fma(a[i], 0x3f80, b[i]); },
      [&](int i) { return bf16_fma(a[i], b[i], 0x8000); },
      [&](int i) { return std::isnan(half(b[i])) || half(a[i]) > half(b[i]) ? a[i] : b[i]; },
      [&](int i) { return fused(a[i], b[i], c[i]); },
      [&](int i) { return fused(b[i], c[i], a[i]); },
      [&](int i) { return bf16_fma(a[i], b[i], c[i]); },
      [&](int i) { return i == 0 ? 0xc01du : bf16_fma(b[i], c[i], a[i]); },
  };
  const Address in[] = {arena.upload(a), arena.upload(b), arena.upload(c)};
  const Address out = arena.allocate(expected.size() * kCount * 2);
  expect_proof(arena, program.launch("halves", kGrid, kBlock, 0, in[0], in[1], in[2], out, int32_t{kCount}), "halves");
  std::vector<uint32_t> results;
  for (uint16_t bits : arena.download<uint16_t>(out, expected.size() * kCount)) results.push_back(bits);
  for (size_t k = 0; k < expected.size(); k++) {  // any NaN is as good as another
    const bool bf16 = (k >= 3 && k <= 5) || k >= 9;
    for (int i = 0; i < kCount; i++) {
      const uint16_t bits = static_cast<uint16_t>(results[k * kCount + i]),
                     wanted = static_cast<uint16_t>(expected[k](i));
      const bool nan = bf16 ? std::isnan(widen_bf16(bits)) : std::isnan(widen_f16(bits));
      const bool wanted_nan = bf16 ? std::isnan(widen_bf16(wanted)) : std::isnan(widen_f16(wanted));
      if (nan && wanted_nan) results[k * kCount + i] = wanted;
    }
  }
  compare<uint32_t>("halves", results, expected);
}

void integers(Program& program, Arena& arena) {
  Noise noise(7);
  std::vector<uint32_t> a(kCount), b(kCount), c(kCount);
  for (std::vector<uint32_t>* values : {&a, &b, &c}) {
    for (uint32_t& value : *values)
      value = noise.below(4) == 0 ? static_cast<uint32_t>(noise.below(5) - 2) : noise.bits();
  }
  using U = uint32_t;
  const auto s = [](uint32_t value) { return static_cast<int32_t>(value); };
  const auto wide = [&](int i) { return static_cast<uint64_t>(a[i]) << 32 | b[i]; };
  const auto other = [&](int i) { return static_cast<uint64_t>(c[i]) * a[i]; };
  const auto high = [&](int i) {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(wide(i)) * other(i) >> 64);
  };
  const std::vector<std::function<U(int)>> expected = {
      [&](int i) { return a[i] + b[i] * c[i]; },
      [&](int i) { return static_cast<U>(static_cast<uint64_t>(a[i]) * b[i] >> 32); },
      [&](int i) { return static_cast<U>(static_cast<int64_t>(s(a[i])) * s(b[i]) >> 32); },
      [&](int i) { return b[i] != 0 ? a[i] / b[i] : 7u; },
      [&](int i) { return b[i] != 0 ? a[i] % b[i] : 7u; },
      [&](int i) { return b[i] != 0 ? static_cast<U>(static_cast<int64_t>(s(a[i])) / (s(b[i]) | 1)) : 7u; },
      [&](int i) { return static_cast<U>(s(a[i]) >> (c[i] & 31)); },
      [&](int i) { return a[i] << (c[i] & 31); },
      [&](int i) { return static_cast<U>(__builtin_popcount(a[i])); },
      [&](int i) { return a[i] == 0 ? 32u : static_cast<U>(__builtin_clz(a[i])); },
      [&](int i) {
        U out = 0;
        for (int bit = 0; bit < 32; bit++) out |= (a[i] >> bit & 1) << (31 - bit);
        return out;
      },
      [&](int i) { return static_cast<U>(__builtin_ffs(s(a[i]))); },
      [&](int i) {
        U out = 0;
        const uint64_t both = static_cast<uint64_t>(b[i]) << 32 | a[i];
        for (int byte = 0; byte < 4; byte++)
          out |= static_cast<U>(both >> (c[i] >> 4 * byte & 7) * 8 & 255) << 8 * byte;
        return out;
      },
      [&](int i) { return (c[i] & 31) == 0 ? b[i] : b[i] << (c[i] & 31) | a[i] >> (32 - (c[i] & 31)); },
      [&](int i) { return static_cast<U>((static_cast<uint64_t>(b[i]) << 32 | a[i]) >> std::min<U>(c[i] & 63, 32)); },
      [&](int i) { return static_cast<U>(std::min(s(a[i]), s(b[i]))); },
      [&](int i) { return std::max(a[i], b[i]); },
      [&](int i) { return (a[i] & b[i]) ^ (~c[i] | a[i]); },
      [&](int i) {
        U sum = c[i];
        for (int byte = 0; byte < 4; byte++)
          sum += static_cast<U>(static_cast<int8_t>(a[i] >> 8 * byte) * static_cast<int8_t>(b[i] >> 8 * byte));
        return sum;
      },
      [&](int i) { return static_cast<U>(high(i)); },
      [&](int i) { return static_cast<U>(high(i) >> 32); },
      [&](int i) { return static_cast<U>((wide(i) + other(i)) >> 32); },
      [&](int i) { return wide(i) + other(i) == 0 ? 64u : static_cast<U>(__builtin_clzll(wide(i) + other(i))); },
      [&](int i) { return static_cast<U>(static_cast<int8_t>(a[i])); },
      [&](int i) { return static_cast<U>(static_cast<int16_t>(a[i] * b[i])); },
      [&](int i) {
        const U chosen[] = {a[i],      b[i] * 3, a[i] ^ b[i], a[i] - b[i], static_cast<U>(__builtin_popcount(b[i])),
                            a[i] / 10, 77,       c[i],        c[i]};
        return chosen[c[i] % 9];
      },
      [&](int i) {
        U steps = 0;
        for (U v = a[i] % 1000 + 1; v != 1; v = v % 2 ? 3 * v + 1 : v / 2) steps++;
        return steps;
      },
      [&](int i) { return static_cast<U>((static_cast<uint64_t>(a[i]) + b[i]) >> 32); },
  };
  const Address in[] = {arena.upload(a), arena.upload(b), arena.upload(c)};
  const Address out = arena.allocate(expected.size() * kCount * 4);
  expect_proof(arena, program.launch("integers", kGrid, kBlock, 0, in[0], in[1], in[2], out, int32_t{kCount}),
               "integers");
  compare<U>("integers", arena.download<U>(out, expected.size() * kCount), expected);

  const std::vector<U> zeros(5);
  const Address sums = arena.upload(zeros), total = arena.upload(std::vector<uint64_t>(1));
  const Launch launch = program.launch("atomics", kGrid, kBlock, 0, in[0], sums, total, int32_t{kCount});
  tally().kernels.insert("atomics");
  tally().instances++;
  const Report report = execute(arena, launch, {});
  // The plain read before the compare-and-swap loop races with the atomics, and is told.
  expect(report.has(Fault::kRace) && report.findings.size() == 2, "atomics: the plain read races\n" + report.text());
  U sum = 0, most = 0, exclusive = 0, chain = 0;
  int32_t least = 0;
  uint64_t wide_sum = 0;
  for (U value : a) {
    sum += value;
    most = std::max(most, value);
    least = std::min(least, s(value));
    exclusive ^= value;
    wide_sum += static_cast<uint64_t>(value) << 8;
    chain = chain * 3 + 1;
  }
  expect(arena.download<U>(sums, 5) == std::vector<U>({sum, most, static_cast<U>(least), exclusive, chain}),
         "atomics: results");
  expect(arena.download<uint64_t>(total, 1)[0] == wide_sum, "atomics: 64 bits");
}

void lanes(Program& program, Arena& arena) {
  Noise noise(11);
  std::vector<uint32_t> a(kCount / 32 * 32);
  for (uint32_t& value : a) value = noise.bits();
  const int n = static_cast<int>(a.size());
  const auto warp = [](int i) { return i / 32 * 32; };
  const auto fold = [&](int i, auto f) {
    uint32_t value = a[warp(i)];
    for (int l = 1; l < 32; l++) value = f(value, a[warp(i) + l]);
    return value;
  };
  const auto ballot = [&](int i, auto f) {
    uint32_t bits = 0;
    for (int l = 0; l < 32; l++) bits |= static_cast<uint32_t>(f(a[warp(i) + l]) ? 1 : 0) << l;
    return bits;
  };
  using U = uint32_t;
  const std::vector<std::function<U(int)>> expected = {
      [&](int i) { return a[warp(i) + 5]; },
      [&](int i) { return i % 32 >= 3 ? a[i - 3] : a[i]; },
      [&](int i) { return i % 16 + 7 < 16 ? a[i + 7] : a[i]; },
      [&](int i) { return a[i ^ 9]; },
      [&](int i) { return ballot(i, [](U v) { return v & 1; }); },
      [&](int i) { return ballot(i, [](U v) { return v != 12345; }) == ~0u ? 1u : 0u; },
      [&](int i) { return ballot(i, [](U v) { return v & 64; }) != 0 ? 1u : 0u; },
      [&](int i) { return ballot(i, [&](U v) { return (v & 3) == (a[i] & 3); }); },
      [&](int i) { return fold(i, [](U x, U y) { return x + y; }); },
      [&](int i) { return fold(i, [](U x, U y) { return std::max(x, y); }); },
      [&](int i) {
        return fold(
            i, [](U x, U y) { return static_cast<U>(std::min(static_cast<int32_t>(x), static_cast<int32_t>(y))); });
      },
      [&](int i) { return i & 1 ? a[i ^ 2] : static_cast<U>(__builtin_popcount(a[i])); },
  };
  const Address in = arena.upload(a);
  const Address out = arena.allocate(expected.size() * n * 4);
  expect_proof(arena, program.launch("lanes", {static_cast<U>(n) / 32, 1, 1}, {32, 1, 1}, 0, in, out, int32_t{n}),
               "lanes");
  const std::vector<U> results = arena.download<U>(out, expected.size() * n);
  for (size_t k = 0; k < expected.size(); k++) {
    int wrong = 0;
    for (int i = 0; i < n; i++) wrong += results[k * n + i] != expected[k](i);
    expect(wrong == 0, "lanes, result " + std::to_string(k) + ": " + std::to_string(wrong) + " wrong");
  }
}

void body() {
  Arena arena;
  Program program(arena, read_ptx("arithmetic"));
  floats(program, arena);
  doubles(program, arena);
  halves(program, arena);
  integers(program, arena);
  lanes(program, arena);
}

}  // namespace

int main(int argc, char** argv) { return run_test("arithmetic", argc, argv, body); }
