// What the emulator does not know it must say, and say where. Also the ends of kernels that never end.
#include "ptx/test/support.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

const std::string kHead = ".version 9.0\n.target sm_80\n.address_size 64\n";

std::string kernel(const std::string& body) {
  return kHead +
         ".visible .entry k(.param .u64 k_param_0)\n{\n.reg .pred %p<4>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<4>;\n.reg "
         ".b16 %h<2>;\n" +
         body + "\nret;\n}\n";
}

// The message of the error, or "" where there was none.
std::string refused(const std::string& ptx) {
  try {
    Arena arena;
    Program program(arena, ptx);
    program.kernel("k");
  } catch (const Error& error) {
    return error.code() == "ERR_PTX" ? error.what() : "another code: " + error.code();
  }
  return "";
}

void refuses(const char* what, const std::string& ptx, const std::string& in_message) {
  const std::string message = refused(ptx);
  expect(message.find(in_message) != std::string::npos,
         std::string(what) + ": expected an error with '" + in_message + "' but received '" + message + "'");
}

void errors() {
  expect(refused(kernel("mov.u32 %r1, 7;")).empty(), "a kernel that is right");
  refuses("an unknown instruction", kernel("tex.2d.v4 %r1, %r2;"), "an instruction that the emulator knows at line 10");
  refuses("an unknown modifier", kernel("ld.global.sideways.u32 %r1, [%rd1];"), "no modifier '.sideways'");
  refuses("an unknown form of a known one",
          kernel("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 %r1, %r2, %r3, %r4;"), "mma.sync");
  refuses("a register of another size", kernel("add.u32 %r1, %r2, %rd1;"), "registers of the type's size");
  refuses("a number of another size", kernel("add.f64 %rd1, %rd2, 0f3F800000;"), "a number of the type's size");
  refuses("a register that nobody declared", kernel("mov.u32 %r1, %r99;"),
          "a special register that the emulator knows");
  refuses("a label that is nowhere", kernel("bra $nowhere;"), "a name that 'k' knows");
  refuses("a missing operand", kernel("add.u32 %r1, %r2;"), "at least 3 operands");
  refuses("a character that PTX lacks", kernel("mov.u32 %r1, ?;"), "'?'");
  refuses("an unknown directive", kHead + ".surprise;\n", "a directive");
  refuses("no such kernel", kHead, "a kernel");
  refuses("a function that calls itself",
          kHead + ".func f()\n{\ncall.uni f, ();\nret;\n}\n.visible .entry k()\n{\ncall.uni f, ();\nret;\n}\n",
          "do not call themselves");
  refuses("a function without a body", kHead + ".func f();\n.visible .entry k()\n{\ncall.uni f, ();\nret;\n}\n",
          "a definition of 'f'");
}

void launches() {
  Arena arena;
  Program program(arena, kernel("$loop:\nbra $loop;"));
  Options options;
  options.budget = 100000;
  const Report report = execute(arena, program.launch("k", {}, {64, 1, 1}, 0, Address{0}), options);
  expect(report.has(Fault::kRunaway) && report.findings.size() == 1, "a loop without end is told\n" + report.text());
  const auto code_of = [&](auto body) {
    try {
      body();
    } catch (const Error& error) {
      return error.code();
    }
    return std::string();
  };
  expect(code_of([&] { program.launch("k", {}, {64, 1, 1}, 0); }) == "ERR_PTX", "an argument too few");
  expect(code_of([&] { program.launch("k", {}, {64, 1, 1}, 0, Address{0}, 1); }) == "ERR_PTX", "an argument too many");
  expect(code_of([&] {
           execute(arena, program.launch("k", {}, {2048, 1, 1}, 0, Address{0}), options);
         }) == "ERR_PTX",
         "a block too large");
  Arena small(1000);
  expect(code_of([&] { small.allocate(1001); }) == "ERR_OUT_OF_MEMORY", "an arena that is full");
  expect(code_of([&] { small.release(12); }) == "ERR_PTX", "a release of nothing");
}

// Scopes of inline assembly: names and labels end with their braces.
void scopes() {
  const std::string part =
      "{ .reg .pred p; .reg .b32 t; setp.eq.u32 p, %r1, 0; @p bra done; add.u32 %r2, %r2, 1; done: mov.u32 t, 0; }\n";
  Arena arena;
  Program program(arena, kernel("mov.u32 %r1, %tid.x;\nmov.u32 %r2, 0;\n" + part + part +
                                "ld.param.u64 %rd1, [k_param_0];\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, "
                                "%rd2;\nst.global.u32 [%rd3], %r2;"));
  const Address out = arena.allocate(128);
  expect_proof(arena, program.launch("k", {}, {32, 1, 1}, 0, out), "scopes");
  std::vector<uint32_t> expected(32, 2);
  expected[0] = 0;
  expect(arena.download<uint32_t>(out, 32) == expected, "labels of equal names in scopes side by side");
}

void body() {
  errors();
  launches();
  scopes();
}

}  // namespace

int main(int argc, char** argv) { return run_test("loud", argc, argv, body); }
