// The whole engine on a model of a few hundred weights and the reference backend: requests, aborts, holds and disposal
// from several threads at once, for ThreadSanitizer above all. Every request ends once, and what it was given is the
// beginning of what it is given alone.
#include "engine/engine.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>

#include "core/model.h"
#include "test/distant.h"
#include "test/expect.h"
#include "test/programs.h"

namespace {

using namespace ocelli;
using test::Random;

constexpr int32_t kVocab = 32;
constexpr int32_t kWidth = 8;

std::shared_ptr<Model> load(const Backend* backend) {
  auto model = std::make_shared<Model>();
  model->backend = backend;
  model->pool = shared_pool(2);
  model->programs.push_back(Program::parse(test::kText));
  model->programs.push_back(Program::parse(test::kEncoder));
  WeightOptions options;
  options.dummy = true;
  options.seed = 3;
  model->weights = Weights::load({&model->programs[0], &model->programs[1]}, nullptr, {}, model->backend, options,
                                 *model->pool, nullptr);
  return model;
}

EngineConfig config_of(int32_t blocks) {
  EngineConfig config;
  config.scheduler.max_sequences = 4;
  config.scheduler.max_tokens = 12;
  config.scheduler.max_model_len = 64;
  config.block_size = 4;
  config.kv_blocks = blocks;
  config.kv_layers = 1;
  config.kv_heads = 2;
  config.head_dim_k = config.head_dim_v = 4;
  config.encoder_cache_bytes = 6 * kWidth * sizeof(float);
  config.feature_width = kWidth;
  config.vocab = kVocab;
  return config;
}

std::unique_ptr<Engine> engine_of(const std::shared_ptr<Model>& model, int32_t blocks, std::function<void()> notify) {
  EngineModel parts;
  parts.text = &model->programs[0];
  parts.encoders = {&model->programs[1]};
  parts.weights = model->weights.get();
  parts.backend = model->backend;
  parts.pool = model->pool.get();
  parts.owner = model;
  return std::make_unique<Engine>(std::move(parts), config_of(blocks), std::move(notify));
}

constexpr int32_t kKinds = 12;

// Twelve requests: with and without pictures, greedy and drawn, one output or two.
std::shared_ptr<Request> request(int32_t kind, int32_t id) {
  Random random(kind);
  auto r = std::make_shared<Request>();
  r->id = id;
  const int32_t length = 3 + random.below(14);
  for (int32_t i = 0; i < length; i++) r->prompt.push_back(i < kind ? i : random.below(kVocab));
  r->max_tokens = 1 + random.below(12);
  r->n = kind % 5 == 4 ? 2 : 1;
  r->sampling.temperature = kind % 2 == 0 ? 0.f : 1.f;
  r->sampling.seed = kind;
  if (kind % 3 == 0) {
    Item item;
    item.hash[0] = static_cast<uint8_t>(kind % 4);
    item.rows = 3;
    item.ranges.push_back({0, 3});
    item.symbols["N"] = 3;
    auto pixels = std::make_shared<std::vector<float>>(3 * kWidth);
    for (float& x : *pixels) x = static_cast<float>(item.hash[0]) - 1.5f;
    Tensor t;
    t.dtype = DType::kF32;
    t.rank = 2;
    t.shape[0] = 3;
    t.shape[1] = t.stride[0] = kWidth;
    t.stride[1] = 1;
    t.data = pixels->data();
    item.inputs["pixels"] = {t, pixels};
    r->items.push_back(std::move(item));
  }
  return r;
}

// What each output of each request was told.
struct Told {
  std::vector<int32_t> tokens;
  int32_t ends = 0;
  Record end = Record::kToken;
};
using Book = std::map<std::pair<int32_t, int32_t>, Told>;

void read(const EngineEvents& events, Book* book) {
  for (size_t at = 0; at < events.data.size();) {
    const double* r = events.data.data() + at;
    Told& told = (*book)[{static_cast<int32_t>(r[0]), static_cast<int32_t>(r[1])}];
    const Record kind = static_cast<Record>(static_cast<int>(r[2]));
    if (kind == Record::kToken) told.tokens.push_back(static_cast<int32_t>(r[3]));
    if (kind == Record::kStop || kind == Record::kLength || kind == Record::kAborted || kind == Record::kFailed) {
      told.ends++;
      told.end = kind;
    }
    at += 8 + 3 * static_cast<size_t>(r[6]);
  }
}

bool all_ended(const Book& book, size_t outputs) {
  size_t ended = 0;
  for (const auto& [key, told] : book) ended += told.ends > 0 ? 1 : 0;
  return ended == outputs;
}

void wait_until(const std::function<bool()>& done, const char* what) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!done()) {
    if (std::chrono::steady_clock::now() > limit) {
      test::expect(false, std::string("waited a minute for ") + what);
      return;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

// Each kind alone: what all later ones are compared with.
Book answers(const std::shared_ptr<Model>& model) {
  Book all;
  for (int32_t kind = 0; kind < kKinds; kind++) {
    Book book;
    auto engine = engine_of(model, 64, [] {});
    auto r = request(kind, kind);
    engine->submit({r});
    wait_until(
        [&] {
          read(engine->take(), &book);
          return all_ended(book, r->n);
        },
        "a request alone");
    for (const auto& [key, told] : book) {
      EXPECT(told.end == Record::kLength && static_cast<int32_t>(told.tokens.size()) == r->max_tokens);
      all[key] = told;
    }
  }
  return all;
}

// `clients` threads submit, hold, abort and ask for figures, one takes events.
void interleaved(const std::shared_ptr<Model>& model, const Book& alone, int32_t operations, uint64_t seed) {
  constexpr int32_t kClients = 3;
  std::atomic<int32_t> notified{0}, working{kClients};
  // Room for two or three sequences: preemption all the time.
  auto engine = engine_of(model, 11, [&] { notified++; });
  std::atomic<int32_t> next{0};
  std::vector<std::set<int32_t>> aborted(kClients);
  std::vector<std::map<int32_t, int32_t>> kinds(kClients);
  std::vector<std::thread> clients;
  for (int32_t c = 0; c < kClients; c++) {
    clients.emplace_back([&, c] {
      Random random(seed * kClients + c);
      std::vector<int32_t> mine, held;
      for (int32_t i = 0; i < operations / kClients; i++) {
        const int32_t dice = random.below(100);
        if (dice < 40) {
          const int32_t id = next++;
          mine.push_back(id);
          kinds[c][id] = random.below(kKinds);
          engine->submit({request(kinds[c][id], id)});
        } else if (dice < 55 && !mine.empty()) {
          const int32_t id = mine[mine.size() - 1 - random.below(std::min<int32_t>(mine.size(), 8))];
          aborted[c].insert(id);
          engine->abort(id, random.one_in(3) ? 0 : -1);
        } else if (dice < 65 && !mine.empty()) {
          held.push_back(mine.back());
          engine->hold(held.back(), true);
        } else if (dice < 75 && !held.empty()) {
          engine->hold(held.back(), false);
          held.pop_back();
        } else if (dice < 80) {
          EXPECT(engine->stats().kv_blocks_used <= 11);
        }
        // Not faster than the engine is: its queue would only grow.
        wait_until([&] { return engine->stats().waiting < 40; }, "the queue");
      }
      for (int32_t id : held) engine->hold(id, false);
      working--;
    });
  }
  Book book;
  while (working > 0) {
    read(engine->take(), &book);
    std::this_thread::yield();
  }
  for (std::thread& client : clients) client.join();
  std::map<int32_t, int32_t> kind;
  std::set<int32_t> cut;
  for (int32_t c = 0; c < kClients; c++) {
    kind.insert(kinds[c].begin(), kinds[c].end());
    cut.insert(aborted[c].begin(), aborted[c].end());
  }
  size_t outputs = 0;
  for (const auto& [id, k] : kind) outputs += request(k, id)->n;
  wait_until(
      [&] {
        read(engine->take(), &book);
        return all_ended(book, outputs);
      },
      "all requests");
  wait_until([&] { return engine->stats().running == 0 && engine->stats().waiting == 0; }, "the engine to be idle");
  EXPECT(engine->stats().kv_blocks_used == 0);
  EXPECT(engine->stats().preemptions > 0 && notified > 0);
  int32_t whole = 0;
  for (const auto& [key, told] : book) {
    const Told& expected = alone.at({kind.at(key.first), key.second});
    EXPECT(told.ends == 1 && told.end != Record::kFailed);
    EXPECT(told.end == Record::kLength || cut.count(key.first) == 1);
    EXPECT(told.tokens.size() <= expected.tokens.size() &&
           std::equal(told.tokens.begin(), told.tokens.end(), expected.tokens.begin()));
    whole += told.tokens == expected.tokens ? 1 : 0;
  }
  EXPECT(whole > 0);
  engine->stop();
  EXPECT(test::code_of([&] { engine->submit({request(0, 1 << 20)}); }) == "ERR_DISPOSED");
}

// Engines end with requests waiting, encoding, computing and held, while others still submit to them.
void disposals(const std::shared_ptr<Model>& model, int32_t rounds) {
  for (int32_t round = 0; round < rounds; round++) {
    Random random(1000 + round);
    auto engine = engine_of(model, 16, [] {});
    std::atomic<int32_t> accepted{0};
    std::atomic<bool> go{false};
    std::thread client([&] {
      while (!go) std::this_thread::yield();
      for (int32_t id = 0; id < 12; id++) {
        auto r = request((id + round) % kKinds, id);
        const int32_t n = r->n;
        if (!test::code_of([&] { engine->submit({r}); }).empty()) return;
        accepted += n;
        if (id % 4 == 3) engine->abort(id - 1);
        if (id % 5 == 4) engine->hold(id, true);
      }
    });
    go = true;
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(600)));
    engine->stop();
    client.join();
    // Nobody is left without an answer.
    Book book;
    read(engine->take(), &book);
    EXPECT(all_ended(book, accepted));
    for (const auto& [key, told] : book) EXPECT(told.ends == 1);
  }
}

