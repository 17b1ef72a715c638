// The blocks of one cache: who holds them, and which content can be found again.
//
//     place             entry      goes on by
//     empty             none       take: held, private
//     held, private     none       announce: held, pending      give_back: empty
//     held, pending     pending    publish: held, published     give_back: empty
//     held, published   published  share: one holder more       give_back: cached, with the last holder
//     cached            published  share: held, published       take, when none is empty: held, private
//
// A block is found by its prefix: its own tokens and all before them, under a root (who may share with whom; which
// adapter). The hash of the prefix leads to candidates; one is meant if its tokens are equal and so is what stands
// before it: the root, or the id of the entry before. An id is never given twice, so by induction the whole prefix is
// equal, and an entry whose predecessor has left can never be found again: it is harmless, and ages out.
// A block that is handed out anew has lost its entry before, and only published blocks are found: nothing is read
// before it is written. Of two blocks with equal content the first keeps the entry, the other stays private to its
// table. The caller gives vectors that have room; then no call allocates.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cache/block_hash.hpp"
#include "cache/prefix_index.hpp"
#include "cache/segmented_lru.hpp"

namespace aruntime {

// What stands before a block: the entry of another block or, before the first, a root.
struct Prefix {
  std::uint64_t id = 0;
  std::int32_t block = kNoBlock;

  bool operator==(const Prefix&) const = default;
};

// The longest run of blocks, from the first, whose content is in the cache.
struct Match {
  std::vector<std::int32_t> blocks;
  Prefix prefix;             // of the block after the run
  Prefix awaited;            // the block after the run, if somebody is computing it

  bool pending() const noexcept { return awaited.id != 0; }
};

template <typename Hash = BlockHash>
class BasicBlockPool {
 public:
  BasicBlockPool(std::int32_t blocks, std::int32_t block_tokens, std::uint64_t secret)
      : hash_(block_tokens, secret),
        index_(blocks),
        cached_(blocks),
        block_tokens_(static_cast<std::size_t>(block_tokens)),
        blocks_(static_cast<std::size_t>(blocks)),
        tokens_(blocks_.size() * block_tokens_) {
    empty_.reserve(blocks_.size());
    for (std::int32_t block = blocks; block-- > 0;) empty_.push_back(block);
  }

  std::int32_t blocks() const noexcept { return static_cast<std::int32_t>(blocks_.size()); }
  std::int32_t free() const noexcept { return static_cast<std::int32_t>(empty_.size()) + cached_.size(); }
  // Of the free ones, those that keep their content until they are taken.
  std::int32_t cached() const noexcept { return cached_.size(); }
  std::int32_t holders(std::int32_t block) const noexcept { return of(block).holders; }

  // Adds the hashes of the full blocks among `count` tokens that `hashes` does not have yet.
  void extend(std::uint64_t root, const std::int32_t* tokens, std::int32_t count,
              std::vector<std::uint64_t>& hashes) const {
    std::uint64_t hash = hashes.empty() ? hash_.start(root) : hashes.back();
    const std::size_t blocks = static_cast<std::size_t>(count) / block_tokens_;
    for (std::size_t i = hashes.size(); i < blocks; ++i) {
      hash = hash_.next(hash, tokens + i * block_tokens_);
      hashes.push_back(hash);
    }
  }

  // Finds what is there of the blocks of `tokens` that have `hashes`, at most `blocks_max`. Changes nothing; `match`
  // holds until the next `take`.
  void match(std::uint64_t root, const std::int32_t* tokens, const std::vector<std::uint64_t>& hashes,
             std::int32_t blocks_max, Match& match) const {
    match.blocks.clear();
    match.prefix = {root, kNoBlock};
    match.awaited = {};
    const std::size_t blocks = std::min(hashes.size(), static_cast<std::size_t>(blocks_max));
    for (std::size_t i = 0; i < blocks; ++i) {
      prefetch(hashes, i);
      const std::int32_t block = find(low(hashes[i]), match.prefix, tokens + i * block_tokens_);
      if (block == kNoBlock) return;
      const Block& found = of(block);
      if (found.entry == Entry::kPending) {
        match.awaited = {found.id, block};
        return;
      }
      match.blocks.push_back(block);
      match.prefix = {found.id, block};
    }
  }

