"""Token ids to text, one at a time: joined, the texts are exactly what decoding all ids at once gives.

    push(72) "H" · push(2061) "" (half of a character is held back) · push(8582) "é" · finish() ""

Each token's bytes are computed once, at load. Two families cover the models served here, and they treat bytes that are
not UTF-8 differently (as their decoders in the tokenizers library do):

    byte level      GPT-2, Llama 3, Qwen: every token is bytes; each longest wrong part becomes one U+FFFD
    byte fallback   Llama 2, Mistral, Gemma: text, and bytes as <0xE2>; if a run of such bytes is not UTF-8 as a whole,
                    every byte of it becomes U+FFFD, so a run is held back until it ends

Any other decoder is the library's own, run over a window of tokens.
"""

import codecs
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import tokenizers

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Detokenizer(Protocol):
    """One sequence's text so far."""

    def push(self, token_id: int) -> str:
        """The text that is certain now that `token_id` came; often none, never half of a character."""

    def finish(self) -> str:
        """What was still held back. The detokenizer is not used after that."""


class Vocabulary:
    """The tables that all detokenizers of one tokenizer share."""

    def __init__(
        self, backend: tokenizers.Tokenizer, decoder: Mapping[str, Any] | None, marks: Collection[str] = ()
    ) -> None:
        """`marks` are the special tokens that have a text when they shall."""
        added = backend.get_added_tokens_decoder()
        size = max(backend.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        special = {number for number, token in added.items() if token.special}
        names = ["" if number in special else backend.id_to_token(number) or "" for number in range(size)]
        self._backend = backend
        self._parts = _parts(decoder)
        kinds = [part["type"] for part in self._parts]
        self._byte_level = kinds == ["ByteLevel"]
        self._byte_fallback = _is_byte_fallback(self._parts)
        self._strip = next((part for part in self._parts if part["type"] == "Strip"), None)
        self._pieces: list[bytes | str] = []
        if self._byte_level:
            self._pieces = [_whole(_byte_level(name)) for name in names]
        elif self._byte_fallback:
            self._pieces = [_byte_fallback(name, self._parts) for name in names]
        shown = {number: added[number].content for number in special if added[number].content in marks}
        self._hidden = special - shown.keys()
        self._marked = [*self._pieces]
        for number, text in shown.items() if self._pieces else ():
            self._marked[number] = text

    def spell(self, token_id: int) -> bytes:
        """The bytes that one token stands for; a special token's are its name."""
        piece = self._pieces[token_id] if token_id < len(self._pieces) else ""
        if not piece:
            piece = (self._backend.id_to_token(token_id) if self._pieces else self._decode(token_id)) or ""
        return piece if isinstance(piece, bytes) else piece.encode()

    def _decode(self, token_id: int) -> str:
        return str(self._backend.decode([token_id], skip_special_tokens=False))

    def detokenizer(self, *, marks: bool = False, begins: bool = True) -> Detokenizer:
        pieces = self._marked if marks else self._pieces
        if self._byte_level:
            return _ByteLevel(pieces)
        if self._byte_fallback:
            return _ByteFallback(pieces, self._strip if begins else None)
        return _Window(self._backend, self._hidden if marks else None)


class _ByteLevel:
    def __init__(self, pieces: list[bytes | str]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = False

    def push(self, token_id: int) -> str:
        piece = self._pieces[token_id] if token_id < len(self._pieces) else ""
        if not self._held and isinstance(piece, str):
            return piece
        if not piece:
            return ""
        text = self._decoder.decode(piece.encode() if isinstance(piece, str) else piece)
        self._held = bool(self._decoder.getstate()[0])
        return text

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _ByteFallback:
    def __init__(self, pieces: list[bytes | str], strip: Mapping[str, Any] | None) -> None:
        self._pieces = pieces
        self._run = bytearray()
        self._strip = strip["content"] if strip else ""
        self._strip_left = strip["start"] if strip else 0

    def push(self, token_id: int) -> str:
        piece = self._pieces[token_id] if token_id < len(self._pieces) else ""
        if isinstance(piece, bytes):
            self._run += piece
            return ""
        if not piece:
            return ""
        text = self._end_run() + piece if self._run else piece
        return self._stripped(text) if self._strip_left else text

    def finish(self) -> str:
        return self._stripped(self._end_run())

    def _end_run(self) -> str:
        run = bytes(self._run)
        self._run.clear()
        try:
            return run.decode()
        except UnicodeDecodeError:
            return _REPLACEMENT * len(run)

    def _stripped(self, text: str) -> str:
        """The decoder's Strip takes up to `start` characters off the head of the whole text."""
        while text and self._strip_left:
            if text[0] != self._strip:
                self._strip_left = 0
                break
            text = text[1:]
            self._strip_left -= 1
        return text


class _Window:
    """Decodes the last few tokens twice, with and without the newest, and tells the difference.

    Special tokens have no text; or only those that are `hidden`, if given.
    """

    def __init__(self, backend: tokenizers.Tokenizer, hidden: Collection[int] | None = None) -> None:
        self._backend = backend
        self._hidden = hidden or ()
        self._skips = hidden is None
        self._ids: list[int] = []
        self._told = 0  # how many of _ids have been told; they stay as context for the next

    def push(self, token_id: int) -> str:
        if token_id in self._hidden:
            return ""
        self._ids.append(token_id)
        text = self._untold()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        del self._ids[: self._told]
        self._told = len(self._ids)
        return text

    def finish(self) -> str:
        return self._untold()

    def _untold(self) -> str:
        told = self._backend.decode(self._ids[: self._told], skip_special_tokens=self._skips)
        return str(self._backend.decode(self._ids, skip_special_tokens=self._skips))[len(told) :]


def _parts(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    return list(decoder["decoders"]) if decoder["type"] == "Sequence" else [decoder]


def _is_byte_fallback(parts: list[Mapping[str, Any]]) -> bool:
    """Replace* ByteFallback Fuse Strip?, the order every sentencepiece conversion writes."""
    kinds = [part["type"] for part in parts]
    replaces = len(kinds) - len([kind for kind in kinds if kind != "Replace"])
    plain = all("String" in part["pattern"] for part in parts[:replaces] if part["type"] == "Replace")
    ends = all(part["stop"] == 0 for part in parts if part["type"] == "Strip")
    order = kinds[replaces:] in (["ByteFallback", "Fuse"], ["ByteFallback", "Fuse", "Strip"])
    return plain and ends and order


def _byte_level(name: str) -> bytes:
    try:
        return bytes(_BYTE_OF[character] for character in name)
    except KeyError:
        return name.encode()


def _whole(piece: bytes) -> bytes | str:
    """A text where the bytes are whole characters: such a token needs no decoder."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return piece


def _byte_fallback(name: str, parts: Iterable[Mapping[str, Any]]) -> bytes | str:
    for part in parts:
        if part["type"] == "Replace":
            name = name.replace(part["pattern"]["String"], part["content"])
    match = _BYTE_TOKEN.fullmatch(name)
    return bytes([int(match[1], 16)]) if match else name


def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and up, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF = _byte_of()
