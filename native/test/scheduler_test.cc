// The scheduler by the hand-written traces of test/engine/traces (replay.h says how they read).
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "test/replay.h"

namespace {

using ocelli::test::Replay;

// A file has several traces, each behind a line `trace TITLE`. Prints a line for each: the test of test/engine reads
// them.
void replay_file(const std::string& path) {
  std::ifstream file(path);
  EXPECT(file.good());
  std::string line, title, trace;
  const auto play = [&] {
    if (!title.empty()) std::printf("%s %s\n", Replay(title).replay(trace) ? "ok" : "failed", title.c_str());
    trace.clear();
  };
  while (std::getline(file, line)) {
    if (line.rfind("trace ", 0) == 0) {
      play();
      title = line.substr(6);
    } else {
      trace += line + "\n";
    }
  }
  play();
}

std::string refusal(const std::string& request) {
  // A refused request's line fails with the error's code: what remains is to read it.
  using namespace ocelli;
  SchedulerConfig config;
  config.max_tokens = 8;
  config.max_model_len = 64;
  config.chunked_prefill = request.find("unchunked") == std::string::npos;
  BlockManager blocks(4, 4, true);
  Scheduler scheduler(config, &blocks);
  Request r;
  r.max_tokens = 1;
  std::istringstream words(request);
  std::string word;
  while (words >> word) {
    size_t plus = word.find('+');
    if (word.find("prompt=") == 0) r.prompt.resize(std::stoi(word.substr(7)));
    if (word.find("max=") == 0) r.max_tokens = std::stoi(word.substr(4));
    if (word.find("span=") == 0) r.atomic.push_back({std::stoi(word.substr(5)), std::stoi(word.substr(plus + 1))});
  }
  return test::code_of([&] { scheduler.check(r); });
}

void what_can_never_run_is_refused() {
  EXPECT(refusal("prompt=0") == "ERR_PROMPT_EMPTY");
  EXPECT(refusal("prompt=15") == "");
  EXPECT(refusal("prompt=15 max=2") == "ERR_KV_CACHE");
  EXPECT(refusal("prompt=63") == "ERR_KV_CACHE");
  EXPECT(refusal("prompt=64") == "ERR_PROMPT_TOO_LONG");
  EXPECT(refusal("prompt=9 unchunked") == "ERR_PROMPT_TOO_LONG");
  EXPECT(refusal("prompt=8 unchunked") == "");
  EXPECT(refusal("prompt=12 span=2+8") == "");
  EXPECT(refusal("prompt=12 span=2+9") == "ERR_ATOMIC_SPAN");
  EXPECT(refusal("prompt=12 span=5+8") == "ERR_ATOMIC_SPAN");
  EXPECT(refusal("prompt=12 span=-1+4") == "ERR_ATOMIC_SPAN");
  EXPECT(refusal("prompt=12 span=2+0") == "ERR_ATOMIC_SPAN");
  EXPECT(refusal("prompt=12 span=2+4 span=5+3") == "ERR_ATOMIC_SPAN");
  EXPECT(refusal("prompt=12 span=2+4 span=6+3") == "");
  EXPECT(refusal("prompt=12 span=2147483647+1") == "ERR_ATOMIC_SPAN");
}

}  // namespace

int main() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(OCELLI_TRACES)) files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  EXPECT(!files.empty());
  for (const std::string& path : files) replay_file(path);
  what_can_never_run_is_refused();
  return ocelli::test::report("scheduler");
}
