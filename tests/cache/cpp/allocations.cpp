// Once a pool is made it allocates nothing: every call of the allocator is counted.
#include "allocations.hpp"
#include "cache/block_pool.hpp"
#include "expect.hpp"

using namespace aruntime;

int main() {
  constexpr std::int32_t kBlocks = 100, kBlockTokens = 16, kTokens = 30 * kBlockTokens;
  BlockPool pool(kBlocks, kBlockTokens, 1);
  std::vector<std::int32_t> table, tokens(kTokens);
  std::vector<std::uint64_t> hashes;
  Match match;
  table.reserve(kBlocks);
  match.blocks.reserve(kBlocks);
  hashes.reserve(kBlocks);
  const long before = allocations;
  EXPECT(before > 0);
  std::size_t hits = 0;
  for (int turn = 0; turn < 1000; ++turn) {
    tokens[20 * kBlockTokens] = turn;  // the first twenty blocks are always the same
    hashes.clear();
    pool.extend(1, tokens.data(), kTokens, hashes);
    pool.match(1, tokens.data(), hashes, kBlocks, match);
    hits += match.blocks.size();
    pool.share(match.blocks, table);
    const auto run = static_cast<std::int32_t>(match.blocks.size());
    pool.take(30 - run, table);
    pool.announce(table, run, 30, tokens.data(), hashes, match.prefix);
    pool.publish(table, run, 30);
    pool.give_back(table);
  }
  EXPECT(hits == 999 * 20);
  EXPECT(allocations == before);
}
