// Scheduler traces as text, replayed: one line, one event.
//   config tokens=8 seqs=4 blocks=16 block=4 mixed=4 [logits=4] [window=8] [unchunked] [uncached]
//   request NAME prompt=A*6+P*4+B*2 [max=N] [priority=N] [n=N] [logprobs] [item=P@6+4] [span=6+4] [salt=S]
//     the prompt is made of texts: token i of text A is the same in every request; P is the picture that item= names
//   ready P | lost P        the picture's features can be read; not any more (evicted)
//   abort NAME
//   step NAME:START+ROWS[*] ... [-NAME ...]   what the step must be: * samples a token, - was preempted
//   step                    nothing can run
//   state running=A,B waiting=C used=3
//   yield NAME ...          who must give way
#pragma once

#include <map>
#include <set>
#include <sstream>
#include <vector>

#include "engine/scheduler.h"
#include "test/expect.h"

namespace ocelli {
namespace test {

inline Digest digest_of(const std::string& text) { return Sha256().update(text.data(), text.size()).digest(); }

class Replay {
 public:
  explicit Replay(const std::string& title) : title_(title) {}

  // False after the first line that does not come true.
  bool replay(const std::string& text) {
    std::istringstream lines(text);
    std::string line;
    for (int number = 1; std::getline(lines, line); number++) {
      std::istringstream words(line);
      std::string verb;
      if (!(words >> verb) || verb[0] == '#') continue;
      std::string found = run(verb, words);
      if (!expect(found.empty(), title_ + ", line " + std::to_string(number) + ": '" + line + "' but " + found))
        return false;
    }
    return true;
  }

 private:
  std::string run(const std::string& verb, std::istringstream& words) {
    if (verb == "config") return configure(words);
    if (verb == "request") return request(words);
    if (verb == "step") return step(words);
    if (verb == "state") return state(words);
    std::string name, rest;
    if (verb == "yield") {
      std::string expected, got;
      while (words >> name) expected += " " + name;
      for (const auto& s : scheduler_->yield()) got += " " + name_of(*s);
      return got == expected ? "" : "it was" + got;
    }
    words >> name;
    if (verb == "ready") ready_.insert(digest_of(name));
    if (verb == "lost") ready_.erase(digest_of(name));
    if (verb == "abort") {
      for (const auto& s : sequences_.at(name)) scheduler_->finish(s);
    }
    return "";
  }

  std::string configure(std::istringstream& words) {
    SchedulerConfig config;
    int32_t blocks = 64, size = 4;
    bool cached = true;
    std::string word;
    while (words >> word) {
      std::string key = word.substr(0, word.find('='));
      int32_t value = word.find('=') == std::string::npos ? 0 : std::stoi(word.substr(word.find('=') + 1));
      if (key == "tokens") config.max_tokens = value;
      if (key == "seqs") config.max_sequences = value;
      if (key == "mixed") config.mixed_prefill = value;
      if (key == "len") config.max_model_len = value;
      if (key == "logits") config.max_logits = value;
      if (key == "window") config.window = value;
      if (key == "blocks") blocks = value;
      if (key == "block") size = value;
      if (key == "unchunked") config.chunked_prefill = false;
      if (key == "uncached") cached = false;
    }
    blocks_ = std::make_unique<BlockManager>(blocks, size, cached);
    scheduler_ = std::make_unique<Scheduler>(config, blocks_.get());
    return "";
  }

