"""Logprobs in OpenAI's two shapes: a list of tokens in chat, lists beside each other in completions.

A token that is a part of a character has the text U+FFFD and its own bytes in chat. In completions, where a token's
text is a key and there is no place for bytes, its text is "bytes:\\xe6\\x97", as OpenAI writes it.
"""

from collections.abc import Sequence
from typing import Any

from aruntime.wire.said import Chosen, Likely

LEAST = -9999.0  # what OpenAI says of a token that is not likely at all: JSON has no infinity


def chat_logprobs(tokens: Sequence[Chosen]) -> dict[str, Any]:
    """{"content": [{"token", "logprob", "bytes", "top_logprobs": [{"token", "logprob", "bytes"}]}], "refusal": null}"""
    content = [{**_entry(token), "top_logprobs": [_entry(one) for one in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def completion_logprobs(tokens: Sequence[Chosen]) -> dict[str, Any]:
    """{"tokens", "token_logprobs", "top_logprobs", "text_offset"}: a list of each, an entry a token.

    The token itself is among its `top_logprobs`. A prompt's first token has null for both.
    """
    return {
        "tokens": [_key(token) for token in tokens],
        "token_logprobs": [_finite(token.logprob) for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": [token.offset for token in tokens],
    }


def _entry(token: Chosen | Likely) -> dict[str, Any]:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.data)}


def _top(token: Chosen) -> dict[str, float | None] | None:
    if token.logprob is None:
        return None
    return {_key(one): _finite(one.logprob) for one in token.top} | {_key(token): _finite(token.logprob)}


def _key(token: Chosen | Likely) -> str:
    try:
        return token.data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data)


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else logprob if logprob > LEAST else LEAST
