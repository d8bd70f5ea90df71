// The CUDA backend's table: an op that is missing here fails at link.
#include "cuda/launch.h"

namespace ocelli {
namespace cuda {

#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP

extern const Backend backend;
const Backend backend = {"cuda",
                         {
#define OCELLI_OP(name) &name,
#include "core/ops.def"
#undef OCELLI_OP
                         },
                         packed_bytes,
                         pack};

}  // namespace cuda
}  // namespace ocelli
