// Rotary position embedding: the angles of a token are computed once and turn all its heads.
#include <cmath>

#include "cpu/math.h"
#include "cpu/rows.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

namespace {

constexpr int64_t kHalf = 512;  // frequencies at once; more are turned in pieces

// cos and sin of angles x[0..n) times `scale`. The angle is brought into [-pi/4, pi/4] in double, pi/2 in two parts (33
// bits and the rest), so that an angle up to a million is as exact as a near one; polynomials within 2 ulp.
void turns(const float* x, int64_t n, float scale, float* cosine, float* sine) {
  float rest[kHalf];
  int32_t quarter[kHalf];
  for (int64_t i = 0; i < n; i++) {
    double whole = std::nearbyint(static_cast<double>(x[i]) * 0.63661977236758134308);
    double r = static_cast<double>(x[i]) - whole * 1.57079632673412561417;
    rest[i] = static_cast<float>(r - whole * 6.07710050650619224932e-11);
    quarter[i] = static_cast<int32_t>(static_cast<int64_t>(whole) & 3);
  }
  for (int64_t i = 0; i < n; i += kLanes) {
    int lanes = static_cast<int>(n - i < kLanes ? n - i : kLanes);
    Vec r = load_some(rest + i, lanes);
    Vec z = r * r;
    Vec s = fma(fma(set1(-1.9517298e-4f), z, set1(8.3321608e-3f)), z, set1(-0.16666655f));
    s = fma(s * z, r, r);
    Vec c = fma(fma(set1(2.44331552e-5f), z, set1(-1.38873162e-3f)), z, set1(4.16666457e-2f));
    c = fma(c * z, z, fma(set1(-0.5f), z, set1(1.f)));
    store_some(sine + i, s, lanes);
    store_some(cosine + i, c, lanes);
  }
  for (int64_t i = 0; i < n; i++) {
    float c = quarter[i] & 1 ? sine[i] : cosine[i];
    float s = quarter[i] & 1 ? cosine[i] : sine[i];
    cosine[i] = (quarter[i] == 1 || quarter[i] == 2 ? -c : c) * scale;
    sine[i] = (quarter[i] >= 2 ? -s : s) * scale;
  }
}

struct Rope {
  const Tensor& x;
  const Tensor& positions;
  const Tensor& out;
  const float* inv_freq;
  int64_t half;
  bool pairs;
  bool interleaved;
  float scale;
  const std::vector<double>* sections;

  explicit Rope(const OpCall& call)
      : x(call.in[0]),
        positions(call.in[1]),
        out(call.out[0]),
        inv_freq(call.in[2].as<float>()),
        half(call.attrs->integer("rotary") / 2),
        pairs(call.attrs->string("style").compare("pairs") == 0),
        interleaved(call.attrs->number("interleaved", 0) != 0),
        scale(static_cast<float>(call.attrs->number("scale", 1))),
        sections(call.attrs->list("sections")) {}

  // Which axis of positions turns frequency j (native/ref/rope.cc says why).
  int64_t axis_of(int64_t j) const {
    if (sections == nullptr) return 0;
    int64_t axes = static_cast<int64_t>(sections->size());
    const double* sizes = sections->data();
    if (interleaved) {
      int64_t axis = j % axes;
      return static_cast<double>(j) < sizes[axis] * static_cast<double>(axes) ? axis : 0;
    }
    double end = 0;
    for (int64_t axis = 0; axis < axes; axis++) {
      end += sizes[axis];
      if (static_cast<double>(j) < end) return axis;
    }
    return axes - 1;
  }

  // Turns frequencies [first, first + n) of all heads of a token.
  void turn(int64_t token, int64_t first, int64_t n) const {
    float angle[kHalf];
    float cosine[kHalf];
    float sine[kHalf];
    for (int64_t j = 0; j < n; j++) {
      int32_t position = positions.as<int32_t>()[axis_of(first + j) * x.shape[0] + token];
      angle[j] = static_cast<float>(position) * inv_freq[first + j];
    }
    turns(angle, n, scale, cosine, sine);
    for (int64_t head = 0; head < x.shape[1]; head++) {
      const float* from = x.as<float>() + token * x.stride[0] + head * x.stride[1];
      float* to = out.as<float>() + token * out.stride[0] + head * out.stride[1];
      if (pairs) {
        for (int64_t j = 0; j < n; j++) {
          float a = from[2 * (first + j)];
          float b = from[2 * (first + j) + 1];
          to[2 * (first + j)] = a * cosine[j] - b * sine[j];
          to[2 * (first + j) + 1] = b * cosine[j] + a * sine[j];
        }
        continue;
      }
      for_vectors<F32>(from + first, n, [&](int64_t j, Vec a, int lanes) {
        Vec b = load_some(from + half + first + j, lanes);
        Vec c = load_some(cosine + j, lanes);
        Vec s = load_some(sine + j, lanes);
        store_some(to + first + j, a * c - b * s, lanes);
        store_some(to + half + first + j, b * c + a * s, lanes);
      });
    }
  }

  void run(Pool* pool) const {
    int64_t width = x.shape[2];
    for_rows(pool, x.shape[0], x.shape[1] * width, [&](int64_t token) {
      for (int64_t first = 0; first < half; first += kHalf) {
        turn(token, first, half - first < kHalf ? half - first : kHalf);
      }
      if (out.data == x.data || 2 * half == width) return;
      for (int64_t head = 0; head < x.shape[1]; head++) {
        const float* from = x.as<float>() + token * x.stride[0] + head * x.stride[1];
        float* to = out.as<float>() + token * out.stride[0] + head * out.stride[1];
        std::memcpy(to + 2 * half, from + 2 * half, (width - 2 * half) * sizeof(float));
      }
    });
  }
};

void run_rope(const OpCall& call) { Rope(call).run(call.pool); }

}  // namespace

extern const OpImpl rope;
const OpImpl rope = {run_rope, nullptr};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
