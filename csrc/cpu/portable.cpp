// What the compiler makes of the vectors for any processor: correct everywhere, fast nowhere in particular.
#define ARUNTIME_LANES 4
#include "cpu/kernels.hpp"

namespace aruntime::cpu {
extern const Operations kPortable = table("portable");
}
