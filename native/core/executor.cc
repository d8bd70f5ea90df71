#include "core/executor.h"

#include <algorithm>
#include <list>

#include "core/arena.h"
#include "core/denormals.h"
#include "core/fixed.h"
#include "core/layout.h"
#include "core/recording.h"
#include "core/staging.h"

namespace ocelli {

namespace {

constexpr size_t kMaxPlans = 64;  // decode steps differ in few sizes; a plan is some tens of kilobytes
constexpr uint64_t kTail = 64;    // a region is never empty, so that no present tensor has a null pointer

// Where an operand's bytes are found when inputs are bound.
enum class Home : uint8_t { kArena, kInput, kFixed, kAbsent };

struct Operand {
  Home home = Home::kAbsent;
  int32_t input = -1;   // of kInput
  uint64_t offset = 0;  // bytes
};

struct Step {
  std::vector<Tensor> tensors;  // inputs, then outputs
  std::vector<Operand> operands;
};

struct Plan {
  std::vector<int64_t> symbols;
  std::vector<int32_t> keep;
  std::vector<Placed> placed;
  ArenaPlan arena;
  std::vector<Step> steps;
  bool checked_with_step = false;  // attention's contract reads the KV cache's sizes
  StepContext context;             // that it was bound with last
  bool again = false;              // and to the same addresses as the time before
  Recording recording;             // of ops with these addresses
};

std::string place_of(const ProgramOp& op) { return std::string(name_of(op.op)) + " at " + op.path; }

}  // namespace

struct Executor::State {
  const Program& program;
  const Backend* backend;
  Recorder* recorder;  // null also after one that could not
  Pool* pool;
  Memory& memory;

  Fixed fixed;
  std::list<Plan> plans;  // most recent first
  Allocation region;
  Staging staging;
  Plan* bound = nullptr;
  std::vector<void*> input_data;
  const StepContext* step = nullptr;
  StepContext placed_step;
  size_t next = 0;
  bool done = false;

  State(const Program& p, const Backend* b, const Weights* w, int index, Pool* threads)
      : program(p),
        backend(b),
        recorder(b->recorder),
        pool(threads),
        memory(memory_of(*b)),
        fixed(p, w, index, memory),
        staging(memory) {
    input_data.resize(program.inputs.size());
  }

  int32_t input_of(int32_t value) const {
    for (size_t i = 0; i < program.inputs.size(); i++) {
      if (program.inputs[i].value == value) return static_cast<int32_t>(i);
    }
    return -1;
  }

  // The tensor that value `id` is under `plan`; its pointer is for `bind` to set unless it is fixed.
  void resolve(const Plan& plan, int32_t id, Tensor* tensor, Operand* operand) const {
    if (id < 0) {
      *tensor = Tensor();
      tensor->rank = -1;
      return;
    }
    const Placed& placed = plan.placed[id];
    ValueKind kind = program.values[placed.root].kind;
    if (kind == ValueKind::kWeight || kind == ValueKind::kConstant) {
      const Tensor& base = fixed[placed.root];
      operand->home = Home::kFixed;
      if (id == placed.root) {
        *tensor = base;
        return;
      }
      *tensor = placed.shape;
      tensor->dtype = base.dtype;  // plain weights keep the checkpoint's
      if (base.data != nullptr) tensor->data = base.as<char>() + placed.offset * size_of(base.dtype);
      return;
    }
    *tensor = placed.shape;
    operand->offset = static_cast<uint64_t>(placed.offset) * size_of(tensor->dtype);
    if (kind == ValueKind::kInput) {
      operand->home = Home::kInput;
      operand->input = input_of(placed.root);
    } else {
      operand->home = Home::kArena;
      operand->offset += plan.arena.offset[placed.root];
    }
  }

  void* address(const Operand& operand, void* fixed_data) const {
    switch (operand.home) {
      case Home::kArena:
        return region.data() + operand.offset;
      case Home::kInput:
        return static_cast<char*>(input_data[operand.input]) + operand.offset;
      default:
        return fixed_data;
    }
  }

  OpCall call_of(size_t i, const Step& step_of_plan, const StepContext* context) const {
    const ProgramOp& op = program.ops[i];
    OpCall call;
    call.path = op.path.c_str();
    call.in = step_of_plan.tensors.data();
    call.inputs = static_cast<int>(op.in.size());
    call.out = step_of_plan.tensors.data() + op.in.size();
    call.outputs = static_cast<int>(op.out.size());
    call.attrs = &op.attrs;
    call.step = context;
    call.pool = pool;
    call.memory = &memory;
    return call;
  }

  void check(Plan* plan, const StepContext* context) const {
    for (size_t i = 0; i < program.ops.size(); i++)
      contract_of(program.ops[i].op)->check(call_of(i, plan->steps[i], context));
    plan->checked_with_step = context != nullptr && context->kv != nullptr;
  }

