// The cache's small parts, each against the plainest thing that does the same; then the pool, one rule at a time.
#include <list>
#include <map>
#include <random>
#include <set>

#include "cache/block_pool.hpp"
#include "expect.hpp"

using namespace aruntime;

namespace {

using Ints = std::vector<std::int32_t>;
using Hashes = std::vector<std::uint64_t>;

void the_index_finds_what_a_multimap_finds_whatever_leaves() {
  std::mt19937 random(1);
  constexpr std::int32_t kBlocks = 200;
  PrefixIndex index(kBlocks);
  std::map<std::int32_t, std::uint32_t> plain;
  for (int turn = 0; turn < 100'000; ++turn) {
    const auto block = static_cast<std::int32_t>(random() % kBlocks);
    if (const auto at = plain.find(block); at != plain.end()) {
      index.remove(at->second, block);
      plain.erase(at);
    } else {
      // Long runs that cross each other's homes and the end of the table.
      const auto hash = static_cast<std::uint32_t>((random() % 8 ? 490 : 0xFFFF'FF00u) + random() % 30);
      index.add(hash, block);
      plain[block] = hash;
    }
    if (turn % 50 == 0) {
      for (std::int32_t other = 0; other < kBlocks; ++other) {
        const auto is_meant = [&](std::int32_t candidate) { return candidate == other; };
        const auto at = plain.find(other);
        const bool known = at != plain.end();
        EXPECT(index.find(known ? at->second : 495, is_meant) == (known ? other : kNoBlock));
      }
      EXPECT(index.size() == plain.size());
    }
  }
}

void hashes_grow_with_the_tokens_and_know_every_one_of_them() {
  std::mt19937 random(2);
  for (const std::int32_t block_tokens : {1, 3, 4, 16, 17, 64}) {
    const BlockPool pool(4, block_tokens, 9), other_process(4, block_tokens, 10);
    Ints tokens(static_cast<std::size_t>(block_tokens) * 3 + 1);
    for (auto& token : tokens) token = static_cast<std::int32_t>(random() % 1000);
    const auto count = static_cast<std::int32_t>(tokens.size());
    const auto hashed = [&](const BlockPool& by, std::uint64_t root) {
      Hashes hashes;
      by.extend(root, tokens.data(), count, hashes);
      return hashes;
    };
    const Hashes hashes = hashed(pool, 1);
    EXPECT(hashes.size() == static_cast<std::size_t>(count / block_tokens));
    Hashes grown;
    for (std::int32_t have = 0; have <= count; ++have) pool.extend(1, tokens.data(), have, grown);
    EXPECT(grown == hashes);
    std::set<std::uint64_t> seen(hashes.begin(), hashes.end());
    const auto differs = [&](const Hashes& others) { seen.insert(others.begin(), others.end()); };
    differs(hashed(pool, 2));
    differs(hashed(other_process, 1));
    for (std::int32_t i = 0; i < block_tokens; ++i) {
      tokens[static_cast<std::size_t>(i)] ^= 1;
      differs(hashed(pool, 1));
      tokens[static_cast<std::size_t>(i)] ^= 1;
    }
    EXPECT(seen.size() == hashes.size() * static_cast<std::size_t>(3 + block_tokens));
  }
}

void the_oldest_goes_first_and_what_is_protected_last() {
  SegmentedLru lru(20);
  const auto order = [&] {
    Ints blocks;
    lru.each([&](std::int32_t block, bool) { blocks.push_back(block); });
    return blocks;
  };
  for (const std::int32_t block : {4, 1, 3}) lru.add(block, false);
  lru.add(9, true);
  for (const std::int32_t block : {8, 2}) lru.add(block, false);
  EXPECT(order() == (Ints{4, 1, 3, 8, 2, 9}) && lru.oldest() == 4 && lru.protected_size() == 1);
  lru.remove(3);
  lru.remove(4);
  EXPECT(order() == (Ints{1, 8, 2, 9}) && lru.oldest() == 1 && lru.size() == 4);
  // Unless they are more than four fifths.
  for (const std::int32_t block : {10, 11, 12}) lru.add(block, true);
  lru.remove(8);
  lru.remove(1);
  EXPECT(order() == (Ints{2, 9, 10, 11, 12}) && lru.oldest() == 2);
  lru.add(13, true);
  EXPECT(lru.oldest() == 9 && lru.protected_size() == 5);
  lru.remove(9);
  EXPECT(lru.oldest() == 2);
}

// A cache of blocks of two tokens, and what a scheduler does with it.
struct Cache {
  explicit Cache(std::int32_t blocks) : pool(blocks, 2, 5) {}

  struct Sequence {
    std::uint64_t root;
    Ints tokens;
    Hashes hashes;
    Ints table;
    Prefix prefix;
  };

  Match look(std::uint64_t root, const Ints& tokens, std::int32_t blocks_max = 99) {
    Hashes hashes;
    pool.extend(root, tokens.data(), static_cast<std::int32_t>(tokens.size()), hashes);
    Match match;
    pool.match(root, tokens.data(), hashes, blocks_max, match);
    return match;
  }

  // Holds all full blocks of `tokens`, and says that it will write those that are not there.
  Sequence start(std::uint64_t root, const Ints& tokens, std::int32_t blocks_max = 99) {
    const Match match = look(root, tokens, blocks_max);
    Sequence sequence{root, tokens, {}, {}, match.prefix};
    pool.extend(root, tokens.data(), static_cast<std::int32_t>(tokens.size()), sequence.hashes);
    pool.share(match.blocks, sequence.table);
    const auto run = static_cast<std::int32_t>(match.blocks.size());
    const auto last = static_cast<std::int32_t>(sequence.hashes.size());
    pool.take(last - run, sequence.table);
    pool.announce(sequence.table, run, last, tokens.data(), sequence.hashes, sequence.prefix);
    pool.check_integrity();
    return sequence;
  }

  void write(const Sequence& sequence) {
    pool.publish(sequence.table, 0, static_cast<std::int32_t>(sequence.table.size()));
    pool.check_integrity();
  }

  void end(Sequence& sequence) {
    pool.give_back(sequence.table);
    pool.check_integrity();
  }

  // Writes `tokens` and lets go of them.
  Ints keep(std::uint64_t root, const Ints& tokens) {
    Sequence sequence = start(root, tokens);
    write(sequence);
    const Ints blocks = sequence.table;
    end(sequence);
    return blocks;
  }

  BlockPool pool;
};

void what_was_written_is_found_and_nothing_more() {
  Cache cache(8);
  const Ints blocks = cache.keep(1, {1, 2, 3, 4, 5});
  EXPECT(blocks.size() == 2 && cache.pool.cached() == 2 && cache.pool.free() == 8);
  const Match match = cache.look(1, {1, 2, 3, 4, 5, 6});
  EXPECT(match.blocks == blocks && cache.pool.unheld(match.blocks) == 2 && !match.pending());
  EXPECT(cache.look(1, {1, 2, 3, 4}, 1).blocks == Ints{blocks[0]});
  EXPECT(cache.look(1, {1, 2, 3, 9}).blocks == Ints{blocks[0]});
  EXPECT(cache.look(1, {3, 4}).blocks.empty() && cache.look(1, {1}).blocks.empty());
  EXPECT(cache.look(2, {1, 2, 3, 4}).blocks.empty());  // another root is another world
  EXPECT(cache.pool.cached() == 2);
}

void a_block_has_as_many_holders_as_tables() {
  Cache cache(8);
  cache.keep(1, {1, 2, 3, 4});
  Cache::Sequence one = cache.start(1, {1, 2, 3, 4}), other = cache.start(1, {1, 2});
  EXPECT(one.table[0] == other.table[0] && cache.pool.holders(one.table[0]) == 2);
  EXPECT(cache.pool.holders(one.table[1]) == 1 && cache.pool.free() == 6 && cache.pool.cached() == 0);
  EXPECT(cache.pool.unheld(cache.look(1, {1, 2, 3, 4}).blocks) == 0);
  cache.end(one);
  EXPECT(cache.pool.free() == 7 && cache.pool.cached() == 1);
  cache.end(other);
  EXPECT(cache.pool.free() == 8 && cache.pool.cached() == 2);
}

void a_follower_sees_that_somebody_is_at_it_and_reads_nothing_before_it_is_written() {
  Cache cache(8);
  Cache::Sequence leader = cache.start(1, {1, 2, 3, 4, 5, 6});
  EXPECT(cache.look(1, {1, 2, 3, 4}).pending() && cache.look(1, {1, 2, 3, 4}).blocks.empty());
  EXPECT(!cache.look(1, {1, 2, 3, 4}, 0).pending() && !cache.look(1, {2, 1}).pending());
  cache.pool.publish(leader.table, 0, 1);
  const Match match = cache.look(1, {1, 2, 3, 4});
  EXPECT(match.pending() && match.blocks == Ints{leader.table[0]});
  cache.end(leader);  // what it never wrote is forgotten
  EXPECT(!cache.look(1, {1, 2, 3, 4}).pending() && cache.look(1, {1, 2, 3, 4}).blocks.size() == 1);
  EXPECT(cache.pool.cached() == 1 && cache.pool.free() == 8);
}

void of_two_that_wrote_the_same_the_first_is_found_and_the_second_stays_private() {
  Cache cache(8);
  Cache::Sequence first = cache.start(1, {1, 2, 3, 4}), second = cache.start(1, {1, 2, 3, 4});
  cache.write(second);  // the first has the entries, so nothing is there until it has written
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks.empty());
  cache.write(first);
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks == first.table);
  cache.end(second);
  EXPECT(cache.pool.cached() == 0 && cache.pool.free() == 6);
  cache.end(first);
  EXPECT(cache.pool.cached() == 2);
}

void what_stands_after_a_twin_is_found_through_the_first() {
  Cache cache(8);
  const Ints kept = cache.keep(1, {1, 2});
  Cache::Sequence again = cache.start(1, {1, 2, 3, 4}, 0);  // it wants to compute the first block itself
  cache.write(again);
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks == (Ints{kept[0], again.table[1]}));
}

