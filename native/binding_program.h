// What model and op entries share: backends by name, symbols in a program's order, steps for ops that read a KV cache.
#pragma once

#include "binding.h"

namespace ocelli {
namespace binding {

// "cpu" (the best, or what OCELLI_ISA names), "ref", or an instruction set.
const Backend* backend_named(const std::string& name);
// All symbols of the program; ERR_INVALID_ARGUMENT names one that is absent.
std::vector<int64_t> symbols_of(const Program& program, const std::map<std::string, int64_t>& sizes);
// Kept between calls, so that planning and op tests do not start threads each time.
Pool* pool_of(Napi::Env env, int64_t threads);
int64_t to_threads(Napi::Value value);  // absent: 1

}  // namespace binding
}  // namespace ocelli