void refusals(const std::shared_ptr<Model>& model) {
  // The engine's thread stops where it tells of its first step: what it was given then is in flight for certain.
  std::mutex gate;
  std::unique_lock<std::mutex> shut(gate);
  auto engine = engine_of(model, 16, [&] { std::lock_guard<std::mutex> pass(gate); });
  auto refused = [&](const std::function<void(Request&)>& spoil) {
    auto r = request(3, 1);
    spoil(*r);
    return test::code_of([&] { engine->submit({r}); });
  };
  EXPECT(refused([](Request& r) { r.prompt[1] = kVocab; }) == "ERR_TOKEN_ID");
  EXPECT(refused([](Request& r) { r.prompt[1] = -1; }) == "ERR_TOKEN_ID");
  EXPECT(refused([](Request& r) { r.positions = {1, 2}; }) == "ERR_POSITIONS");
  EXPECT(refused([](Request& r) { r.items[0].rows = 2; }) == "ERR_PLACEHOLDER_COUNT");
  EXPECT(refused([](Request& r) { r.items[0].ranges = {{-1, 3}}; }) == "ERR_PLACEHOLDER_COUNT");
  EXPECT(refused([](Request& r) { r.items[0].ranges = {{INT32_MAX, 3}}; }) == "ERR_PLACEHOLDER_COUNT");
  EXPECT(refused([](Request& r) { r.items[0].encoder = 1; }) == "ERR_ENCODER");
  EXPECT(refused([](Request& r) { r.items[0].encoder = -1; }) == "ERR_IMAGE_EMBEDS");
  // Six rows are all that the cache holds; a span reads all of its pictures at once.
  EXPECT(refused([](Request& r) {
           r.prompt.resize(12);
           for (int32_t i = 1; i < 3; i++) {
             r.items.push_back(r.items[0]);
             r.items[i].hash[1] = static_cast<uint8_t>(i);
             r.items[i].ranges = {{3 * i, 3}};
           }
           r.atomic = {{0, 12}};
         }) == "ERR_ENCODER_CACHE");
  EXPECT(test::code_of([&] { engine->submit({request(1, 2), request(1, 2)}); }) == "ERR_REQUEST_ID");
  auto long_one = request(3, 1);
  long_one->max_tokens = 12;
  engine->submit({long_one});
  EXPECT(test::code_of([&] { engine->submit({request(1, 2), request(1, 1)}); }) == "ERR_REQUEST_ID");
  shut.unlock();
}

