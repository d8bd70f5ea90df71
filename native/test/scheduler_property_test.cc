// Random operations on the scheduler, its blocks and the encoder cache, as the engine drives them. After each: used +
// free = total, nobody reads keys and values that another content left there, features are pinned as often as they are
// held, and something always goes on.
#include <algorithm>
#include <deque>
#include <stdexcept>

#include "engine/encoder_cache.h"
#include "engine/scheduler.h"
#include "test/expect.h"

namespace {

using namespace ocelli;
using test::Random;

uint64_t mix(uint64_t a, uint64_t b) { return Random(a ^ (b + 0x9E3779B97F4A7C15ull) * 0xD1B54A32D192ED03ull).next(); }

struct World {
  explicit World(uint64_t seed) : random(seed) {
    config.max_sequences = 1 + random.below(6);
    config.max_tokens = config.max_sequences + random.below(24);
    config.max_model_len = 64;
    config.mixed_prefill = 1 + random.below(config.max_tokens);
    config.chunked_prefill = !random.one_in(4);
    config.window = random.one_in(4) ? 1 + random.below(20) : 0;
    block_size = 1 << random.below(4);
    blocks = std::make_unique<BlockManager>((24 + random.below(96)) / block_size, block_size, !random.one_in(4));
    scheduler = std::make_unique<Scheduler>(config, blocks.get());
    features = std::make_unique<EncoderCache>(1 + random.below(12));
    content.assign(static_cast<size_t>(blocks->total()) * block_size, 0);
  }

  struct Live {
    std::shared_ptr<Sequence> sequence;
    std::vector<uint64_t> prefix;  // [p]: all that the keys and values of token p depend on, were attention causal
    bool held = false;
  };

  Random random;
  SchedulerConfig config;
  int32_t block_size;
  std::unique_ptr<BlockManager> blocks;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<EncoderCache> features;
  std::vector<uint64_t> content;  // what each slot holds
  std::vector<Live> live;
  std::deque<Digest> jobs;
  uint64_t arrivals = 0;
  int32_t idle = 0;
  std::shared_ptr<Sequence> front;
  std::string wrong;

  bool check(bool ok, const char* what) {
    if (!ok && wrong.empty()) wrong = what;
    return ok;
  }

  static Digest picture(int32_t which) {
    Digest digest{};
    digest[0] = static_cast<uint8_t>(which);
    return digest;
  }

  void submit() {
    auto r = std::make_shared<Request>();
    r->arrival = arrivals++;
    r->priority = random.one_in(3) ? random.below(3) : 0;
    r->n = random.one_in(5) ? 2 : 1;
    r->max_tokens = 1 + random.below(16);
    r->prompt_logprobs = random.one_in(10) ? 0 : -1;
    r->salt[0] = static_cast<uint8_t>(random.one_in(8));
    // One of three texts, to a random point, then another: prefixes are often shared.
    int32_t length = 1 + random.below(random.one_in(2) ? 12 : 40), text = random.below(3),
            turn = random.below(length + 1), tail = 1 + random.below(2);
    for (int32_t i = 0; i < length; i++) r->prompt.push_back(i < turn ? 10 * text : 10 * text + tail);
    for (int32_t at = random.below(12); at < length && random.below(3) > 0; at += 1 + random.below(8)) {
      Item item;
      item.rows = std::min(length - at, 1 + random.below(8));
      item.hash = picture(8 * random.below(4) + item.rows);  // rows belong to the content
      item.ranges.push_back({at, item.rows});
      for (int32_t i = at; i < at + item.rows; i++) r->prompt[i] = 7;
      if (random.one_in(3)) r->atomic.push_back(item.ranges[0]);
      at += item.rows;
      r->items.push_back(std::move(item));
    }
    if (r->items.empty() && random.one_in(4)) r->atomic.push_back({0, std::min(length, 8 << random.below(3))});
    if (random.one_in(6)) {
      for (int32_t i = 0; i < length; i++) r->positions.push_back(i / 2);
      r->position_delta = {-length / 2};
    }
    if (!admissible(*r)) return;
    for (const auto& s : sequences_of(r)) {
      live.push_back({s, {}, false});
      scheduler->add(s);
    }
  }

  // As Engine::check_features.
  bool admissible(const Request& r) {
    if (!test::code_of([&] { scheduler->check(r); }).empty()) return false;
    std::vector<std::pair<int32_t, int32_t>> pieces = r.atomic;
    for (const Item& item : r.items) pieces.push_back({item.first(), 1});
    if (!config.chunked_prefill) pieces = {{0, static_cast<int32_t>(r.prompt.size())}};
    for (auto [start, count] : pieces) {
      std::map<Digest, int32_t> rows;
      for (const Item& item : r.items) {
        if (item.end() > start && item.first() < start + count) rows[item.hash] = item.rows;
      }
      uint64_t bytes = 0;
      for (auto& [hash, n] : rows) bytes += static_cast<uint64_t>(n);
      if (bytes > features->capacity()) return false;
    }
    return true;
  }