  std::string request(std::istringstream& words) {
    auto r = std::make_shared<Request>();
    std::string name, word;
    words >> name;
    r->arrival = arrivals_++;
    while (words >> word) {
      std::string key = word.substr(0, word.find('=')), value = word.substr(word.find('=') + 1);
      if (key == "prompt") fill(r->prompt, value);
      if (key == "max") r->max_tokens = std::stoi(value);
      if (key == "priority") r->priority = std::stoi(value);
      if (key == "n") r->n = std::stoi(value);
      if (key == "logprobs") r->prompt_logprobs = 0;
      if (key == "salt") r->salt = digest_of(value);
      size_t plus = value.find('+');
      if (key == "span") r->atomic.push_back({std::stoi(value), std::stoi(value.substr(plus + 1))});
      if (key == "item") {
        size_t at = value.find('@');
        Item item;
        item.hash = digest_of(value.substr(0, at));
        item.ranges.push_back({std::stoi(value.substr(at + 1)), std::stoi(value.substr(plus + 1))});
        item.rows = item.ranges[0].second;
        r->items.push_back(item);
      }
    }
    try {
      scheduler_->check(*r);
    } catch (const Error& e) {
      return e.code();
    }
    sequences_[name] = sequences_of(r);
    for (const auto& s : sequences_[name]) {
      names_[s.get()] = r->n > 1 ? name + "." + std::to_string(s->index) : name;
      scheduler_->add(s);
    }
    return "";
  }

  // "A*6+B*2": six tokens of text A, two of text B. Pictures are spelled likewise; their ids are one.
  static void fill(std::vector<int32_t>& prompt, const std::string& spelling) {
    std::istringstream parts(spelling);
    std::string part;
    while (std::getline(parts, part, '+')) {
      int32_t count = std::stoi(part.substr(part.find('*') + 1));
      bool picture = part[0] == 'P';
      for (int32_t i = 0; i < count; i++) prompt.push_back(picture ? 7 : 1000 * part[0] + i);
    }
  }

  std::string step(std::istringstream& words) {
    std::string word, expected, got;
    while (words >> word) expected += " " + word;
    Step step = scheduler_->schedule(
        [this](Sequence& s, int32_t item) { return ready_.count(s.request->items[item].hash) > 0; });
    for (const ScheduledSequence& s : step.sequences) {
      got += " " + name_of(*s.sequence) + ":" + std::to_string(s.start) + "+" + std::to_string(s.count) +
             (s.sample ? "*" : "");
    }
    for (const auto& s : step.preempted) got += " -" + name_of(*s);
    scheduler_->advance(step);
    for (const ScheduledSequence& s : step.sequences) {
      if (!s.sample) continue;
      s.sequence->tokens.push_back(100000 + 100 * s.sequence->index + s.sequence->generated());
      if (s.sequence->generated() >= s.sequence->request->max_tokens) scheduler_->finish(s.sequence);
    }
    verify();
    return got == expected ? "" : got.empty() ? "nothing ran" : "it was" + got;
  }

  void verify() {
    std::vector<const Sequence*> all;
    for (const auto& s : scheduler_->running()) all.push_back(s.get());
    for (const auto& s : scheduler_->waiting()) all.push_back(s.get());
    blocks_->verify(all);
  }

  std::string state(std::istringstream& words) {
    std::string word;
    while (words >> word) {
      std::string key = word.substr(0, word.find('=')), value = word.substr(word.find('=') + 1), got;
      if (key == "running")
        for (const auto& s : scheduler_->running()) got += (got.empty() ? "" : ",") + name_of(*s);
      if (key == "waiting")
        for (const auto& s : scheduler_->waiting()) got += (got.empty() ? "" : ",") + name_of(*s);
      if (key == "used") got = std::to_string(blocks_->used_blocks());
      if (key == "hits") got = std::to_string(blocks_->prefix_hits) + "/" + std::to_string(blocks_->prefix_queries);
      if (key == "preemptions") got = std::to_string(scheduler_->preemptions);
      if (got != value) return key + " was " + got;
    }
    return "";
  }

  const std::string& name_of(const Sequence& s) const { return names_.at(&s); }

  std::string title_;
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<std::string, std::vector<std::shared_ptr<Sequence>>> sequences_;
  std::map<const Sequence*, std::string> names_;
  std::set<Digest> ready_;
  uint64_t arrivals_ = 0;
};

}  // namespace test
}  // namespace ocelli
