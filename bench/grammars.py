"""llguidance and xgrammar side by side: to compile, to make a mask, and to refuse a bomb.

    python -m pip install xgrammar==0.2.8      it is no dependency of this project
    python bench/grammars.py [--tokens 60] [--repeats 5] > bench/results/grammars.md

Every case runs in a process of its own (a crash is a result), killed after 20 s or at 8 GiB. `compile`: until the
first mask is there, median. `mask`: one token's, over a walk of random tokens that the grammar allows. `stall`: the
longest that another Python thread stood still, which wants to run every millisecond; above some 5 ms it tells that the
library kept the interpreter. `memory`: what the process grew by.

Vocabularies: the demo model's 2,048 tokens, and a made byte-level one of 131,072 (pieces of words with and without a
space, numbers, punctuation).
"""

import argparse
import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from grammar_cases import BOMBS, WORK, Case

ROOT = Path(__file__).parent.parent
LIBRARIES = ("llguidance", "xgrammar")
VOCABULARIES = ("2k", "128k")
LIMIT_S = 20
MEMORY_BYTES = 8 << 30


class Library(Protocol):
    """One of the two."""

    def matcher(self, case: Case) -> Any: ...
    def mask(self, matcher: Any, row: np.ndarray) -> None: ...
    def accept(self, matcher: Any, token: int) -> bool: ...
    def stopped(self, matcher: Any) -> bool: ...


def vocabulary(name: str) -> tuple[list[bytes], list[int], int]:
    """The bytes of every token, which of them are special, and the end-of-sequence token."""
    sys.path.insert(0, str(ROOT))
    from aruntime.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_folder(ROOT / "examples/repository/demo/1")
    special = sorted(tokenizer.special_ids)
    small = [b"" if i in tokenizer.special_ids else _bytes_of(tokenizer, i) for i in range(tokenizer.vocab_size)]
    assert tokenizer.eos_id is not None
    return (small if name == "2k" else _made(small)), special, tokenizer.eos_id


def _bytes_of(tokenizer: Any, token: int) -> bytes:
    text = tokenizer._first.id_to_token(token)
    return bytes(_BYTES[letter] for letter in text)


def _byte_letters() -> dict[str, int]:
    """How byte-level BPE spells bytes: printable ones as they are, the rest from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_letters()
_PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def _made(small: list[bytes], size: int = 131_072) -> list[bytes]:
    chance = random.Random(1)
    tokens = dict.fromkeys(small)
    tokens.update(dict.fromkeys(f"{i:0{width}}".encode() for width in (1, 2, 3) for i in range(10**width)))
    for mark in ('"', '",', '":', '{"', '"}', "}]", "]}", '": "', '", "', '":"', '","', "\n  ", "\n    ", "é", "日本"):
        tokens[mark.encode()] = None
    letters = "eeeetttaaooiinnsshhrrddllcumwfgypbvk"
    while len(tokens) < size:
        word = "".join(chance.choice(letters) for _ in range(chance.randint(2, 9)))
        word = word.capitalize() if chance.random() < 0.15 else word
        tokens[(" " * (chance.random() < 0.6) + word).encode()] = None
    # Special tokens share no bytes; the dictionary kept one empty string for them all.
    return [*small[:3], *[token for token in tokens if token]][:size]


class Llguidance:
    def __init__(self, tokens: list[bytes], special: list[int], eos: int) -> None:
        import llguidance

        letters = {byte: letter for letter, byte in _BYTES.items()}
        spelled = {i: "".join(letters[byte] for byte in token) or f"<|{i}|>" for i, token in enumerate(tokens)}
        definition = {
            "version": "1.0",
            "added_tokens": [{"id": i, "content": spelled[i], "special": True} | _PLAIN for i in special],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "vocab": {text: i for i, text in spelled.items()},
                "merges": [],
                "ignore_merges": True,
            },
        }
        self._library = llguidance
        self._tokenizer = llguidance.LLTokenizer(json.dumps(definition), eos_token=eos)

    def matcher(self, case: Case) -> Any:
        kind, text = case
        make = self._library.LLMatcher
        if kind == "json":
            grammar = make.grammar_from_json_schema(text)
        else:
            grammar = make.grammar_from_regex(text) if kind == "regex" else make.grammar_from_lark(text)
        matcher = make(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ValueError(matcher.get_error())
        return matcher

    def mask(self, matcher: Any, row: np.ndarray) -> None:
        matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        if matcher.is_error():
            raise ValueError(matcher.get_error())

    def accept(self, matcher: Any, token: int) -> bool:
        return bool(matcher.consume_token(token))

    def stopped(self, matcher: Any) -> bool:
        return bool(matcher.is_stopped())


class Xgrammar:
    def __init__(self, tokens: list[bytes], special: list[int], eos: int) -> None:
        import torch
        import xgrammar

        self._torch, self._library = torch, xgrammar
        info = xgrammar.TokenizerInfo(
            [token or b"<special>" for token in tokens],
            xgrammar.VocabType.RAW,
            vocab_size=len(tokens),
            stop_token_ids=[eos],
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)

    def matcher(self, case: Case) -> Any:
        kind, text = case
        compile_ = {
            "json": self._compiler.compile_json_schema,
            "regex": self._compiler.compile_regex,
            "lark": self._compiler.compile_lark,
        }[kind]
        return self._library.GrammarMatcher(compile_(text))

    def mask(self, matcher: Any, row: np.ndarray) -> None:
        matcher.fill_next_token_bitmask(self._torch.from_numpy(row[None]), 0)

    def accept(self, matcher: Any, token: int) -> bool:
        return bool(matcher.accept_token(token))

    def stopped(self, matcher: Any) -> bool:
        return bool(matcher.is_terminated())


class Ticking(threading.Thread):
    """A thread that wants to run every millisecond, and remembers its longest wait."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self.over = False

    def run(self) -> None:
        last = time.perf_counter()
        while not self.over:
            time.sleep(0.001)
            now = time.perf_counter()
            self.longest_s, last = max(self.longest_s, now - last), now


