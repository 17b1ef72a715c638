// All operations of one instruction set, as a table. Included by that set's .cpp only.
#pragma once

#include "cpu/attention.hpp"
#include "cpu/likely.hpp"
#include "cpu/linear.hpp"
#include "cpu/rows.hpp"
#include "cpu/sample.hpp"

namespace aruntime::cpu {
namespace {

constexpr Operations table(const char* name) {
  return {name, pack, linear, embed, rms_norm, rotary, silu_mul, store_kv, attention, sample, likeliest};
}

}  // namespace
}  // namespace aruntime::cpu
