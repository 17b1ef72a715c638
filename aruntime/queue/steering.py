"""What a decoder is asked beyond numbers: biases, bad words, a grammar, as the payload of its submit message.

    payload = bias_pairs times (int32 token, float32 bias)
            + bad_words times (int32 length, so many int32 tokens)
            + grammar_bytes of UTF-8

`Steering` in csrc/queue/records.hpp says how much there is of each.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

BIAS_PAIRS_MAX = 300
BAD_WORDS_MAX = 256
BAD_WORD_TOKENS_MAX = 1024
GRAMMAR_BYTES_MAX = 1 << 18
TOP_LOGPROBS_MAX = 20


class Steering(NamedTuple):
    """The payload, and the counts that stand in the message's head."""

    bias_pairs: int = 0
    bad_words: int = 0
    bad_word_tokens: int = 0
    grammar_bytes: int = 0
    payload: bytes = b""


def steering(
    logit_bias: Sequence[tuple[int, float]] = (), bad_words: Sequence[Sequence[int]] = (), grammar: str = ""
) -> Steering:
    """The payload that says these: pairs of a token and what is added to its logit, words in tokens, a grammar."""
    text = grammar.encode()
    words = [number for word in bad_words for number in (len(word), *word)]
    pairs = b"".join(struct.pack("<if", token, bias) for token, bias in logit_bias)
    return Steering(
        bias_pairs=len(logit_bias),
        bad_words=len(bad_words),
        bad_word_tokens=len(words) - len(bad_words),
        grammar_bytes=len(text),
        payload=pairs + struct.pack(f"<{len(words)}i", *words) + text,
    )
