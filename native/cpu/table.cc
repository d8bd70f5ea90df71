// This instruction set's backend.
#include "cpu/linear.h"

#define OCELLI_NAME_OF_(isa) "cpu-" #isa
#define OCELLI_NAME_OF(isa) OCELLI_NAME_OF_(isa)

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP

extern const Backend backend;
const Backend backend = {OCELLI_NAME_OF(OCELLI_ISA_NS),
                         {
#define OCELLI_OP(name) &name,
#include "core/ops.def"
#undef OCELLI_OP
                         },
                         packed_bytes,
                         pack};

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
