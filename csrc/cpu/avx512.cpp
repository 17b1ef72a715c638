// x86-64-v4. The pragma stands before everything: all code below it may use these instructions, and no other file's.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bw,avx512dq,avx512vl,fma,bmi2"))), apply_to = function)
#else
#pragma GCC target("avx512bw,avx512dq,avx512vl,fma,bmi2,prefer-vector-width=512")
#endif
#define ARUNTIME_LANES 16
#include "cpu/kernels.hpp"

namespace aruntime::cpu {
extern const Operations kAvx512 = table("avx512");
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
