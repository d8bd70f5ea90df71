#include "engine/logit_passes.h"

#include <cstring>
#include <limits>

#include "core/op.h"

namespace ocelli {
namespace {

constexpr int32_t kLanes = kLogitLanes;
constexpr int32_t kChunk = kLogitChunk;

// Four floats are native to every machine that this is built for.
namespace narrow {
#define OCELLI_LANES 4
#include "engine/logit_lanes.h"
#undef OCELLI_LANES
}  // namespace narrow

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC target("avx2")
namespace avx2 {
#define OCELLI_LANES 8
#include "engine/logit_lanes.h"
#undef OCELLI_LANES
}  // namespace avx2
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
namespace avx512 {
#define OCELLI_LANES 16
#include "engine/logit_lanes.h"
#undef OCELLI_LANES
}  // namespace avx512
#pragma GCC pop_options
#define OCELLI_WIDE_LOGITS 1
#endif

}  // namespace

const LogitPasses& logit_passes(const std::string& isa) {
#if defined(OCELLI_WIDE_LOGITS)
  if (isa == "amx" || isa == "avx512") return avx512::kPasses;
  if (isa == "avx2") return avx2::kPasses;
#endif
  return narrow::kPasses;
}

const LogitPasses& logit_passes() {
  static const LogitPasses& best = logit_passes(cpu_isas().empty() ? std::string() : cpu_isas().front());
  return best;
}

}  // namespace ocelli
