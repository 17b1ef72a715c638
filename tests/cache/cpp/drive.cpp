// A seeded drive of the pool beside the plainest one: sequences that share, grow, end and give up, in a cache that is
// too small for them. `drive SEED STEPS HASH`; with HASH `same` or `two` nearly all hashes are equal.
//
// What a block holds is written down as a whole prefix when it is written, so a block that is found must hold exactly
// what was asked for, whoever had it before.
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>

#include "cache/block_pool.hpp"
#include "expect.hpp"
#include "plain.hpp"

using namespace aruntime;

namespace {

constexpr std::int32_t kBlocks = 48;

struct Same {
  Same(std::int32_t, std::uint64_t) {}
  std::uint64_t start(std::uint64_t) const { return 7; }
  std::uint64_t next(std::uint64_t, const std::int32_t*) const { return 7; }
};

struct Two : Same {
  using Same::Same;
  std::uint64_t next(std::uint64_t, const std::int32_t* tokens) const { return 0xFFFFFFFFu - (tokens[0] & 1); }
};

template <typename Hash>
struct Drive {
  Drive(std::uint32_t seed, std::int32_t tokens_of_a_block)
      : random(seed), block_tokens(tokens_of_a_block), pool(kBlocks, tokens_of_a_block, seed),
        plain(kBlocks, tokens_of_a_block), holds(kBlocks) {}

  struct Sequence {
    Content whole;
    std::vector<std::uint64_t> hashes;
    std::vector<std::int32_t> table, plain_table;
    Prefix prefix;
    std::uint64_t serial = 0;
    std::int32_t before = kNoBlock;
    std::size_t announced = 0, written = 0;
  };

  std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(random() % bound); }
  std::size_t full(const Sequence& sequence) const { return sequence.whole.tokens.size() / block_tokens; }

  // Few tokens and few roots, so that prompts agree for a while, and equal blocks stand at different places.
  Content prompt() {
    Content made{below(3), Tokens(1 + below(14 * static_cast<std::uint32_t>(block_tokens)))};
    const bool plain_one = below(2);
    for (auto& token : made.tokens) token = plain_one || below(30) ? 5 : static_cast<std::int32_t>(below(3));
    return made;
  }

  void extend(Sequence& sequence) {
    const auto count = static_cast<std::int32_t>(sequence.whole.tokens.size());
    pool.extend(sequence.whole.root, sequence.whole.tokens.data(), count, sequence.hashes);
    EXPECT(sequence.hashes.size() == full(sequence));
  }

  void look(const Sequence& sequence, std::size_t blocks_max) {
    const Content& whole = sequence.whole;
    pool.match(whole.root, whole.tokens.data(), sequence.hashes, static_cast<std::int32_t>(blocks_max), match);
    found = plain.match(whole, blocks_max);
    EXPECT(match.blocks == found.blocks && pool.unheld(match.blocks) == found.unheld && match.pending() == found.pending);
    EXPECT(!match.pending() || pool.is_pending(match.awaited));
    for (std::size_t i = 0; i < match.blocks.size(); ++i) EXPECT(holds[match.blocks[i]] == plain.content(whole, i));
    hits += match.blocks.size();
    pendings += match.pending();
  }

  void start() {
    Sequence sequence;
    sequence.whole = prompt();
    extend(sequence);
    look(sequence, below(4) ? full(sequence) : full(sequence) - (full(sequence) > 0));
    const auto blocks = static_cast<std::int32_t>((sequence.whole.tokens.size() + block_tokens - 1) / block_tokens);
    const auto run = static_cast<std::int32_t>(match.blocks.size());
    if (pool.free() < pool.unheld(match.blocks) + blocks - run) return;
    sequence.prefix = match.prefix;
    sequence.serial = found.serial;
    sequence.before = match.prefix.block;
    sequence.announced = sequence.written = match.blocks.size();
    pool.share(match.blocks, sequence.table);
    plain.share(found.blocks, sequence.plain_table);
    take(sequence, blocks - run);
    if (below(3)) announce(sequence, full(sequence));
    sequences.push_back(std::move(sequence));
  }

