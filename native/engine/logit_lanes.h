// The passes of logits.h over whole chunks, for vectors of OCELLI_LANES floats: included once per instruction set by
// logit_passes.cc, with no guard. Sixteen lanes whatever the width, no operation fused: every width gives the same
// bits.

constexpr int32_t kVecs = kLanes / OCELLI_LANES;
typedef float Vec __attribute__((vector_size(4 * OCELLI_LANES)));
typedef int32_t Mask __attribute__((vector_size(4 * OCELLI_LANES)));

inline Vec load(const float* from) {
  Vec v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(Vec v, float* to) { std::memcpy(to, &v, sizeof v); }

// e^y for y <= 0 within 2 ulp, 0 below -87: y = k ln 2 + r, and a polynomial of r.
inline Vec exp_of(Vec y) {
  const Vec lowest = Vec{} - 87.f;
  const Mask below = y < lowest;
  const Vec bounded = below ? lowest : y;
  const Vec shifted = bounded * 1.44269504f + 12582912.f;  // 1.5 * 2^23 rounds to whole numbers
  const Vec k = shifted - 12582912.f;
  // ln 2 in two parts: k times the first is exact.
  const Vec r = (bounded - k * 0.693359375f) + k * 2.12194440e-4f;
  Vec poly = r * 0.001381455920636654f + 0.008368735201656818f;
  poly = poly * r + 0.04166838899254799f;
  poly = poly * r + 0.1666652113199234f;
  poly = poly * r + 0.4999999403953552f;
  poly = (poly * (r * r) + r) + 1.f;
  // The low bits of `shifted` are k.
  const Mask bits = reinterpret_cast<Mask>(poly) + (reinterpret_cast<Mask>(shifted) << 23);
  return below ? Vec{} : reinterpret_cast<Vec>(bits);
}

// Lanes to one, in pairs of distance 8, 4, 2, 1.
template <class Join>
inline float fold(const Vec* vecs, Join join) {
  float lane[kLanes];
  std::memcpy(lane, vecs, sizeof lane);
  for (int32_t half = kLanes / 2; half > 0; half /= 2) {
    for (int32_t i = 0; i < half; i++) lane[i] = join(lane[i], lane[i + half]);
  }
  return lane[0];
}

// Sixteen terms to a lane: float32 carries them as well as its rounding of each term.
inline double sum_of(const Vec* lane) {
  return static_cast<double>(fold(lane, [](float a, float b) { return a + b; }));
}

bool maxima(const float* x, int32_t chunks, float* max) {
  Mask odd{};
  for (int32_t c = 0; c < chunks; c++, x += kChunk) {
    Vec lane[kVecs];
    for (Vec& v : lane) v = Vec{} - std::numeric_limits<float>::infinity();
    for (int32_t at = 0; at < kChunk; at += kLanes) {
      for (int32_t i = 0; i < kVecs; i++) {
        const Vec value = load(x + at + i * OCELLI_LANES);
        lane[i] = value > lane[i] ? value : lane[i];
        odd |= value != value;
      }
    }
    max[c] = fold(lane, [](float a, float b) { return b > a ? b : a; });
  }
  int32_t any = 0;
  for (int32_t i = 0; i < OCELLI_LANES; i++) any |= odd[i];
  return any != 0;
}

void exponentials(const float* x, int32_t chunks, float max, float scale, float* p, double* sums) {
  for (int32_t c = 0; c < chunks; c++, x += kChunk) {
    Vec lane[kVecs] = {};
    for (int32_t at = 0; at < kChunk; at += kLanes) {
      for (int32_t i = 0; i < kVecs; i++) {
        const Vec value = exp_of((load(x + at + i * OCELLI_LANES) - max) * scale);
        if (p != nullptr) store(value, p + c * kChunk + at + i * OCELLI_LANES);
        lane[i] += value;
      }
    }
    sums[c] = sum_of(lane);
  }
}

void keep(const float* x, int32_t chunks, int32_t first, LogitBorder last, float least, float* p, double* sums) {
  Mask id;
  for (int32_t i = 0; i < OCELLI_LANES; i++) id[i] = first + i;
  for (int32_t c = 0; c < chunks; c++, x += kChunk, p += kChunk) {
    Vec lane[kVecs] = {};
    for (int32_t at = 0; at < kChunk; at += kLanes) {
      for (int32_t i = 0; i < kVecs; i++, id += OCELLI_LANES) {
        const Vec value = load(x + at + i * OCELLI_LANES), old = load(p + at + i * OCELLI_LANES);
        const Mask kept = ((value > last.x) | ((value == last.x) & (id <= last.id))) & (old >= least);
        const Vec now = kept ? old : Vec{};
        store(now, p + at + i * OCELLI_LANES);
        lane[i] += now;
      }
    }
    sums[c] = sum_of(lane);
  }
}

constexpr LogitPasses kPasses = {maxima, exponentials, keep};
