// What bench/bench_cache.py times: a pool with room for 200,000 blocks, and the turns of a prompt through it.
#include <cstdint>
#include <vector>

#include "cache/block_pool.hpp"

using namespace aruntime;

namespace {

constexpr std::int32_t kBlockTokens = 16;
constexpr std::int32_t kBlocks = 200'000;

struct Cache {
  BlockPool pool{kBlocks, kBlockTokens, 0x243F6A8885A308D3ull};
  std::vector<std::uint64_t> hashes;
  std::vector<std::int32_t> table;
  Match match;
};

// Holds what is there of a prompt, and says how many blocks that is.
std::int32_t admit(Cache& cache, const std::int32_t* tokens, std::int32_t count) {
  cache.hashes.clear();
  cache.pool.extend(1, tokens, count, cache.hashes);
  cache.pool.match(1, tokens, cache.hashes, kBlocks, cache.match);
  cache.pool.share(cache.match.blocks, cache.table);
  return static_cast<std::int32_t>(cache.match.blocks.size());
}

}  // namespace

extern "C" {

Cache* cache_new() {
  auto* cache = new Cache;
  cache->hashes.reserve(kBlocks);
  cache->table.reserve(kBlocks);
  cache->match.blocks.reserve(kBlocks);
  return cache;
}

void cache_delete(Cache* cache) { delete cache; }

// hash + lookup + share; the blocks found.
std::int32_t cache_hit(Cache* cache, const std::int32_t* tokens, std::int32_t count) {
  return admit(*cache, tokens, count);
}

// announce + publish of what is held.
void cache_insert(Cache* cache, const std::int32_t* tokens) {
  const auto blocks = static_cast<std::int32_t>(cache->table.size());
  Prefix prefix = cache->match.prefix;
  cache->pool.announce(cache->table, 0, blocks, tokens, cache->hashes, prefix);
  cache->pool.publish(cache->table, 0, blocks);
}

void cache_take(Cache* cache, std::int32_t blocks) { cache->pool.take(blocks, cache->table); }

void cache_give_back(Cache* cache) { cache->pool.give_back(cache->table); }
}
