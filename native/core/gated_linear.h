// linear with a gate as two ops, where kernels do not have it: the product in scratch, then gated_act. Not inline: objects
// of several instruction sets share it.
#pragma once

#include "core/op.h"

namespace ocelli {

// The kind of linear's gate; null: it has none.
const std::string* gate_of(const Attrs& attrs);

size_t scratch_of_gated(const OpCall& call, const OpImpl& linear);
void run_gated(const OpCall& call, const OpImpl& linear, const OpImpl& gated_act);

}  // namespace ocelli
