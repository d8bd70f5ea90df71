// Which backends there are and which of them this CPU runs.
#include <cstdlib>

#if defined(__linux__) && defined(OCELLI_HAVE_AMX)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "core/op.h"

namespace ocelli {

namespace ref {
extern const Backend backend;
}

// native/cpu/table.cc is compiled once per instruction set (CMakeLists.txt).
#if defined(OCELLI_HAVE_CPU)
namespace cpu {
#if defined(__x86_64__)
namespace baseline {
extern const Backend backend;
}
namespace avx2 {
extern const Backend backend;
}
namespace avx512 {
extern const Backend backend;
}
#if defined(OCELLI_HAVE_AMX)
namespace amx {
extern const Backend backend;
}
#endif
#else
namespace neon {
extern const Backend backend;
}
#endif
}  // namespace cpu
#endif

namespace {

struct Variant {
  const char* isa;
  const Backend* backend;
  bool (*runs)();
};

#if defined(OCELLI_HAVE_CPU)
#if defined(__x86_64__)

// x86-64-v2, which every x86-64 CPU since 2009 has.
bool runs_always() { return true; }

bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16");
}

#if defined(OCELLI_HAVE_AMX)
// Linux saves tiles for processes that asked for them. It refuses where a thread has too small a stack for signals.
bool tiles_granted() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool runs_amx() {
  static const bool runs = runs_avx512() && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
                           __builtin_cpu_supports("amx-int8") && tiles_granted();
  return runs;
}
#endif

#else

bool runs_always() { return true; }

#endif
#endif

// Best first; ends with a row of nulls.
const Variant kVariants[] = {
#if defined(OCELLI_HAVE_CPU)
#if defined(__x86_64__)
#if defined(OCELLI_HAVE_AMX)
    {"amx", &cpu::amx::backend, runs_amx},
#endif
    {"avx512", &cpu::avx512::backend, runs_avx512},
    {"avx2", &cpu::avx2::backend, runs_avx2},
    {"baseline", &cpu::baseline::backend, runs_always},
#else
    {"neon", &cpu::neon::backend, runs_always},
#endif
#endif
    {nullptr, nullptr, nullptr},
};

bool runs(const Variant& variant) { return variant.backend != nullptr && variant.runs(); }

}  // namespace

const Backend* ref_backend() { return &ref::backend; }

std::vector<std::string> cpu_isas() {
  std::vector<std::string> isas;
  for (const Variant& variant : kVariants) {
    if (runs(variant)) isas.push_back(variant.isa);
  }
  return isas;
}

const Backend* cpu_backend(const std::string& isa) {
  std::string all;
  for (const Variant& variant : kVariants) {
    if (!runs(variant)) continue;
    if (isa == variant.isa) return variant.backend;
    all += (all.empty() ? "" : ", ") + std::string(variant.isa);
  }
  throw Error(
      "ERR_ISA",
      "Expected an instruction set that this CPU and build have (" + all + ") but received '" + isa.substr(0, 40) + "'",
      "Unset OCELLI_ISA to take the best.");
}

const Backend* cpu_backend() {
  const char* wanted = std::getenv("OCELLI_ISA");
  if (wanted != nullptr && *wanted != 0) return cpu_backend(std::string(wanted));
  for (const Variant& variant : kVariants) {
    if (runs(variant)) return variant.backend;
  }
  return ref_backend();
}

}  // namespace ocelli
