// What must hold of a parsed program before anything indexes with it.
#pragma once

#include "core/program.h"

namespace ocelli {

// Throws ERR_PROGRAM naming the place. Afterwards: every index is in range; each value is made exactly once, by what
// its kind says; views point backwards; ops read only what lies before them; packed weights feed nothing but `linear`.
void check_program(const Program& program);

bool is_view(ValueKind kind);

}  // namespace ocelli
