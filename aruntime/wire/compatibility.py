"""What two ends must have in common before one may use what the other computed: cached blocks, tokens, an adapter.

    engine ──Loaded(key)──► supervisor: the files that were verified?  the same as the version's other replicas?
                                └──AttachReplica(key)──► front end: the tokenizer and template that it has read?

A mismatch is refused at the handshake, in words. The root of an engine's prefix cache is made of the key and a secret,
and under it each tenant has a root of its own: blocks of another key, or of another tenant, cannot be found.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Words = Annotated[str, Field(max_length=200)]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json", ".onnx", ".onnx.data", ".onnx_data")
_SHOWN = 12  # digits of a digest, in words


class Compatibility(BaseModel):
    """The key. `weights` and `tokenizer` are digests of files; the others say how numbers and blocks are laid out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    weights: Digest
    tokenizer: Digest
    dtype: Words = ""
    cache_dtype: Words = ""
    layout: Words = ""
    rope: Words = ""
    window: Words = ""
    adapter: Words = ""

    def mismatch(self, other: "Compatibility") -> str:
        """The first field in which `other` differs, in words; empty when there is none."""
        for field in type(self).model_fields:
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"{field}: {mine[:_SHOWN]} and {theirs[:_SHOWN]} do not go together"
        return ""

    def root(self, secret: bytes) -> bytes:
        """What everything cached under this key stands on, for whoever has the secret of 16 to 64 bytes."""
        return hashlib.blake2b(self.model_dump_json().encode(), key=secret, digest_size=32).digest()


def weights_digest(files: Mapping[str, str]) -> str:
    """Of the weights among these files, whose sha256 is given."""
    return _digest({name: digest for name, digest in files.items() if name.endswith(_WEIGHT_SUFFIXES)})


def tokenizer_digest(files: Mapping[str, str]) -> str:
    """Of the tokenizer and its template among these files, whose sha256 is given."""
    return _digest({name: digest for name, digest in files.items() if name in TOKENIZER_FILES})


def _digest(files: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
