// AMX's backend: the ops that tiles speed up are its own, all others are AVX-512's, to the bit.
#include "cpu/linear.h"

namespace ocelli {
namespace cpu {

namespace avx512 {
#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP
}  // namespace avx512

namespace amx {

// What is declared below hides AVX-512's of the same name.
using namespace avx512;

extern const OpImpl attention_paged;
extern const OpImpl attention_varlen;
extern const OpImpl linear;

extern const Backend backend;
const Backend backend = {"cpu-amx",
                         {
#define OCELLI_OP(name) &name,
#include "core/ops.def"
#undef OCELLI_OP
                         },
                         packed_bytes,
                         pack};

}  // namespace amx
}  // namespace cpu
}  // namespace ocelli