// What an item costs are its rows, not the positions that they are spread over: two of three rows each fill the cache.
void rows_cost(const std::shared_ptr<Model>& model) {
  auto engine = engine_of(model, 64, [] {});
  Book book;
  for (int32_t id = 1; id <= 2; id++) {
    auto r = request(3, id);
    r->prompt.resize(50, 1);
    r->items[0].hash[1] = static_cast<uint8_t>(id);
    r->items[0].ranges = {{0, 1}, {20, 1}, {41, 1}};
    engine->submit({r});
  }
  wait_until(
      [&] {
        read(engine->take(), &book);
        return all_ended(book, 2);
      },
      "both");
  for (const auto& [key, told] : book) EXPECT(told.end == Record::kLength);
  EXPECT(engine->stats().encoder_runs == 2 && engine->stats().encoder_bytes == 6 * kWidth * sizeof(float));
}

// A fault of the device ends the requests of its step, and nothing else; memory that is lacking is said at the start.
void faults(const std::shared_ptr<Model>& model, const Book& alone) {
  auto engine = engine_of(model, 64, [] {});
  Book book;
  const auto answer = [&](int32_t id) {
    engine->submit({request(0, id)});
    wait_until(
        [&] {
          read(engine->take(), &book);
          return book[{id, 0}].ends > 0;
        },
        "a request");
    return book[{id, 0}];
  };
  test::distant().break_next();
  EXPECT(answer(1).end == Record::kFailed);
  EXPECT(answer(2).tokens == alone.at({0, 0}).tokens);
  engine.reset();
  test::distant().limit(100);
  EXPECT(test::code_of([&] { engine_of(model, 64, [] {}); }) == "ERR_MEMORY");
  EXPECT(test::code_of([&] { load(test::distant_backend()); }) == "ERR_OUT_OF_MEMORY");
  test::distant().limit(UINT64_MAX);
}

