// What each tenant is owed and what it has had: the scheduler's books by tenant.
#pragma once

#include <cstdint>

#include "queue/records.hpp"

namespace aruntime {

// The terms of a tenant of whom nobody has said anything: one share like everybody's, no reservation, no cap.
struct TenantTerms {
  double weight = 1.0;                 // share of service among those who want it
  double cache_max = 1.0;              // the most of the blocks that it may hold, as a share of them
  double cache_reserved = 0.0;         // what it can always have back, as a share of the blocks
  double tokens_per_s_reserved = 0.0;  // service that it gets before anybody else gets more
  std::uint32_t prefix_group = 0;      // tenants of one group share cached prefixes
};

}  // namespace aruntime
