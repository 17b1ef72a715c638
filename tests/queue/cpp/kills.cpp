// kill -9 of either end of a channel, and what the other end finds.
//
//   kills random COUNT SEED    a front end that submits, cancels and reads in a loop dies at a moment of chance
//   kills front_end            a front end dies at every single instruction of a submit that wraps round, and its ring
//   kills engine               an engine dies at every single instruction of a receive, a result, a send and its ring
//
// Prints how many were killed.
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <functional>
#include <random>
#include <string_view>

#include "talk.hpp"

using namespace talk;

// Runs `body` in a process of its own.
pid_t begin(const std::function<void()>& body) {
  const pid_t child = ::fork();
  EXPECT(child >= 0);
  if (child == 0) {
    body();
    ::_exit(0);
  }
  return child;
}

void kill_and_bury(pid_t child) {
  EXPECT(::kill(child, SIGKILL) == 0);
  int status = 0;
  EXPECT(::waitpid(child, &status, 0) == child);
  EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

// Runs `body`, which stops itself before and after what matters, and kills it `steps` instructions past the first stop.
// False: it came to the second stop before that, and was killed there.
bool killed_after(unsigned long steps, const std::function<void()>& body) {
  const pid_t child = begin([&] {
    EXPECT(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
    body();
  });
  int status = 0;
  EXPECT(::waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  for (unsigned long step = 0; step < steps; ++step) {
    EXPECT(::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0);
    EXPECT(::waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    if (WSTOPSIG(status) == SIGSTOP) break;
  }
  kill_and_bury(child);
  return WSTOPSIG(status) != SIGSTOP || steps == 0;
}

// Reads all that was said from message `next` on: whole messages, in order, each once. Returns the next number.
std::uint32_t hear(EngineEnd& engine, Message& message, std::uint32_t next) {
  for (Received received; (received = engine.receive(message)) != Received::kNothing; ++next) {
    expect_said(received, message, next);
  }
  return next;
}

// The engine end is as good as new: nothing torn, nothing held, free to sleep, its outputs go in until the ring is full.
void expect_unharmed(EngineEnd& engine, std::uint32_t output_records) {
  EXPECT(engine.refused() == 0);
  EXPECT(engine.prepare_sleep());
  const OutputRecord record = output_of(0);
  for (std::uint32_t i = 0; i <= output_records; ++i) engine.send(&record, 1);
  EXPECT(engine.output_room() == 0);
  engine.ring_bell();
}

unsigned long kill_at_random(unsigned long count, unsigned long seed) {
  std::mt19937_64 random(seed);
  auto* promised = static_cast<std::atomic<std::uint32_t>*>(
      ::mmap(nullptr, sizeof(std::uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::uint32_t heard_in_all = 0;
  for (run_number = 1; run_number <= count; ++run_number) {
    const Line line(run_number, 64, 16, 16);
    promised->store(0);
    const pid_t child = begin([&] {
      FrontEndEnd front_end(line.file, line.engine_bell, line.epoch);
      OutputRecord records[8];
      for (std::uint32_t n = 0;;) {
        front_end.take(records, 8);
        front_end.prepare_sleep();
        if (try_say(front_end, n)) promised->store(++n);
      }
    });
    EngineEnd engine(line.file, line.front_end_bell, line.epoch);
    Message message;
    std::uint32_t next = 0;
    const std::uint64_t turns = random() % 30;
    for (std::uint64_t turn = 0; turn < turns; ++turn) {
      next = hear(engine, message, next);
      const OutputRecord record = output_of(next);
      engine.send(&record, 1);
      engine.ring_bell();
      ::usleep(static_cast<useconds_t>(random() % 100));
    }
    kill_and_bury(child);
    next = hear(engine, message, next);
    EXPECT(next == promised->load() || next == promised->load() + 1);  // died between the push and the promise
    expect_unharmed(engine, 16);
    heard_in_all += next;
  }
  EXPECT(heard_in_all > count);  // most of them did get to say something
  return count;
}

// The first messages fill the ring so far that the next one wraps round its end.
constexpr std::uint32_t kCells = 16;
constexpr std::uint32_t kBefore = 4;

unsigned long kill_front_end_at_every_instruction() {
  std::uint32_t heard = 0;
  for (run_number = 0;; ++run_number) {
    const Line line(run_number + 1, kCells, 16, 2);
    EngineEnd engine(line.file, line.front_end_bell, line.epoch);
    Message message;
    std::uint32_t next = 0;
    const bool inside = killed_after(run_number, [&] {
      FrontEndEnd front_end(line.file, line.engine_bell, line.epoch);
      for (std::uint32_t n = 0; n < kBefore; ++n) {
        EXPECT(try_say(front_end, n));
        next = hear(engine, message, next);
      }
      SubmitHead head = head_of(kBefore);
      const auto prompt = prompt_of(kBefore);
      const auto payload = payload_of(kBefore);
      head.prompt_tokens = static_cast<std::uint32_t>(prompt.size());
      head.payload_bytes = static_cast<std::uint32_t>(payload.size());
      EXPECT(engine.prepare_sleep());
      ::raise(SIGSTOP);
      front_end.try_submit(head, prompt.data(), payload.data());
      ::raise(SIGSTOP);
    });
    // The child's engine end read the first ones; what is left is the message that it died in, whole or not at all.
    EngineEnd later(line.file, line.front_end_bell, line.epoch);
    next = hear(later, message, kBefore);
    EXPECT(next <= kBefore + 1 && next >= heard);  // once published, published at every later instruction
    heard = next;
    expect_unharmed(later, 16);
    if (!inside) break;
  }
  EXPECT(heard == kBefore + 1);
  return run_number + 1;
}

unsigned long kill_engine_at_every_instruction() {
  for (run_number = 0;; ++run_number) {
    const Line line(run_number + 1, kCells, 4, 8);
    FrontEndEnd front_end(line.file, line.engine_bell, line.epoch);
    EXPECT(try_say(front_end, 0));
    EXPECT(front_end.prepare_sleep());
    const bool inside = killed_after(run_number, [&] {
      EngineEnd engine(line.file, line.front_end_bell, line.epoch);
      Message message;
      message.prompt.reserve(kCells * kTokensPerCell);
      message.payload.reserve(kCells * kCellBytes);
      const OutputRecord records[3] = {output_of(0), output_of(1), output_of(2)};
      const auto answer = answer_of(0);
      ::raise(SIGSTOP);
      engine.receive(message);
      engine.try_result(0, mix(0), answer.data(), static_cast<std::uint32_t>(answer.size()));
      engine.send(records, 3);
      engine.ring_bell();
      ::raise(SIGSTOP);
    });
    OutputRecord records[8];
    const std::uint32_t taken = front_end.take(records, 8);
    EXPECT(taken == 0 || taken == 3);
    for (std::uint32_t n = 0; n < taken; ++n) expect_answered(records[n], n);
    Result result;
    const bool answered = front_end.result_cells() > 0 && front_end.take_result(result);
    EXPECT(answered || taken == 0);  // who sees the end finds the result
    if (answered) expect_result(result, 0);
    EXPECT(front_end.refused() == 0);
    EXPECT(front_end.prepare_sleep());
    std::uint32_t fits = 0;  // nobody reads any more: a full ring is an answer
    while (front_end.try_tell(MessageKind::kCancel, fits, 0)) ++fits;
    const std::uint32_t said = cells_of(static_cast<std::uint32_t>(prompt_of(0).size()),
                                        static_cast<std::uint32_t>(payload_of(0).size()));
    EXPECT(fits == kCells || fits == kCells - said);
    if (!inside) break;
  }
  return run_number + 1;
}

int main(int count, char** arguments) {
  const std::string_view what = arguments[1];
  unsigned long killed = 0;
  if (what == "random" && count == 4) {
    killed = kill_at_random(std::strtoul(arguments[2], nullptr, 10), std::strtoul(arguments[3], nullptr, 10));
  } else if (what == "front_end") {
    killed = kill_front_end_at_every_instruction();
  } else if (what == "engine") {
    killed = kill_engine_at_every_instruction();
  }
  EXPECT(killed > 0);
  std::printf("%lu\n", killed);
}
