"""What a constrained answer may say next: grammars, compiled by llguidance, and the tokens that they allow.

    check(grammar)                              in a front end: is it one? Over bytes, so no vocabulary is needed there
    Grammars(tokenizer).matcher(grammar)        in an engine: one sequence's place in it
      └─ mask(row) ─► a token is drawn ─► accept(token) ─► mask(row) … until `stopped`

A grammar is a text in llguidance's dialect of Lark, which embeds JSON schemas as `%json {...}` (wire/grammars.py
writes them). What it may cost is counted in the library's fuel, not in time: a grammar that is a bomb is refused when
it is compiled, or breaks its own sequence, at the same token on every machine. The library lets the interpreter go
while it compiles and while it makes a mask.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

import llguidance
import numpy as np
import numpy.typing as npt

from aruntime.model.config import CheckpointRefused

Mask = npt.NDArray[np.int32]

# What one grammar may cost. Measured in bench/results/grammars.md: real schemas take a tenth of it at most.
_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=500_000,  # about 10 ms
    max_grammar_size=100_000,  # symbols
    max_lexer_states=50_000,  # 1 to 2 KB each
    max_items_in_row=2_000,  # 500 optional properties
    step_lexer_fuel=50_000,  # about 4 ms a token
    step_max_items=20_000,  # about 1 ms a token
    verbose_errors=False,
)
_CHECKED_MAX = 64
_COMPILED_MAX = 64
_COMPILED_CHARACTERS_MAX = 1 << 20
_MESSAGE_CHARACTERS_MAX = 200


class GrammarRefused(Exception):
    """The grammar cannot be compiled, or nothing satisfies it. The message is fit for whoever wrote it."""


class GrammarBroken(Exception):
    """A matcher has used up its fuel, or was given a token that its grammar does not have. It is of no use any more."""


def check(grammar: str) -> None:
    """GrammarRefused unless `grammar` can be compiled and something satisfies it. Milliseconds; at worst some 300."""
    if fault := _fault(grammar):
        raise GrammarRefused(fault)


@lru_cache(_CHECKED_MAX)
def _fault(grammar: str) -> str:
    """What is wrong with a grammar; "" when nothing is."""
    try:
        Matcher(_compiled(_byte_tokenizer(), grammar), None).mask(np.zeros(-(-_Bytes.size // 32), np.int32))
    except GrammarRefused as error:
        return str(error)
    except GrammarBroken:
        return "nothing that it allows can be said, or it takes too long to tell"
    return ""


class Matcher:
    """One sequence's place in a grammar. Its methods are not to be called by two threads at once."""

    def __init__(self, matcher: llguidance.LLMatcher, allowed: Mask | None) -> None:
        self._matcher = matcher
        self._allowed = allowed

    @property
    def stopped(self) -> bool:
        """Whether the grammar ends here: nothing can follow."""
        return self._matcher.is_stopped()

    @property
    def accepting(self) -> bool:
        """Whether what was said so far satisfies the grammar."""
        return self._matcher.is_accepting()

    def mask(self, row: Mask) -> None:
        """Write which tokens may follow into `row` ([ceil(vocab / 32)] int32): token t is bit t % 32 of word t // 32.

        The end of the sequence is among them where the grammar may end; no other special token ever is. GrammarBroken.
        """
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        if self._matcher.is_error():
            raise GrammarBroken(_message(self._matcher.get_error()))
        if self._allowed is not None:
            row &= self._allowed
        if not row.any():
            raise GrammarBroken("nothing may follow")

    def accept(self, token: int) -> None:
        """Take in the token that was drawn. GrammarBroken when it is none that may follow."""
        if self._matcher.try_consume_tokens([token]) != 1:
            raise GrammarBroken(f"token {token} may not follow")


class Grammars:
    """The grammars of one vocabulary. Safe to share between threads, but for the sake of memory compile in one only.

    Those used last are kept: a copy shares what was learnt of the grammar, and costs microseconds.
    """

    def __init__(self, tokenizer: str, vocab: int, eos: Iterable[int]) -> None:
        """`tokenizer` is the text of tokenizer.json; `vocab` the model's, which may be larger; `eos` end a sequence.

        ValueError when the tokenizer's tokens are not bytes, or nothing ends a sequence.
        """
        ends = sorted(eos)
        if not ends:
            raise ValueError("no token ends a sequence")
        self._tokenizer = llguidance.LLTokenizer(tokenizer, n_vocab=vocab, eos_token=ends)
        self._kept: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()
        self._characters = 0
        # A grammar can name special tokens, and the complement of a regex holds them.
        allowed = np.array([not self._tokenizer.is_special_token(token) for token in range(vocab)])
        allowed[ends] = True
        self._allowed = packed(allowed)
        self.words = len(self._allowed)

    @classmethod
    def from_folder(cls, folder: Path, vocab: int, eos: Iterable[int]) -> "Grammars":
        """Read tokenizer.json. CheckpointRefused says what is wrong."""
        try:
            return cls((folder / "tokenizer.json").read_text(), vocab, eos)
        except FileNotFoundError:
            raise CheckpointRefused("tokenizer.json is missing") from None
        except ValueError as error:
            raise CheckpointRefused(f"the tokenizer cannot be constrained: {_message(str(error))}") from error

    def matcher(self, grammar: str) -> Matcher:
        """The beginning of `grammar`. GrammarRefused."""
        found = self._kept.pop(grammar, None)
        if found is None:
            found = _compiled(self._tokenizer, grammar)
            self._characters += len(grammar)
        self._kept[grammar] = found
        while len(self._kept) > _COMPILED_MAX or self._characters > _COMPILED_CHARACTERS_MAX:
            self.forget(next(iter(self._kept)))
        return Matcher(found.deep_copy(), self._allowed)

    def forget(self, grammar: str) -> None:
        """Compile it anew the next time: what was learnt of it has come to its bounds."""
        if self._kept.pop(grammar, None) is not None:
            self._characters -= len(grammar)


def packed(allowed: npt.NDArray[np.bool_]) -> Mask:
    """The mask ([ceil(vocab / 32)] int32) of one truth a token."""
    padded = np.zeros(-(-len(allowed) // 32) * 32, np.bool_)
    padded[: len(allowed)] = allowed
    return np.packbits(padded, bitorder="little").view(np.int32)


def _compiled(tokenizer: llguidance.LLTokenizer, grammar: str) -> llguidance.LLMatcher:
    matcher = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=_LIMITS)
    if matcher.is_error():
        raise GrammarRefused(_message(matcher.get_error()))
    return matcher


class _Bytes:
    """A vocabulary of the 256 bytes and an end, as the library wants to see one."""

    size = 257
    is_tokenizer_wrapper = True
    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")

    def __call__(self, text: str) -> list[int]:
        return list(text.encode())


@cache
def _byte_tokenizer() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer(_Bytes(), slices=[])  # type: ignore[arg-type]


def _message(error: str) -> str:
    """The library's first words, without the excerpt of the grammar that it draws below them."""
    first = re.split(r"\n\s*\d+ \||<non-verbose/>|<state>", error)[0]
    first = re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", first)
    return " ".join(first.split())[:_MESSAGE_CHARACTERS_MAX]
