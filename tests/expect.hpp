// A test's only tool: say what must hold. What does not ends the program, with the number (a seed, a step) that
// repeats it.
#pragma once

#include <cstdio>
#include <cstdlib>

inline unsigned long run_number = 0;

#define EXPECT(condition)                                                                                \
  do {                                                                                                   \
    if (!(condition)) {                                                                                  \
      std::fprintf(stderr, "%s:%d: run %lu: not so: %s\n", __FILE__, __LINE__, run_number, #condition); \
      std::exit(1);                                                                                      \
    }                                                                                                    \
  } while (false)
