// The clients' books: a record a request, the gaps between tokens, and the service of each tenant over time.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "ask.hpp"

namespace aruntime::simulation {

// Gaps between tokens by length: bin b counts those of kGapMin * 1.05^b seconds and up.
inline constexpr std::size_t kGapBins = 360;
inline constexpr double kGapMinS = 1e-5, kGapRatio = 1.05;
using Gaps = std::array<std::uint64_t, kGapBins>;

// One tenant at one moment.
struct ServiceSample {
  double at_s;
  double prefilled, decoded;  // tokens, since the start
  std::uint32_t tenant;
  std::uint32_t queued;  // requests without a first token
};
static_assert(sizeof(ServiceSample) == 32);

struct Books {
  explicit Books(std::size_t tenants) : gaps(tenants, Gaps{}) {}

  bool keep = true;  // records, one by one; a long drive keeps none
  std::vector<Record> records;
  std::vector<Gaps> gaps;  // by tenant
  std::vector<ServiceSample> service;

  void add(const Record& record) {
    if (keep) records.push_back(record);
  }
  void add_gap(std::uint32_t tenant, double gap_s) {
    const double bin = std::log(std::max(gap_s, kGapMinS) / kGapMinS) / std::log(kGapRatio);
    ++gaps[tenant][std::min(kGapBins - 1, static_cast<std::size_t>(bin))];
  }

  // Three files of plain numbers, for numpy.
  void write(const std::string& folder) const {
    write(folder + "/records.bin", records);
    write(folder + "/gaps.bin", gaps);
    write(folder + "/service.bin", service);
  }

 private:
  template <typename Line>
  static void write(const std::string& path, const std::vector<Line>& lines) {
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(lines.data()), static_cast<std::streamsize>(lines.size() * sizeof(Line)));
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
  }
};

}  // namespace aruntime::simulation
