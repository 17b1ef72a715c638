"""What the prefix cache costs: a prompt that hits whole, the insert of one, and blocks taken and given back.

    python -m pytest bench/bench_cache.py --benchmark-enable

The C++ of csrc/cache is called through ctypes, which adds about 0.5 us a call. Goals on a quiet core: 32,768 tokens hit
<= 60 us and insert <= 150 us; 2,048 tokens hit <= 10 us.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
COMPILER = os.environ.get("CXX") or shutil.which("g++") or "c++"
BLOCK_TOKENS, BLOCKS = 16, 200_000


def build(folder: Path) -> ctypes.CDLL:
    """The pool of bench/cpp/cache.cpp, compiled with the flags of the extensions."""
    library = folder / "cache.so"
    flags = ["-std=c++20", "-O3", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{HERE.parent / 'csrc'}"]
    subprocess.run([COMPILER, *flags, str(HERE / "cpp" / "cache.cpp"), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


class Cache:
    """A pool, and the one table that comes and goes in it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.cache_new.restype = ctypes.c_void_p
        self.pool = ctypes.c_void_p(library.cache_new())

    def close(self) -> None:
        self.library.cache_delete(self.pool)

    def hit(self, prompt: Any) -> int:
        return int(self.library.cache_hit(self.pool, ctypes.c_void_p(prompt.ctypes.data), len(prompt)))

    def take(self, blocks: int) -> None:
        self.library.cache_take(self.pool, blocks)

    def insert(self, prompt: Any) -> None:
        self.library.cache_insert(self.pool, ctypes.c_void_p(prompt.ctypes.data))

    def give_back(self) -> None:
        self.library.cache_give_back(self.pool)

    def admit(self, prompt: Any) -> None:
        """Hold the blocks of a prompt that is not there, with its hashes known."""
        assert self.hit(prompt) == 0
        self.take(len(prompt) // BLOCK_TOKENS)

    def keep(self, prompt: Any) -> None:
        """Put the blocks of a prompt into the cache, held by nobody."""
        self.admit(prompt)
        self.insert(prompt)
        self.give_back()

    def warm(self, prompts: int, tokens: int) -> list[Any]:
        """That many prompts, kept."""
        random = np.random.default_rng(1)
        made = [random.integers(0, 128_256, tokens, dtype=np.int32) for _ in range(prompts)]
        for prompt in made:
            self.keep(prompt)
        return made


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def cache(library: ctypes.CDLL) -> Iterator[Cache]:
    made = Cache(library)
    yield made
    made.close()


@pytest.mark.parametrize("tokens", [2048, 32_768])
@pytest.mark.benchmark(group="prefix cache")
def test_hash_lookup_and_share_of_a_prompt_that_hits_whole(benchmark: Any, cache: Cache, tokens: int) -> None:
    prompt = cache.warm(1, tokens)[0]
    found = benchmark.pedantic(cache.hit, args=(prompt,), teardown=lambda _: cache.give_back(), rounds=1000)
    assert found == tokens // BLOCK_TOKENS


@pytest.mark.benchmark(group="prefix cache")
def test_hit_of_32768_tokens_in_a_full_cache_that_was_elsewhere_meanwhile(benchmark: Any, cache: Cache) -> None:
    prompts = cache.warm(96, 32_768)
    turn = iter(range(1 << 20))

    def other() -> tuple[tuple[Any], dict[str, Any]]:
        return (prompts[next(turn) * 37 % 96],), {}

    found = benchmark.pedantic(cache.hit, setup=other, teardown=lambda _: cache.give_back(), rounds=1000)
    assert found == 2048


@pytest.mark.parametrize("tokens", [2048, 32_768])
@pytest.mark.benchmark(group="prefix cache")
def test_insert(benchmark: Any, cache: Cache, tokens: int) -> None:
    random = np.random.default_rng(2)

    def admitted() -> tuple[tuple[Any], dict[str, Any]]:
        prompt = random.integers(0, 128_256, tokens, dtype=np.int32)
        cache.admit(prompt)
        return (prompt,), {}

    # The pool is full after a hundred long prompts: from then on the blocks come from evicted ones.
    benchmark.pedantic(cache.insert, setup=admitted, teardown=lambda _: cache.give_back(), rounds=300)


@pytest.mark.parametrize("holding", ["empty", "cached"])
@pytest.mark.benchmark(group="blocks")
def test_take_2048_blocks(benchmark: Any, cache: Cache, holding: str) -> None:
    if holding == "cached":
        cache.warm(BLOCKS // 2048 + 1, 32_768)
        benchmark.pedantic(cache.take, args=(2048,), rounds=40)
    else:
        benchmark.pedantic(cache.take, args=(2048,), teardown=lambda *_: cache.give_back(), rounds=1000)


@pytest.mark.benchmark(group="blocks")
def test_give_back_2048_blocks(benchmark: Any, cache: Cache) -> None:
    benchmark.pedantic(cache.give_back, setup=lambda: cache.take(2048), rounds=1000)
