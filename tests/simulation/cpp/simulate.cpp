// Runs a simulated world. The same arguments give the same run.
//
//   simulate chaos SEED STEPS [FAULT]    a world drawn from SEED, every step checked; FAULT: one of kFaults
//   simulate run FOLDER < scenario       a scenario from text; its books are written to FOLDER for numpy
//
// Exit status 1: a promise was broken; the last line says which, at which seed and step.
#include <cstdio>
#include <cstring>
#include <iostream>

#include "chaos.hpp"
#include "world.hpp"

using namespace aruntime::simulation;

namespace {

void print(const World& world) {
  std::printf("steps %lld preemptions %lld virtual_s %.3f", static_cast<long long>(world.steps()),
              static_cast<long long>(world.preemptions()), world.now_s());
  for (const auto& [end, count] : world.ends()) std::printf(" end%u %lld", end, static_cast<long long>(count));
  std::printf("\n");
}

int chaos_run(std::uint64_t seed, std::int64_t steps, Fault fault) {
  World world(chaos(seed, steps), fault);
  world.books().keep = false;
  try {
    world.run();
    world.settle();
  } catch (const std::exception& broken) {
    std::printf("broken: %s; replay: simulate chaos %llu %lld\n", broken.what(), static_cast<unsigned long long>(seed),
                static_cast<long long>(world.steps() + 1));
    return 1;
  }
  print(world);
  return 0;
}

int scenario_run(const std::string& folder) {
  try {
    World world(Scenario::read(std::cin));
    world.run();
    world.close_books();
    world.books().write(folder);
    print(world);
    return 0;
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}

int usage() {
  std::fprintf(stderr, "simulate chaos SEED STEPS [FAULT] | simulate run FOLDER < scenario\n");
  return 2;
}

}  // namespace

int main(int count, char** arguments) {
  if (count >= 4 && std::strcmp(arguments[1], "chaos") == 0) {
    const auto named = std::find_if(std::begin(kFaults), std::end(kFaults), [&](const char* name) {
      return std::strcmp(name, count > 4 ? arguments[4] : kFaults[0]) == 0;
    });
    if (named == std::end(kFaults)) return usage();
    return chaos_run(std::strtoull(arguments[2], nullptr, 10), std::atoll(arguments[3]),
                     static_cast<Fault>(named - std::begin(kFaults)));
  }
  if (count == 3 && std::strcmp(arguments[1], "run") == 0) return scenario_run(arguments[2]);
  return usage();
}