  // As Engine::features_ready and Engine::unpin; a row is a byte.
  bool ready(Sequence& s, int32_t index) {
    const Item& item = s.request->items[index];
    EncoderCache::Entry* entry = features->find(item.hash);
    if (std::find(s.pinned.begin(), s.pinned.end(), index) != s.pinned.end()) return entry->ready;
    if (entry != nullptr) {
      features->pin(entry);
    } else {
      entry = features->insert(item.hash, item.rows);
      if (entry == nullptr) return false;
      jobs.push_back(item.hash);
    }
    s.pinned.push_back(index);
    return entry->ready;
  }

  void unpin(Sequence& s, int32_t before) {
    for (size_t i = s.pinned.size(); i-- > 0;) {
      const Item& item = s.request->items[s.pinned[i]];
      if (item.end() > before) continue;
      features->unpin(features->find(item.hash));
      s.pinned.erase(s.pinned.begin() + i);
    }
  }

  void finish(const std::shared_ptr<Sequence>& s) {
    unpin(*s, INT32_MAX);
    scheduler->finish(s);
    live.erase(std::find_if(live.begin(), live.end(), [&](const Live& l) { return l.sequence == s; }));
  }

  // As Engine::set_held, which holds all outputs of a request.
  void hold(Live& l, bool held) {
    if (l.held == held) return;
    l.held = held;
    if (held) {
      scheduler->remove(l.sequence);
      unpin(*l.sequence, INT32_MAX);
    } else {
      scheduler->add(l.sequence);
    }
  }

  size_t paused() const {
    return std::count_if(live.begin(), live.end(), [](const Live& l) { return l.held; });
  }

  void encode() {
    if (jobs.empty()) return;
    Digest hash = jobs.front();
    jobs.pop_front();
    EncoderCache::Entry* entry = features->find(hash);
    if (entry == nullptr || entry->ready) return;
    if (!random.one_in(20)) {
      entry->ready = true;
      return;
    }
    std::vector<std::shared_ptr<Sequence>> affected;
    for (const Live& l : live) {
      for (const Item& item : l.sequence->request->items) {
        if (item.hash == hash) {
          affected.push_back(l.sequence);
          break;
        }
      }
    }
    for (const auto& s : affected) finish(s);
  }

  // What the keys and values of token p depend on.
  uint64_t expected(Live& l, int32_t p) {
    const Sequence& s = *l.sequence;
    const Request& r = *s.request;
    auto causal = [&](int32_t to) {
      for (int32_t i = static_cast<int32_t>(l.prefix.size()); i <= to; i++) {
        uint64_t h = i == 0 ? r.salt[0] : l.prefix[i - 1];
        h = mix(h, s.tokens[i]);
        for (const Item& item : r.items) {
          if (i >= item.first() && i < item.end()) h = mix(h, mix(item.hash[0], i - item.first()));
        }
        int32_t position = i;
        if (!r.positions.empty()) position = r.position(0, i);
        l.prefix.push_back(mix(h, position));
      }
      return l.prefix[to];
    };
    // Inside a span, on all of it; behind one, on its having been one.
    uint64_t spans = 0;
    int32_t end = p + 1;
    for (auto [start, count] : r.atomic) {
      if (start > p) continue;
      end = std::max(end, start + count);
      spans = mix(spans, mix(start, count));
    }
    return mix(causal(end - 1), mix(spans, p));
  }

  int32_t slot(const Sequence& s, int32_t p) const { return s.blocks[p / block_size] * block_size + p % block_size; }

  void step() {
    std::shared_ptr<Sequence> first = scheduler->running().empty() ? nullptr : scheduler->running().front();
    bool held = false;  // the first waits for features
    Step step = scheduler->schedule([&](Sequence& s, int32_t i) {
      bool yes = ready(s, i);
      held = held || (!yes && &s == first.get());
      return yes;
    });
    for (const auto& s : step.preempted) unpin(*s, INT32_MAX);
    for (const auto& s : scheduler->waiting()) unpin(*s, INT32_MAX);
    int32_t rows = 0;
    bool first_runs = false;
    for (const ScheduledSequence& s : step.sequences) {
      rows += s.count;
      first_runs = first_runs || s.sequence == first;
      run(s);
    }
    check(rows == step.rows && rows <= config.max_tokens, "more rows than a step has");
    // The first waits for two steps at most: one that somebody else was crowded out of, one that crowds it out itself.
    if (first != front || first_runs || held) idle = 0;
    front = first;
    if (first != nullptr && first->state == SequenceState::kRunning && !first_runs && !held) idle++;
    check(idle < 3, "the first sequence did not run in three steps");
    scheduler->advance(step);
    for (const ScheduledSequence& s : step.sequences) unpin(*s.sequence, s.sequence->computed);
    if (step.sequences.empty() && jobs.empty() && live.size() > paused()) {
      auto yielded = scheduler->yield();
      for (const auto& s : yielded) unpin(*s, INT32_MAX);
      check(!yielded.empty(), "nothing could go on");
    }
    for (const ScheduledSequence& s : step.sequences) {
      if (!s.sample) continue;
      s.sequence->tokens.push_back(random.below(2));
      if (s.sequence->generated() >= s.sequence->request->max_tokens || s.sequence->length() >= config.max_model_len)
        finish(s.sequence);
    }
  }

