// x86-64-v4. The pragma stands before everything: all code below it may use these instructions, and no other file's.
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,bmi,bmi2,prefer-vector-width=512")
#define ARUNTIME_LANES 16
#include "cpu/kernels.hpp"

namespace aruntime::cpu {
extern const Operations kAvx512 = table("avx512");
}
#endif
