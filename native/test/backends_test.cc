// Which instruction sets run: Linux withholds AMX's tiles where a thread's stack for signals could not hold them, and
// everything else goes on without.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "core/op.h"
#include "test/expect.h"

namespace {

using namespace ocelli;

bool has_amx(const std::vector<std::string>& isas) { return std::find(isas.begin(), isas.end(), "amx") != isas.end(); }

// In a process of its own: permission, once given, stays.
void test_small_signal_stack() {
  int count[2];
  EXPECT(pipe(count) == 0);
  const pid_t child = fork();
  if (child == 0) {
    static char stack[2048];  // MINSIGSTKSZ, which fits no tiles
    stack_t small = {};
    small.ss_sp = stack;
    small.ss_size = sizeof(stack);
    if (sigaltstack(&small, nullptr) != 0) _exit(1);
    const std::vector<std::string> isas = cpu_isas();
    const char found = static_cast<char>(isas.size());
    const bool told = write(count[1], &found, 1) == 1;
    _exit(told && !has_amx(isas) && test::code_of([] { cpu_backend("amx"); }) == "ERR_ISA" ? 0 : 1);
  }
  int status = 0;
  EXPECT(waitpid(child, &status, 0) == child && status == 0);
  char without = 0;
  EXPECT(read(count[0], &without, 1) == 1);
  const std::vector<std::string> isas = cpu_isas();
  EXPECT(isas.size() == static_cast<size_t>(without) + has_amx(isas));
}

}  // namespace

int main() {
  test_small_signal_stack();
  return ocelli::test::report("backends");
}
