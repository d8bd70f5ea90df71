// The scheduler by hand-written traces (replay.h says how they read).
#include "test/replay.h"

namespace {

using ocelli::test::Replay;

struct Case {
  const char* title;
  const char* trace;
};

const Case kCases[] = {
    {"a prompt runs in chunks of the budget", R"(
config tokens=8 mixed=8
request a prompt=A*20 max=3
step a:0+8
step a:8+8
step a:16+4*
step a:20+1*
step a:21+1*
state running= waiting= used=0
)"},
    {"decodes go first, prompts take what is left of the smaller part", R"(
config tokens=16 mixed=4
request a prompt=A*3 max=9
step a:0+3*
request b prompt=B*10 max=2
step a:3+1* b:0+4
step a:4+1* b:4+4
step a:5+1* b:8+2*
step a:6+1* b:10+1*
step a:7+1*
)"},
    {"several prompts share a step in the order of arrival", R"(
config tokens=10 mixed=10
request a prompt=A*4
request b prompt=B*3
request c prompt=C*8
step a:0+4* b:0+3* c:0+3
step a:4+1* b:3+1* c:3+5*
)"},
    {"no more sequences than allowed", R"(
config tokens=16 seqs=2
request a prompt=A*2 max=2
request b prompt=B*2 max=3
request c prompt=C*2 max=2
step a:0+2* b:0+2*
state running=a,b waiting=c
step a:2+1* b:2+1*
step b:3+1* c:0+2*
)"},
    {"the last to come is preempted, computes its tokens again and goes on", R"(
config tokens=16 blocks=4 block=4 uncached mixed=16
request a prompt=A*7 max=9
request b prompt=B*4 max=4
step a:0+7* b:0+4*
step a:7+1* b:4+1*
state used=4
step a:8+1* -b
state running=a waiting=b used=3 preemptions=1
step a:9+1*
step a:10+1*
step a:11+1*
# b needs two blocks for its six tokens; only when a is done are they there.
step a:12+1*
step a:13+1*
step a:14+1*
step b:0+6*
step b:6+1*
state running= waiting= used=0
)"},
    {"a preempted one finds its own blocks again", R"(
config tokens=16 blocks=5 block=4 mixed=16
request a prompt=A*7 max=6
request b prompt=B*8 max=4
step a:0+7* b:0+8*
step a:7+1* b:8+1*
step a:8+1* -b
step a:9+1*
step a:10+1*
step a:11+1*
step b:8+2*
step b:10+1*
state used=0 hits=8/25
)"},
    {"a shared prefix is adopted, all but the last token", R"(
config tokens=32 block=4
request a prompt=A*8+B*3 max=1
step a:0+11*
request b prompt=A*8+C*2 max=1
request c prompt=A*8 max=1
request d prompt=A*7+B*4 max=1
step b:8+2* c:4+4* d:4+7*
state hits=16/40
)"},
    {"another salt shares nothing", R"(
config tokens=32 block=4
request a prompt=A*8+B*3 max=1 salt=x
step a:0+11*
request b prompt=A*8+B*3 max=1 salt=y
request c prompt=A*8+B*3 max=1 salt=x
step b:0+11* c:8+3*
)"},
    {"generated tokens are a prefix too", R"(
config tokens=32 block=4
request a prompt=A*6 max=4
step a:0+6*
step a:6+1*
step a:7+1*
step a:8+1*
state used=0
request b prompt=A*6 max=1
step b:4+2*
)"},
    {"the beginning of a prefix is evicted last", R"(
config tokens=32 blocks=4 block=4
request a prompt=A*12 max=1
step a:0+12*
request b prompt=B*6 max=1
step b:0+6*
request c prompt=A*12 max=1
step c:8+4*
)"},
    {"a picture inside a shared prefix is neither encoded nor computed again", R"(
config tokens=32 block=4
ready P1
request a prompt=A*2+P*4+B*6 item=P1@2+4 max=1
step a:0+12*
lost P1
request b prompt=A*2+P*4+B*5 item=P1@2+4 max=1
request c prompt=A*2+P*4+B*5 item=P2@2+4 max=1
# c has other pixels behind the same ids: nothing of a's is its own, and it waits for them after two tokens.
step b:8+3* c:0+2
)"},
    {"rows before a picture run while its features are made; others go on", R"(
config tokens=16 block=4 mixed=16
request a prompt=A*3+P*4+B*2 item=P1@3+4 max=2
request b prompt=B*4 max=3
step a:0+3 b:0+4*
step b:4+1*
state running=a,b
ready P1
step b:5+1* a:3+6*
step a:9+1*
)"},
    {"a picture longer than a chunk is read over several steps", R"(
config tokens=4 block=4
ready P1
request a prompt=A*2+P*8+B*2 item=P1@2+8 max=1
step a:0+4
step a:4+4
step a:8+4*
)"},
    {"two pictures: the second waits alone", R"(
config tokens=32 block=4
ready P1
request a prompt=P*4+A*2+P*4+B*1 item=P1@0+4 item=P2@6+4 max=1
step a:0+6
step
ready P2
step a:6+5*
)"},
    {"lower priority values come in first", R"(
config tokens=16 seqs=1
request a prompt=A*2 max=2
step a:0+2*
request b prompt=B*2 max=1 priority=1
request c prompt=C*2 max=1 priority=-1
request d prompt=D*2 max=1
step a:2+1*
step c:0+2*
step d:0+2*
step b:0+2*
)"},
    {"the least urgent is preempted, whenever it came", R"(
config tokens=16 blocks=4 block=4 uncached
request a prompt=A*4 max=4 priority=5
step a:0+4*
request b prompt=B*8 max=4
step a:4+1* b:0+8*
step b:8+1* -a
state running=b waiting=a
)"},
    {"abort while waiting, running and computing a chunk", R"(
config tokens=8 seqs=2 block=4
request a prompt=A*20
request b prompt=B*2
request c prompt=C*2
step a:0+8
step a:8+8
abort c
abort a
state running= waiting=b used=0
step b:0+2*
abort b
state running= waiting= used=0
step
)"},
    {"outputs of one request are sequences of their own", R"(
config tokens=16 block=4
request a prompt=A*3 n=2 max=2
step a.0:0+3*
step a.0:3+1* a.1:0+3*
step a.1:3+1*
)"},
    {"outputs share the full blocks of their prompt and wait for the first to compute it", R"(
config tokens=8 block=4 uncached mixed=8
request a prompt=A*14 n=3 max=3
request b prompt=B*2 max=1
step a.0:0+8
step a.0:8+6* b:0+2*
state used=4
step a.0:14+1* a.1:12+2* a.2:12+2*
state used=6
step a.0:15+1* a.1:14+1* a.2:14+1*
step a.1:15+1* a.2:15+1*
state running= waiting= used=0
)"},
    {"an output whose leader was preempted waits for it to come back", R"(
config tokens=16 blocks=4 block=4 uncached mixed=16
request a prompt=A*4 max=12 priority=1
request b prompt=B*6 n=2 max=2 priority=2
step a:0+4* b.0:0+6*
state running=a,b.0 waiting=b.1
)"},
    {"prompts that report log-probabilities run in chunks of the logits that a step may have", R"(
config tokens=16 logits=4 mixed=16
request a prompt=A*10 max=1 logprobs
request b prompt=B*3 max=1
step a:0+4 b:0+3*
step a:4+4
step a:8+2*
)"},
    {"an output does not start behind what the window of the first has left", R"(
config tokens=16 block=4 window=4 uncached
request a prompt=A*8 n=2 max=2
step a.0:0+8*
step a.0:8+1* a.1:0+8*
)"},
    {"blocks behind the window of every layer are given back", R"(
config tokens=8 block=4 window=6 uncached
request a prompt=A*16 max=4
step a:0+8
state used=2
step a:8+8*
state used=2
step a:16+1*
step a:17+1*
step a:18+1*
state used=0
)"},
    {"a span that attends both ways is never cut", R"(
config tokens=8 block=4
ready P1
request a prompt=A*5+P*6+B*3 item=P1@5+6 span=5+6 max=1
step a:0+5
step a:5+8
step a:13+1*
)"},
    {"a span does not start inside a cached block", R"(
config tokens=16 block=4
ready P1
request a prompt=A*2+P*6+B*3 item=P1@2+6 span=2+6 max=1
step a:0+11*
request b prompt=A*2+P*6+C*3 item=P1@2+6 span=2+6 max=1
request c prompt=A*2+P*6+B*1 item=P1@2+6 span=2+7 max=1
step b:8+3* c:0+9*
)"},
    {"text that attends both ways is a prefix only as a whole", R"(
config tokens=64 block=4
request a prompt=A*8+B*4 span=0+12 max=1
request b prompt=A*8+C*4 span=0+12 max=1
step a:0+12* b:0+12*
# Its first eight ids are a's and b's; what was computed for them depends on the other four.
request c prompt=A*8+C*4+D*1 span=0+12 max=1
request d prompt=A*8+D*4+D*1 span=0+12 max=1
request e prompt=A*8+C*4+D*1 max=1
step c:12+1* d:0+13* e:0+13*
)"},
    {"a span as long as a step is not starved by decodes", R"(
config tokens=8 block=4 mixed=8
request a prompt=A*2 max=9
step a:0+2*
ready P1
request b prompt=P*8+B*1 item=P1@0+8 span=0+8 max=1
step a:2+1*
step b:0+8
step a:3+1* b:8+1*
step a:4+1*
)"},
    {"without chunked prefill a prompt runs whole, first when it was crowded out", R"(
config tokens=8 block=4 unchunked
request a prompt=A*2 max=9
request b prompt=B*7 max=2
step a:0+2*
step b:0+7* a:2+1*
step a:3+1* b:7+1*
)"},
    {"without chunked prefill a preempted sequence longer than a step comes back", R"(
config tokens=8 blocks=6 block=4 unchunked uncached
request a prompt=A*7 max=9
step a:0+7*
request b prompt=B*7 max=6
step a:7+1* b:0+7*
step a:8+1* b:7+1*
step a:9+1* b:8+1*
step a:10+1* b:9+1*
step a:11+1* b:10+1*
step a:12+1* -b
step a:13+1*
step a:14+1*
step b:0+8
step b:8+4*
state running= waiting= used=0
)"},
    {"who waits for what others hold: all but the first give way", R"(
config tokens=16 block=4
request a prompt=P*4+A*1 item=P1@0+4
request b prompt=P*4+B*1 item=P2@0+4
request c prompt=P*4+C*1 item=P3@0+4
step
state running=a,b,c
yield c b
state running=a waiting=b,c used=0 preemptions=2
ready P1
step a:0+5*
yield c b
)"},
};

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
  for (const Case& c : kCases) Replay(c.title).replay(c.trace);
  what_can_never_run_is_refused();
  return ocelli::test::report("scheduler");
}