// The engine with a backend whose memory is out of the host's reach: the same bits, and all of it given back.
void at_a_distance(const Book& alone, int32_t operations) {
  {
    const std::shared_ptr<Model> model = load(test::distant_backend());
    EXPECT(model->weights->mapped_bytes() == 0);
    faults(model, alone);
    interleaved(model, alone, operations, 1);
    EXPECT(test::distant().replays() > 0);
    disposals(model, operations / 50);
    // Where nothing can be recorded, ops run as they come.
    const int64_t replays = test::distant().replays();
    test::distant().refuse_recordings(true);
    interleaved(model, alone, operations / 10, 1);
    test::distant().refuse_recordings(false);
    EXPECT(test::distant().replays() == replays);
  }
  EXPECT(test::distant().allocations() == 0);
  EXPECT(test::distant().recordings() == 0);
}

}  // namespace

int main(int argc, char** argv) {
  const int32_t operations = static_cast<int32_t>(test::repeats(argc, argv, 10000, 100000));
  const std::shared_ptr<Model> model = load(ref_backend());
  refusals(model);
  rows_cost(model);
  const Book alone = answers(model);
  for (int32_t done = 0, seed = 1; done < operations && test::failures == 0; done += 5000, seed++)
    interleaved(model, alone, std::min(operations, 5000), seed);
  disposals(model, operations / 50);
  at_a_distance(alone, operations / 10);
  return test::report("engine");
}