  // Of `blocks` those that nobody holds: they count as free until they are shared.
  std::int32_t unheld(const std::vector<std::int32_t>& blocks) const noexcept {
    std::int32_t count = 0;
    for (const std::int32_t block : blocks) count += of(block).holders == 0;
    return count;
  }

  // Whether the block that a match awaited is still being computed.
  bool is_pending(const Prefix& awaited) const noexcept {
    const Block& block = of(awaited.block);
    return block.id == awaited.id && block.entry == Entry::kPending;
  }

  // Appends `blocks`, just matched, to `table`, which holds them from now on beside others.
  void share(const std::vector<std::int32_t>& blocks, std::vector<std::int32_t>& table) {
    for (const std::int32_t block : blocks) {
      if (of(block).holders++ == 0) cached_.remove(block);
      of(block).reused = true;
    }
    table.insert(table.end(), blocks.begin(), blocks.end());
  }

  // Appends `count` blocks without content to `table`. The caller has made sure that so many are free.
  void take(std::int32_t count, std::vector<std::int32_t>& table) {
    for (; count > 0; --count) {
      if (empty_.empty()) evict(cached_.oldest());
      of(empty_.back()).holders = 1;
      table.push_back(empty_.back());
      empty_.pop_back();
    }
  }

  // Says that the holder of `table` is about to write its blocks from `first` up to `last`, which stand after `prefix`;
  // moves `prefix` behind them. Those that it never writes are forgotten when they are given back.
  void announce(const std::vector<std::int32_t>& table, std::int32_t first, std::int32_t last,
                const std::int32_t* tokens, const std::vector<std::uint64_t>& hashes, Prefix& prefix) noexcept {
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
      if (prefix.block != kNoBlock && of(prefix.block).id != prefix.id) return;  // nobody would find what stands there
      prefetch(hashes, i);
      const std::uint32_t hash = low(hashes[i]);
      std::int32_t block = find(hash, prefix, tokens + i * block_tokens_);
      if (block != kNoBlock) {
        touch(block);
      } else {
        block = table[i];
        enter(block, hash, prefix, tokens + i * block_tokens_);
      }
      prefix = {of(block).id, block};
    }
  }

