// The pool as plainly as it can be said: whole prefixes in a map, ages in lists. What the real one is held against.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <map>
#include <tuple>
#include <vector>

using Tokens = std::vector<std::int32_t>;

// A prefix from its root to its last token.
struct Content {
  std::uint64_t root = 0;
  Tokens tokens;
  auto operator<=>(const Content&) const = default;
};

struct Plain {
  struct Block {
    int holders = 0;
    std::uint64_t serial = 0;  // of its entry; 0: it has none
    bool published = false, reused = false;
    std::pair<Content, std::uint64_t> key;
  };

  struct Found {
    std::vector<std::int32_t> blocks;
    std::uint64_t serial = 0;  // of the last
    int unheld = 0;
    bool pending = false;
  };

  Plain(std::int32_t count, std::int32_t tokens_of_a_block) : blocks(count), block_tokens(tokens_of_a_block) {
    while (count-- > 0) empty.push_back(count);
  }

  Content content(const Content& whole, std::size_t block) const {
    return {whole.root, Tokens(whole.tokens.begin(), whole.tokens.begin() + (block + 1) * block_tokens)};
  }

  Found match(const Content& whole, std::size_t blocks_max) const {
    Found found;
    for (std::size_t i = 0; i < std::min(blocks_max, whole.tokens.size() / block_tokens); ++i) {
      const auto at = entries.find({content(whole, i), found.serial});
      if (at == entries.end()) break;
      const Block& block = blocks[at->second];
      found.pending = !block.published;
      if (found.pending) break;
      found.blocks.push_back(at->second);
      found.unheld += block.holders == 0;
      found.serial = block.serial;
    }
    return found;
  }

  void share(const std::vector<std::int32_t>& run, std::vector<std::int32_t>& table) {
    for (const std::int32_t block : run) {
      if (blocks[block].holders++ == 0) uncache(block);
      blocks[block].reused = true;
      table.push_back(block);
    }
  }

  void take(int count, std::vector<std::int32_t>& table) {
    for (; count > 0; --count) {
      if (empty.empty()) {
        const bool too_many = 5 * kept.size() > 4 * (kept.size() + probation.size());
        const std::int32_t block = (too_many ? kept : probation).front();
        uncache(block);
        forget(block);
        empty.push_back(block);
        ++evictions;
      }
      blocks[empty.back()].holders = 1;
      table.push_back(empty.back());
      empty.pop_back();
    }
  }

  // Block `i` of `whole`, to be written to `own`. `serial` and `before` are the entry before it, and then its own.
  void announce(std::int32_t own, std::size_t i, const Content& whole, std::uint64_t& serial, std::int32_t& before) {
    if (i > 0 && blocks[before].serial != serial) {
      ++dead;
      return;
    }
    const auto key = std::make_pair(content(whole, i), serial);
    const auto [at, is_new] = entries.try_emplace(key, own);
    before = at->second;
    Block& block = blocks[before];
    if (is_new) {
      block = {block.holders, ++serials, false, false, key};
    } else {
      ++twins;
      block.reused = true;
      if (block.holders == 0) uncache(before), cache(before);
    }
    serial = block.serial;
  }

  void publish(std::int32_t block) { blocks[block].published = blocks[block].serial != 0; }

  void give_back(std::vector<std::int32_t>& table) {
    for (; !table.empty(); table.pop_back()) {
      const std::int32_t block = table.back();
      if (--blocks[block].holders > 0) continue;
      if (blocks[block].published) {
        cache(block);
      } else {
        withdrawn += blocks[block].serial != 0;
        forget(block);
        empty.push_back(block);
      }
    }
  }

  void forget(std::int32_t block) {
    if (blocks[block].serial != 0) entries.erase(blocks[block].key);
    blocks[block].serial = 0;
    blocks[block].published = false;
  }

  void cache(std::int32_t block) { (blocks[block].reused ? kept : probation).push_back(block); }

  void uncache(std::int32_t block) {
    probation.remove(block);
    kept.remove(block);
  }

  std::vector<Block> blocks;
  std::size_t block_tokens;
  std::map<std::pair<Content, std::uint64_t>, std::int32_t> entries;  // by content and the serial before it
  std::vector<std::int32_t> empty;
  std::list<std::int32_t> probation, kept;
  std::uint64_t serials = 0;
  long evictions = 0, twins = 0, dead = 0, withdrawn = 0;
};