  void run(const ScheduledSequence& s) {
    Sequence& q = *s.sequence;
    Live& l = *std::find_if(live.begin(), live.end(), [&](const Live& x) { return x.sequence == s.sequence; });
    check(q.state == SequenceState::kRunning && s.start == q.computed && s.count > 0, "rows of a sequence out of turn");
    check(s.start + s.count <= q.length() && s.sample == (s.start + s.count == q.length()), "rows beyond the end");
    check(static_cast<int32_t>(q.blocks.size()) * block_size >= s.start + s.count, "rows without a block");
    if (!wrong.empty()) return;
    for (auto [start, count] : q.request->atomic) {
      check(s.start + s.count <= start || s.start >= start + count ||
                (s.start <= start && s.start + s.count >= start + count),
            "a span was cut");
    }
    for (const Item& item : q.request->items) {
      if (item.end() <= s.start || item.first() >= s.start + s.count) continue;
      EncoderCache::Entry* entry = features->find(item.hash);
      check(entry != nullptr && entry->ready && entry->references > 0, "rows ran without their features");
    }
    // The first row sees its window, or all before it.
    const int32_t seen = config.window > 0 ? std::max(0, s.start - config.window + 1) : 0;
    for (int32_t p = seen; p < s.start + s.count; p++) check(q.blocks[p / block_size] >= 0, "a block was given back");
    if (!wrong.empty()) return;
    for (int32_t p = s.start; p < s.start + s.count; p++) content[slot(q, p)] = expected(l, p);
    for (int32_t p = seen; p < s.start; p++)
      check(content[slot(q, p)] == expected(l, p), "somebody else's keys and values");
  }

  void verify() {
    std::vector<const Sequence*> all;
    size_t pins = 0;
    for (const Live& l : live) {
      all.push_back(l.sequence.get());
      pins += l.sequence->pinned.size();
    }
    try {
      blocks->verify(all);
    } catch (const std::logic_error& e) {
      check(false, e.what());
    }
    check(blocks->used_blocks() + blocks->free_blocks() == blocks->total(), "used + free differs from total");
    check(all.size() == scheduler->running().size() + scheduler->waiting().size() + paused(), "a sequence was lost");
    check(static_cast<int32_t>(scheduler->running().size()) <= config.max_sequences, "too many sequences run");
    check(features->bytes() <= features->capacity(), "more features than the cache may hold");
    check(pins == references(), "features are pinned more or less often than they are held");
  }

  size_t references() {
    size_t sum = 0;
    for (int32_t i = 0; i < 64; i++) {
      EncoderCache::Entry* entry = features->find(picture(i));
      if (entry != nullptr) sum += entry->references;
    }
    return sum;
  }

  int64_t play(int64_t operations) {
    int64_t done = 0;
    for (; done < operations && wrong.empty(); done++) {
      int32_t dice = random.below(100);
      if (dice < 22 && live.size() < 24) {
        submit();
      } else if (dice < 78) {
        step();
      } else if (dice < 94) {
        encode();
      } else if (dice < 97) {
        if (!live.empty()) {
          const Live& chosen = live[random.below(static_cast<int32_t>(live.size()))];
          const bool held = !chosen.held;
          const std::shared_ptr<Request> request = chosen.sequence->request;
          for (Live& l : live) {
            if (l.sequence->request == request) hold(l, held);
          }
        }
      } else if (!live.empty()) {
        finish(live[random.below(static_cast<int32_t>(live.size()))].sequence);
      }
      verify();
    }
    for (Live& l : live) hold(l, false);
    for (int32_t i = 0; i < 20000 && !live.empty() && wrong.empty(); i++) {
      step();
      encode();
      verify();
    }
    check(live.empty(), "requests that never end");
    check(blocks->used_blocks() == 0 && features->freeable() == features->capacity(), "blocks or features were lost");
    return done;
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int64_t operations = ocelli::test::repeats(argc, argv, 50000, 1000000);
  uint64_t seed = 1;
  for (int64_t done = 0; done < operations && ocelli::test::failures == 0; seed++) {
    World world(seed);
    done += world.play(500);
    ocelli::test::expect(world.wrong.empty(), "world " + std::to_string(seed) + ": " + world.wrong);
  }
  std::printf("%lld operations in %llu worlds\n", static_cast<long long>(operations),
              static_cast<unsigned long long>(seed - 1));
  return ocelli::test::report("scheduler_property");
}