  // Says that the blocks of `table` from `first` up to `last` are written: those that were announced can be found.
  void publish(const std::vector<std::int32_t>& table, std::int32_t first, std::int32_t last) noexcept {
    for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
      Block& block = of(table[i]);
      if (block.entry == Entry::kPending) block.entry = Entry::kPublished;
    }
  }

  // Gives back all blocks of `table`, which is empty afterwards. The last goes first, so that it is evicted before
  // those that lead to it.
  void give_back(std::vector<std::int32_t>& table) noexcept {
    for (auto at = table.rbegin(); at != table.rend(); ++at) {
      Block& block = of(*at);
      if (--block.holders > 0) continue;
      if (block.entry == Entry::kPublished) {
        cached_.add(*at, block.reused);
      } else {
        if (block.entry == Entry::kPending) leave(*at);
        empty_.push_back(*at);  // within the reserve: never more than `blocks`
      }
    }
    table.clear();
  }

  // Throws std::logic_error, which names the first block that is not in exactly one place, or not where it says.
  void check_integrity() const;

 private:
  enum class Entry : std::uint8_t { kNone, kPending, kPublished };

  struct Block {
    std::uint64_t id = 0;  // of its entry; 0: it has none
    Prefix prefix;         // what stands before it
    std::uint32_t hash = 0;
    std::int32_t holders = 0;
    Entry entry = Entry::kNone;
    bool reused = false;  // found again since it was written
  };

  const Block& of(std::int32_t block) const noexcept { return blocks_[static_cast<std::size_t>(block)]; }
  Block& of(std::int32_t block) noexcept { return blocks_[static_cast<std::size_t>(block)]; }
  const std::int32_t* tokens_of(std::int32_t block) const noexcept {
    return tokens_.data() + static_cast<std::size_t>(block) * block_tokens_;
  }
  static std::uint32_t low(std::uint64_t hash) noexcept { return static_cast<std::uint32_t>(hash); }

  std::int32_t find(std::uint32_t hash, const Prefix& prefix, const std::int32_t* tokens) const noexcept {
    return index_.find(hash, [&](std::int32_t block) {
      return of(block).prefix == prefix && std::equal(tokens, tokens + block_tokens_, tokens_of(block));
    });
  }

  // All hashes are known at the start, so what a later block needs is fetched while this one is looked at.
  void prefetch(const std::vector<std::uint64_t>& hashes, std::size_t i) const noexcept {
    if (i + 16 < hashes.size()) index_.prefetch(low(hashes[i + 16]));
    const std::int32_t block = i + 8 < hashes.size() ? index_.guess(low(hashes[i + 8])) : kNoBlock;
    if (block == kNoBlock) return;
    __builtin_prefetch(&of(block));
    __builtin_prefetch(tokens_of(block));
  }

  void enter(std::int32_t block, std::uint32_t hash, const Prefix& prefix, const std::int32_t* tokens) noexcept {
    Block& entered = of(block);
    entered = {++entries_, prefix, hash, entered.holders, Entry::kPending, false};
    std::copy_n(tokens, block_tokens_, tokens_.begin() + (tokens_of(block) - tokens_.data()));
    index_.add(hash, block);
  }

  void leave(std::int32_t block) noexcept {
    index_.remove(of(block).hash, block);
    of(block).id = 0;
    of(block).entry = Entry::kNone;
  }

  // Somebody computes its content again, who could not wait for it or needs its last token: it is worth keeping.
  void touch(std::int32_t block) noexcept {
    of(block).reused = true;
    if (of(block).holders > 0) return;
    cached_.remove(block);
    cached_.add(block, true);
  }

  void evict(std::int32_t block) noexcept {
    cached_.remove(block);
    leave(block);
    empty_.push_back(block);
  }

  Hash hash_;
  PrefixIndex index_;
  SegmentedLru cached_;
  std::size_t block_tokens_;
  std::vector<Block> blocks_;
  std::vector<std::int32_t> tokens_;  // [blocks, block_tokens] of those that have an entry
  std::vector<std::int32_t> empty_;   // last in, first out: what was just read is written again while it is still near
  std::uint64_t entries_ = 0;
};

using BlockPool = BasicBlockPool<>;

template <typename Hash>
void BasicBlockPool<Hash>::check_integrity() const {
  const auto ensure = [](bool holds, const char* what, std::int64_t where) {
    if (!holds) throw std::logic_error(std::string(what) + " (" + std::to_string(where) + ")");
  };
  std::vector<char> is_empty(blocks_.size(), 0), is_cached(blocks_.size(), 0);
  for (const std::int32_t block : empty_) {
    ensure(!is_empty[static_cast<std::size_t>(block)]++, "a block is empty twice", block);
  }
  std::int32_t cached = 0, protected_size = 0;
  cached_.each([&](std::int32_t block, bool is_protected) {
    ensure(!is_cached[static_cast<std::size_t>(block)]++, "a block is cached twice", block);
    ++cached;
    protected_size += is_protected;
  });
  ensure(cached == cached_.size() && protected_size == cached_.protected_size(), "cached blocks miscounted", cached);
  std::size_t entries = 0;
  for (std::int32_t i = 0; i < blocks(); ++i) {
    const Block& block = of(i);
    const bool empty = is_empty[static_cast<std::size_t>(i)], kept = is_cached[static_cast<std::size_t>(i)];
    ensure(empty + kept + (block.holders > 0) == 1, "a block is not in exactly one place", i);
    ensure(!empty || block.entry == Entry::kNone, "an empty block has an entry", i);
    ensure(!kept || block.entry == Entry::kPublished, "a cached block was not published", i);
    ensure((block.id != 0) == (block.entry != Entry::kNone), "an id without an entry", i);
    if (block.entry == Entry::kNone) continue;
    ++entries;
    ensure(find(block.hash, block.prefix, tokens_of(i)) == i, "an entry is not found, or there are two", i);
  }
  ensure(entries == index_.size(), "entries miscounted", static_cast<std::int64_t>(entries));
}

}  // namespace aruntime