void a_block_that_is_handed_out_anew_has_lost_its_content() {
  Cache cache(3);
  cache.keep(1, {1, 2, 3, 4});
  Cache::Sequence other = cache.start(1, {5, 6, 7, 8});
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks.size() == 1);  // the leaf went first
  cache.end(other);
  Ints all;
  cache.pool.take(3, all);
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks.empty() && cache.pool.cached() == 0 && cache.pool.free() == 0);
  cache.pool.check_integrity();
}

void an_orphan_is_never_found_though_its_parent_comes_again() {
  Cache cache(4);
  cache.keep(1, {1, 2});
  Cache::Sequence child = cache.start(1, {1, 2, 3, 4}, 0);
  cache.write(child);
  Ints rest;
  cache.pool.take(2, rest);  // the first {1, 2} is evicted, and its child still held
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks.empty());
  cache.pool.give_back(rest);
  cache.keep(1, {1, 2});
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks.size() == 1);
  cache.end(child);
  EXPECT(cache.look(1, {1, 2, 3, 4}).blocks.size() == 1);
  // Nor does anybody enter behind what has left.
  child = cache.start(1, {1, 2}, 0);
  cache.pool.take(2, rest);
  cache.pool.give_back(rest);
  Cache::Sequence lost = cache.start(1, {9, 9, 9, 9, 9, 9});
  const std::int32_t cached = cache.pool.cached();
  cache.pool.announce(child.table, 0, 1, child.tokens.data(), child.hashes, child.prefix);
  EXPECT(cache.pool.cached() == cached);
  cache.pool.check_integrity();
}