def measure(library: str, vocabulary_name: str, case: Case, repeats: int, tokens: int) -> dict[str, Any]:
    """What one case costs: in this process, which it may take with it."""
    words, special, eos = vocabulary(vocabulary_name)
    made: Library = {"llguidance": Llguidance, "xgrammar": Xgrammar}[library](words, special, eos)
    row = np.zeros((len(words) + 31) // 32, np.int32)
    made.mask(made.matcher(("regex", "[a-z]+")), row)  # what happens once
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compiled: list[float] = []
    ticking = Ticking()
    ticking.start()
    outcome = "made"
    try:
        for _ in range(repeats):
            started = time.perf_counter()
            matcher = made.matcher(case)
            made.mask(matcher, row)
            compiled.append(time.perf_counter() - started)
    except Exception as error:
        compiled.append(time.perf_counter() - started)
        outcome = f"refused: {' '.join(str(error).split())[:80]}"
    ticking.over = True
    ticking.join()
    masks, broke = walk(made, matcher, row, tokens, len(words), eos) if outcome == "made" else ([], "")
    return {
        "outcome": broke or outcome,
        "compile_s": statistics.median(compiled),
        "stall_s": ticking.longest_s,
        "masks_s": masks,
        "bytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024,
    }


def walk(made: Library, matcher: Any, row: np.ndarray, tokens: int, vocab: int, eos: int) -> tuple[list[float], str]:
    """Seconds of each mask on a random way through the grammar; and how it broke, if it did."""
    chance = np.random.default_rng(7)
    masks = []
    for _ in range(tokens):
        if made.stopped(matcher):
            break
        started = time.perf_counter()
        try:
            made.mask(matcher, row)
        except Exception as error:
            return masks, f"a mask failed: {' '.join(str(error).split())[:60]}"
        masks.append(time.perf_counter() - started)
        allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")[:vocab])
        allowed = allowed[allowed != eos]
        if not len(allowed) or not made.accept(matcher, int(chance.choice(allowed))):
            break
    return masks, ""


def run(library: str, vocabulary_name: str, name: str, repeats: int, tokens: int) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", library, vocabulary_name, name]
    command += ["--repeats", str(repeats), "--tokens", str(tokens)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S + 10, check=False)
    except subprocess.TimeoutExpired:
        return {"outcome": f"**killed after {LIMIT_S} s**"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1][:60]
        return {"outcome": f"**died**, exit {done.returncode} {last}"}
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.2f}"


def percentile(values: list[float], part: float) -> float | None:
    return float(np.percentile(values, part)) if values else None


def report(title: str, cases: dict[str, Case], vocabulary_name: str, repeats: int, tokens: int) -> None:
    print(f"\n## {title}, vocabulary {vocabulary_name}\n")
    print("| case | library | compile, ms | mask p50, ms | p99, ms | stall, ms | memory, MiB | outcome |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in cases:
        for library in LIBRARIES:
            got = run(library, vocabulary_name, name, repeats, tokens)
            masks = got.get("masks_s", [])
            memory = f"{got['bytes'] / 2**20:.1f}" if "bytes" in got else ""
            cells = [name.replace("|", "\\|"), library, ms(got.get("compile_s")), ms(percentile(masks, 50))]
            cells += [ms(percentile(masks, 99)), ms(got.get("stall_s")), memory, got["outcome"].replace("|", "\\|")]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3, metavar=("LIBRARY", "VOCABULARY", "CASE"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=60)
    options = parser.parse_args()
    if options.one:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S + 5, LIMIT_S + 5))
        library, vocabulary_name, name = options.one
        print(json.dumps(measure(library, vocabulary_name, (WORK | BOMBS)[name], options.repeats, options.tokens)))
        return
    for vocabulary_name in VOCABULARIES:
        report("Work", WORK, vocabulary_name, options.repeats, options.tokens)
    report("Bombs", BOMBS, "128k", 1, options.tokens)


if __name__ == "__main__":
    main()
