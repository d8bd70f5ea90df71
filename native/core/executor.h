// Runs one program: binds sizes, lays values out in one arena by liveness, executes op by op and can stop between ops.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/program.h"
#include "core/weights.h"

namespace ocelli {

struct ArenaPlan {
  uint64_t bytes = 0;            // the peak for these sizes, scratch included
  std::vector<uint64_t> offset;  // per value; views and inputs have none (UINT64_MAX)
  uint64_t scratch_offset = 0;
};

class Executor {
 public:
  // program_index: its place among the programs that `weights` was loaded for. weights may be null for planning only.
  Executor(const Program& program, const Backend* backend, const Weights* weights, int program_index, Pool* pool);
  ~Executor();

  // Peak bytes for these sizes (all symbols, in the order of program.symbols); every op's contract is checked. `keep`:
  // values that must survive to the end (taps) besides the outputs.
  uint64_t peak_bytes(const std::vector<int64_t>& symbols, const std::vector<int32_t>& keep = {});

  // Reserves the arena once (no allocation in a step as long as peaks stay below); grows when a bound run needs more.
  // `input_bytes`: the same for what is copied to the backend's memory (Staging::room of inputs and step).
  void reserve(uint64_t bytes, uint64_t input_bytes = 0);

  // Binds sizes and inputs (by name; shape and dtype checked), ready to run from the first op. Plans are cached per
  // sizes. Inputs and the step's arrays are the host's and are copied where the backend's memory is another; those in
  // `resident` lie there.
  void bind(const std::vector<int64_t>& symbols, const std::map<std::string, Tensor>& inputs, const StepContext* step,
            const std::vector<int32_t>& keep = {}, const std::map<std::string, Tensor>& resident = {});
  // Executes until done or until `deadline` has passed between two ops; true when done, results in the backend's memory
  // then. An error names op and path, and leaves the executor ready for a new bind.
  bool run(std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max());
  // In the backend's memory; valid after run() returned true, until the next bind.
  Tensor value(int32_t id) const;
  Tensor output(const std::string& name) const;
  // Sizes of the outputs for given symbols without running.
  std::vector<int64_t> shape_of(int32_t value, const std::vector<int64_t>& symbols) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ocelli