void what_is_shared_outlives_a_flood_that_nobody_repeats() {
  Cache cache(20);
  const Ints system{1, 2, 3, 4, 5, 6};
  cache.keep(1, system);
  cache.keep(1, system);  // found again: protected
  for (std::int32_t i = 0; i < 100; ++i) cache.keep(1, {100 + i, 1, 2, 3, 4, 5, 6, 7});
  EXPECT(cache.look(1, system).blocks.size() == 3);
  // But not for ever: others that are shared take its place.
  for (std::int32_t i = 0; i < 20; ++i) {
    for (int twice = 0; twice < 2; ++twice) cache.keep(1, {200 + i, 1, 2, 3, 4, 5, 6, 7});
  }
  EXPECT(cache.look(1, system).blocks.empty());
}

void a_pool_without_prefixes_gives_every_block_once_and_takes_all_back() {
  BlockPool pool(7, 1, 0);
  Ints one, other;
  pool.take(3, one);
  pool.take(4, other);
  EXPECT(pool.free() == 0);
  std::set<std::int32_t> all(one.begin(), one.end());
  all.insert(other.begin(), other.end());
  EXPECT(all.size() == 7 && *all.begin() == 0 && *all.rbegin() == 6);
  const Ints before = one;
  pool.give_back(one);
  EXPECT(pool.free() == 3 && one.empty());
  pool.take(3, one);
  EXPECT(one == before);  // last in, first out
}

}  // namespace

int main() {
  the_index_finds_what_a_multimap_finds_whatever_leaves();
  hashes_grow_with_the_tokens_and_know_every_one_of_them();
  the_oldest_goes_first_and_what_is_protected_last();
  what_was_written_is_found_and_nothing_more();
  a_block_has_as_many_holders_as_tables();
  a_follower_sees_that_somebody_is_at_it_and_reads_nothing_before_it_is_written();
  of_two_that_wrote_the_same_the_first_is_found_and_the_second_stays_private();
  what_stands_after_a_twin_is_found_through_the_first();
  a_block_that_is_handed_out_anew_has_lost_its_content();
  an_orphan_is_never_found_though_its_parent_comes_again();
  what_is_shared_outlives_a_flood_that_nobody_repeats();
  a_pool_without_prefixes_gives_every_block_once_and_takes_all_back();
}
