// x86-64-v3. The pragma stands before everything: all code below it may use these instructions, and no other file's.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,bmi2")
#endif
#define ARUNTIME_LANES 8
#include "cpu/kernels.hpp"

namespace aruntime::cpu {
extern const Operations kAvx2 = table("avx2");
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