  void take(Sequence& sequence, std::int32_t count) {
    const std::size_t old = sequence.table.size();
    pool.take(count, sequence.table);
    plain.take(count, sequence.plain_table);
    EXPECT(sequence.table == sequence.plain_table);
    for (std::size_t i = old; i < sequence.table.size(); ++i) holds[sequence.table[i]].reset();
  }

  void announce(Sequence& sequence, std::size_t last) {
    pool.announce(sequence.table, static_cast<std::int32_t>(sequence.announced), static_cast<std::int32_t>(last),
                  sequence.whole.tokens.data(), sequence.hashes, sequence.prefix);
    for (std::size_t i = sequence.announced; i < last; ++i) {
      plain.announce(sequence.table[i], i, sequence.whole, sequence.serial, sequence.before);
    }
    sequence.announced = last;
  }

  void write(Sequence& sequence) {
    if (sequence.written == sequence.announced) announce(sequence, full(sequence));
    const std::size_t last = std::min(sequence.announced, sequence.written + 1 + below(4));
    pool.publish(sequence.table, static_cast<std::int32_t>(sequence.written), static_cast<std::int32_t>(last));
    for (std::size_t i = sequence.written; i < last; ++i) {
      plain.publish(sequence.table[i]);
      holds[sequence.table[i]] = plain.content(sequence.whole, i);
    }
    sequence.written = last;
  }

  void grow(Sequence& sequence) {
    if (sequence.whole.tokens.size() == sequence.table.size() * block_tokens) {
      if (pool.free() == 0) return;
      take(sequence, 1);
    }
    sequence.whole.tokens.push_back(below(12) ? 5 : 1);
    extend(sequence);
  }

  void end(std::size_t which) {
    pool.give_back(sequences[which].table);
    plain.give_back(sequences[which].plain_table);
    sequences.erase(sequences.begin() + static_cast<std::ptrdiff_t>(which));
  }

  void turn() {
    const std::uint32_t what = below(10);
    const std::size_t which = sequences.empty() ? 0 : below(static_cast<std::uint32_t>(sequences.size()));
    if (sequences.empty() || what == 0) {
      start();
    } else if (what == 1) {
      end(which);
    } else if (what == 2) {
      Sequence stranger;
      stranger.whole = prompt();
      extend(stranger);
      look(stranger, full(stranger));
    } else if (what < 6) {
      write(sequences[which]);
    } else {
      grow(sequences[which]);
    }
    pool.check_integrity();
    EXPECT(pool.free() == static_cast<std::int32_t>(plain.empty.size()) + pool.cached());
    EXPECT(pool.cached() == static_cast<std::int32_t>(plain.probation.size() + plain.kept.size()));
    for (std::int32_t block = 0; block < kBlocks; ++block) EXPECT(pool.holders(block) == plain.blocks[block].holders);
  }

  std::mt19937 random;
  std::size_t block_tokens;
  BasicBlockPool<Hash> pool;
  Plain plain;
  std::vector<std::optional<Content>> holds;  // [blocks] what was written; nothing since it was taken
  std::vector<Sequence> sequences;
  Match match;
  Plain::Found found;
  std::size_t hits = 0, pendings = 0;
};

template <typename Hash>
int drive(char** arguments) {
  const auto seed = static_cast<std::uint32_t>(std::atoi(arguments[1]));
  Drive<Hash> drive(seed, 1 + static_cast<std::int32_t>(seed % 5));
  for (int steps = std::atoi(arguments[2]); steps > 0; --steps) drive.turn();
  while (!drive.sequences.empty()) drive.end(0);
  drive.pool.check_integrity();
  EXPECT(drive.pool.free() == kBlocks);
  std::printf("hits %zu pendings %zu evictions %ld twins %ld dead %ld withdrawn %ld\n", drive.hits, drive.pendings,
              drive.plain.evictions, drive.plain.twins, drive.plain.dead, drive.plain.withdrawn);
  // The drive went where it should.
  EXPECT(drive.hits && drive.pendings && drive.plain.evictions && drive.plain.twins);
  EXPECT(drive.plain.dead && drive.plain.withdrawn);
  return 0;
}

}  // namespace

int main(int, char** arguments) {
  if (!std::strcmp(arguments[3], "same")) return drive<Same>(arguments);
  if (!std::strcmp(arguments[3], "two")) return drive<Two>(arguments);
  return drive<BlockHash>(arguments);
}
