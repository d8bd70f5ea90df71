// linear with weights in blocks of 32, by tiles.
#pragma once

#include "core/op.h"

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// Whether tiles are faster here than AVX-512, whose bits they have.
bool takes_tiles(const OpCall& call);
void run_quantized_tiles(const OpCall& call);
size_t scratch_of_quantized_tiles(const OpCall& call);

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