  Plan* plan_for(const std::vector<int64_t>& symbols, const std::vector<int32_t>& keep, const StepContext* context) {
    for (auto it = plans.begin(); it != plans.end(); ++it) {
      if (it->symbols != symbols || it->keep != keep) continue;
      plans.splice(plans.begin(), plans, it);
      Plan* plan = &plans.front();
      if (context != nullptr && context->kv != nullptr && !plan->checked_with_step) check(plan, context);
      return plan;
    }
    Plan plan;
    plan.symbols = symbols;
    plan.keep = keep;
    for (int32_t id : keep) {
      if (id < 0 || static_cast<size_t>(id) >= program.values.size() || fixed[id].packed != nullptr) {
        throw Error("ERR_INVALID_ARGUMENT",
                    "Expected values of program '" + program.name + "' to keep but received " + std::to_string(id));
      }
    }
    plan.placed = place(program, symbols);
    plan.arena = plan_arena(program, plan.placed, keep);
    plan.steps.resize(program.ops.size());
    uint64_t scratch = 0;
    for (size_t i = 0; i < program.ops.size(); i++) {
      const ProgramOp& op = program.ops[i];
      Step& mine = plan.steps[i];
      size_t count = op.in.size() + op.out.size();
      mine.tensors.resize(count);
      mine.operands.resize(count);
      for (size_t j = 0; j < count; j++) {
        int32_t id = j < op.in.size() ? op.in[j] : op.out[j - op.in.size()];
        resolve(plan, id, &mine.tensors[j], &mine.operands[j]);
      }
    }
    check(&plan, context);
    for (size_t i = 0; i < program.ops.size(); i++) {
      const OpImpl* impl = backend->op[static_cast<int>(program.ops[i].op)];
      if (impl->scratch != nullptr)
        scratch = std::max<uint64_t>(scratch, impl->scratch(call_of(i, plan.steps[i], context)));
    }
    plan.arena.bytes = plan.arena.scratch_offset + (scratch + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    if (plans.size() >= kMaxPlans) {
      if (bound == &plans.back()) bound = nullptr;
      plans.pop_back();
    }
    plans.push_front(std::move(plan));
    return &plans.front();
  }

  void bind_inputs(const Plan& plan, const std::map<std::string, Tensor>& inputs,
                   const std::map<std::string, Tensor>& resident, const StepContext* context) {
    uint64_t bytes = context != nullptr ? Staging::room(*context) : 0;
    for (const auto& [name, tensor] : inputs)
      bytes += Staging::room(static_cast<uint64_t>(tensor.numel() * size_of(tensor.dtype)));
    staging.begin(bytes);
    for (size_t i = 0; i < program.inputs.size(); i++) {
      const ProgramInput& input = program.inputs[i];
      const Tensor& expected = plan.placed[input.value].shape;
      const auto there = resident.find(input.name), given_here = inputs.find(input.name);
      std::string wanted = name_of(expected.dtype) + describe_shape(expected);
      if (there == resident.end() && given_here == inputs.end()) {
        throw Error("ERR_SHAPE", "Expected " + wanted + " for input '" + input.name + "' of program '" + program.name +
                                     "' but received nothing");
      }
      const Tensor& given = there != resident.end() ? there->second : given_here->second;
      bool matches = given.rank == expected.rank && given.contiguous();
      for (int d = 0; matches && d < given.rank; d++) matches = given.shape[d] == expected.shape[d];
      if (!matches || given.dtype != expected.dtype || (given.data == nullptr && given.numel() != 0)) {
        throw Error(matches ? "ERR_DTYPE" : "ERR_SHAPE", "Expected " + wanted + " for input '" + input.name +
                                                             "' of program '" + program.name + "' but received " +
                                                             describe(given));
      }
      void* data = given.data != nullptr ? given.data : region.data();
      const uint64_t size = static_cast<uint64_t>(given.numel() * size_of(given.dtype));
      input_data[i] = there == resident.end() ? staging.place(data, size) : data;
    }
    step = staging.place(context, &placed_step);
    staging.send();
  }

  // What ops read lies where it lay at the last time, or what was recorded then is worth nothing.
  void bind_addresses(Plan* plan) {
    const StepContext context = step != nullptr ? *step : StepContext();
    plan->again = context == plan->context;
    plan->context = context;
    for (Step& each : plan->steps) {
      for (size_t j = 0; j < each.tensors.size(); j++) {
        void* data = address(each.operands[j], each.tensors[j].data);
        plan->again = plan->again && data == each.tensors[j].data;
        each.tensors[j].data = data;
      }
    }
    if (!plan->again) plan->recording = Recording();
  }

  void run_op(size_t i) {
    const ProgramOp& op = program.ops[i];
    OpCall call = call_of(i, bound->steps[i], step);
    call.scratch = region.data() + bound->arena.scratch_offset;
    if (call.step == nullptr && (op.op == Op::kv_store || op.op == Op::attention_paged))
      throw Error("ERR_PROGRAM", "Expected a KV cache for " + place_of(op) + " but received none");
    backend->op[static_cast<int>(op.op)]->run(call);
  }

  // All ops by one launch, where the plan is bound as it was before: a plan of sizes that do not come back is not worth
  // the recording. False where ops have to be run one by one.
  bool replay() {
    if (recorder == nullptr || !bound->again) return false;
    if (!bound->recording) {
      void* handle = recorder->record([this] {
        for (size_t i = 0; i < program.ops.size(); i++) run_op(i);
      });
      if (handle == nullptr) recorder = nullptr;
      bound->recording = Recording(recorder, handle);
    }
    if (bound->recording) bound->recording.replay();
    return static_cast<bool>(bound->recording);
  }

  // Runs `work` of the program as a whole: an op's that ran behind the host's back, say.
  template <class F>
  void whole(F work) {
    try {
      work();
    } catch (const Error& error) {
      bound = nullptr;
      throw Error(error.code(), std::string(error.what()) + " (in program '" + program.name + "')", error.hint());
    }
  }

  [[noreturn]] void fail_run(const ProgramOp& op, const std::string& code, const std::string& what,
                             const std::string& hint) const {
    std::string message = what;
    if (op.path.empty() || what.find(op.path) == std::string::npos) message += " (" + place_of(op) + ")";
    throw Error(code, message, hint);
  }
};

Executor::Executor(const Program& program, const Backend* backend, const Weights* weights, int program_index,
                   Pool* pool)
    : state_(new State(program, backend, weights, program_index, pool)) {}

Executor::~Executor() = default;

uint64_t Executor::peak_bytes(const std::vector<int64_t>& symbols, const std::vector<int32_t>& keep) {
  return state_->plan_for(symbols, keep, nullptr)->arena.bytes + kTail;
}

void Executor::reserve(uint64_t bytes, uint64_t input_bytes) {
  State& state = *state_;
  state.staging.reserve(input_bytes);
  if (bytes + kTail <= state.region.bytes()) return;
  state.bound = nullptr;  // its pointers would dangle
  state.region.reset();
  state.region = Allocation(state.memory, bytes + kTail, Use::kWhole, "activations",
                            "Lower maxNumBatchedTokens or the size of pictures.");
}

void Executor::bind(const std::vector<int64_t>& symbols, const std::map<std::string, Tensor>& inputs,
                    const StepContext* step, const std::vector<int32_t>& keep,
                    const std::map<std::string, Tensor>& resident) {
  State& state = *state_;
  state.bound = nullptr;
  state.done = false;
  Plan* plan = state.plan_for(symbols, keep, step);
  reserve(plan->arena.bytes);
  state.bind_inputs(*plan, inputs, resident, step);
  state.bind_addresses(plan);
  state.next = 0;
  state.bound = plan;
}

bool Executor::run(std::chrono::steady_clock::time_point deadline) {
  State& state = *state_;
  if (state.bound == nullptr)
    throw Error("ERR_INTERNAL", "Expected bind() before run() of program '" + state.program.name + "'");
  FlushDenormals flush;
  bool timed = deadline != std::chrono::steady_clock::time_point::max();
  size_t count = state.program.ops.size();
  state.whole([&] {
    if (!timed && state.next == 0 && state.replay()) state.next = count;
  });
  while (state.next < count) {
    const ProgramOp& op = state.program.ops[state.next];
    try {
      state.run_op(state.next);
    } catch (const Error& error) {
      state.bound = nullptr;
      state.fail_run(op, error.code(), error.what(), error.hint());
    } catch (const std::bad_alloc&) {
      state.bound = nullptr;
      state.fail_run(op, "ERR_OUT_OF_MEMORY", "Expected memory for an op but the system has none left", "");
    } catch (const std::exception& error) {
      state.bound = nullptr;
      state.fail_run(op, "ERR_INTERNAL", std::string("Expected an op to run but it failed: ") + error.what(), "");
    }
    state.next++;
    if (timed && state.next < count && std::chrono::steady_clock::now() >= deadline) return false;
  }
  state.whole([&] { state.memory.synchronize(); });
  state.done = true;
  return true;
}

Tensor Executor::value(int32_t id) const {
  const State& state = *state_;
  if (state.bound == nullptr || !state.done) {
    throw Error("ERR_INTERNAL",
                "Expected a finished run of program '" + state.program.name + "' before its values are read");
  }
  if (id < 0 || static_cast<size_t>(id) >= state.program.values.size()) {
    throw Error("ERR_INVALID_ARGUMENT",
                "Expected a value of program '" + state.program.name + "' but received " + std::to_string(id));
  }
  Tensor tensor;
  Operand operand;
  state.resolve(*state.bound, id, &tensor, &operand);
  tensor.data = state.address(operand, tensor.data);
  return tensor;
}

Tensor Executor::output(const std::string& name) const {
  auto found = state_->program.outputs.find(name);
  if (found == state_->program.outputs.end()) {
    throw Error("ERR_INVALID_ARGUMENT",
                "Expected an output of program '" + state_->program.name + "' but received '" + name + "'");
  }
  return value(found->second);
}

std::vector<int64_t> Executor::shape_of(int32_t value, const std::vector<int64_t>& symbols) const {
  if (value < 0 || static_cast<size_t>(value) >= state_->program.values.size()) {
    throw Error("ERR_INVALID_ARGUMENT",
                "Expected a value of program '" + state_->program.name + "' but received " + std::to_string(value));
  }
  return ocelli::shape_of(state_->program, value, symbols);
}

}  // namespace ocelli
