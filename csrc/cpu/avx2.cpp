// x86-64-v3. The pragma stands before everything: all code below it may use these instructions, and no other file's.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#define ARUNTIME_LANES 8
#include "cpu/kernels.hpp"

namespace aruntime::cpu {
extern const Operations kAvx2 = table("avx2");
}
#endif
