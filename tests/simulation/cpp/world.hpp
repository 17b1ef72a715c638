// A serving system on virtual time: tenants, front ends with their doors, and replicas that run the product's scheduler.
//
//   arrive -> door -> letter -> scheduler -> step -> record -> front end -> reader        cancel, pause, death at any time
//
// A discrete-event simulation: one heap of events, ordered by time and then by when they were made, and one source of
// chance. So a run is a function of its scenario: the same seed gives the same run, to the last bit.
// What a client, a replica or an operator could see go wrong is checked where it would be seen; `must` says it.
#pragma once

#include <map>
#include <queue>
#include <set>
#include <unordered_map>

#include "books.hpp"
#include "front_end.hpp"
#include "replica.hpp"

namespace aruntime::simulation {

// What can be done wrong on purpose, now and then, to see that the checks see it. None of it is the product's.
enum class Fault { kNone, kSwapTokens, kForgetWrite, kLoseRecord, kRepeatRecord, kFavourOne, kLiftCaps, kLosePause };
inline constexpr const char* kFaults[] = {"none",          "swap-tokens", "forget-write", "lose-record",
                                          "repeat-record", "favour-one",  "lift-caps",    "lose-pause"};

class World {
 public:
  explicit World(const Scenario& scenario, Fault fault = Fault::kNone);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Until the scenario's time or steps are over. Throws Broken.
  void run();
  // Lets everybody finish, with no newcomers; then every request has ended, and every block is back.
  void settle();

  // Writes down whoever is still there when time is over, as not ended.
  void close_books();

  double now_s() const noexcept { return now_s_; }
  std::int64_t steps() const noexcept { return steps_; }
  std::int64_t preemptions() const;
  const Books& books() const noexcept { return books_; }
  Books& books() noexcept { return books_; }
  const std::map<std::uint32_t, std::int64_t>& ends() const noexcept { return ends_; }

 private:
  enum class Kind { kArrive, kFollowUp, kLeave, kExpire, kRead, kTurn, kSignal, kFrontEndDies, kEngineDies, kSample };
  struct Event {
    double at_s;
    std::uint64_t order;
    Kind kind;
    std::uint32_t who, slot, generation;
    std::uint64_t turn;
    bool operator>(const Event& other) const noexcept {
      return at_s != other.at_s ? at_s > other.at_s : order > other.order;
    }
  };
  // What a client remembers between two requests of one conversation.
  struct Conversation {
    std::uint32_t tenant;
    std::int32_t turns_left;
    std::uint64_t session;
    std::vector<std::int32_t> tokens;
  };

  void at(double at_s, Kind kind, std::uint32_t who, std::uint32_t slot = 0, std::uint32_t generation = 0,
          std::uint64_t turn = 0) {
    if (at_s < kNever) events_.push({at_s, ++orders_, kind, who, slot, generation, turn});
  }
  void handle(const Event& event);

  // Clients and front ends.
  void arrive(std::uint32_t tenant);
  void follow_up(std::uint64_t conversation);
  void ask(const Conversation& conversation);
  void write_prompt(Ask& ask, const Conversation& conversation);
  std::uint32_t route(const Ask& ask, FrontEndPlaces& front_end);
  void leave(Ask& ask);
  void read_on(Ask& ask);
  void read_slowly(Ask& ask);
  void take(Ask& ask, const OutputRecord& record);
  void check_end(const Ask& ask, FinishReason finish) const;
  void end(Ask& ask, std::uint32_t finish);
  void come_again(const Ask& ask);
  void front_end_dies(std::uint32_t front_end);

  // Replicas.
  void send(const Ask& ask, MessageKind kind);
  void receive(Replica& replica, std::uint32_t front_end);
  void submit(Replica& replica, Ask& ask);
  void turn(Replica& replica);
  void rest(Replica& replica);
  bool plan(Replica& replica);
  void run_step(Replica& replica, const StepPlan& plan, Step& step);
  void sample(Replica& replica, const StepPlan& plan, std::int32_t row, Ask& ask, Step& step);
  void charge(Replica& replica, Ask& ask, std::int32_t context, const Row& row);
  void check_fairness(Replica& replica);
  void commit(Replica& replica);
  void deliver(Replica& replica);
  void wake(Replica& replica);
  void signal(Replica& replica);
  void engine_dies(Replica& replica);
  void set_tenants(Replica& replica);
  void check_caps(const StepPlan& plan, const Step& step);
  void count_first(const Ask& ask);

  Ask* find(const Row& row) { return front_ends_[row.front_end].find(row.slot, row.generation); }
  double life(double mean_s) { return mean_s < kNever ? now_s_ + chance_.exponential(mean_s) : kNever; }
  bool strikes(Fault fault) { return fault_ == fault && steps_ > 50 && chance_.happens(0.02); }
  admission::Held& held(Replica& replica, std::uint32_t tenant) {
    return replica.counts.tenants[scenario_.run.hide_tenants ? 0 : tenant];
  }

  const Scenario scenario_;
  const Fault fault_;
  Chance chance_;
  double now_s_ = 0;
  std::int64_t steps_ = 0, preemptions_ = 0;  // of engines that died
  bool closing_ = false;
  std::uint64_t orders_ = 0, sessions_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::unordered_map<std::uint64_t, Conversation> conversations_;
  std::deque<FrontEndPlaces> front_ends_;
  std::deque<Replica> replicas_;
  std::vector<OutputRecord> outputs_ = std::vector<OutputRecord>(1024);
  std::vector<double> prefilled_, decoded_;
  std::vector<std::uint32_t> queued_;
  Books books_;
  std::map<std::uint32_t, std::int64_t> ends_;  // how many ended so, by FinishReason, kLost or kRefused
};

// Ends that no scheduler gives: its engine or front end died; the door said no.
inline constexpr std::uint32_t kLost = 100, kRefused = 101;

}  // namespace aruntime::simulation

#include "world_clients.hpp"
#include "world_engines.hpp"
