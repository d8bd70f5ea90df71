// What the stand-in pretends to be, and what it makes go wrong: the environment variable OCELLI_EMULATED, a
// comma-separated list.
#pragma once

#include <cstddef>
#include <string>

namespace ocelli {
namespace ptx {

struct Settings {
  size_t memory = size_t{1} << 30;  // memory=BYTES
  int devices = 1;                  // devices=N
  int capability = 80;              // capability=80
  int version = 13000;              // version=13000
  bool races = true;                // races=0: whole models run sooner
  std::string fail;                 // fail=ENTRY:N:CODE: the N-th call of ENTRY, from 1, returns CODE; 0: each
  int fail_at = 0;
  int fail_code = 0;
  std::string hide;  // hide=ENTRY: cuGetProcAddress does not know it

  Settings();
};

}  // namespace ptx
}  // namespace ocelli
