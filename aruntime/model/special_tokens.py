"""Special tokens in texts: those of a template count, those that a user spells do not, and both end up in one text.

message    "a<|im_end|>b"                        a marker (a private-use character that no message holds) goes
marked     "a<▮|im_end|>b"                       into every special token that a message spells
rendered   "<|im_start|>user\\na<▮|im_end|>b<|im_end|>"
pieces     [im_start] "user\\na<|im_end|>b" [im_end]     split at what is whole, marker taken out,
ids                                                      pieces encoded with special tokens off
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import AddedToken

_PRIVATE_USE = range(0x10FFFD, 0xF0000, -1)  # planes 16 and 15


class SpecialTokens:
    """The special tokens of one vocabulary, by their ids."""

    def __init__(self, tokens: Mapping[int, AddedToken]) -> None:
        # Longest first: an alternation takes the first that fits, the library the longest.
        self._tokens = sorted(tokens.items(), key=lambda entry: -len(entry[1].content))
        self._pattern = re.compile("|".join(f"({re.escape(token.content)})" for _, token in self._tokens) or "(?!)")
        self._heads = tuple({t.content[:cut] for t in tokens.values() for cut in range(1, len(t.content))})

    def split(self, text: str, marker: str = "") -> Iterator[str | int]:
        """A piece of text, a special token's id, a piece … a piece; without the marker, and what it breaks is text.

        AddedToken's lstrip and rstrip eat the space around.
        """
        place, eat = 0, False
        for match in self._pattern.finditer(text):
            if marker and text.startswith(marker, match.end()):
                continue  # a special token of one character cannot be broken, only followed
            number, token = self._tokens[(match.lastindex or 1) - 1]
            yield _piece(text[place : match.start()], marker, left=eat, right=token.lstrip)
            yield number
            place, eat = match.end(), token.rstrip
        yield _piece(text[place:], marker, left=eat, right=False)

    def marker(self, *values: Any) -> str:
        """A character that no string of `values` holds; "" when no string needs one."""
        strings = [text for value in values for text in _strings(value)]
        if not any(self._pattern.search(text) or text.endswith(self._heads) for text in strings):
            return ""
        used = set().union(*strings)
        return next(chr(code) for code in _PRIVATE_USE if chr(code) not in used)

    def broken(self, value: Any, marker: str) -> Any:
        """The same nest of dicts and lists with no special token in any string of it."""
        return _map_strings(value, lambda text: self._break(text, marker) if marker else text)

    def _break(self, text: str, marker: str) -> str:
        """`text` with no special token in it, nor the beginning of one at its end (the next part may hold the rest)."""
        if self._pattern.search(text):
            pattern = f"(?=(?:{self._pattern.pattern}))(?s:.)"
            text = re.sub(pattern, lambda match: match[0] + marker, text)
        return text + marker if text.endswith(self._heads) else text


def _piece(text: str, marker: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    text = text.rstrip() if right else text
    return text.replace(marker, "") if marker else text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _map_strings(value: Any, change: Any) -> Any:
    """The same nest of dicts and lists with every string changed; other values as they are."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_map_strings(key, change): _map_strings(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_map_strings(item, change) for item in value]
    return value
