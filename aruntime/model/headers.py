"""Which files hold the weights of a Hugging Face folder, and what their headers say; loads no torch.

    file = length of the header (8 bytes, little endian) · header (JSON) · data
    header = {"<tensor>": {"dtype": "BF16", "shape": [3, 4], "data_offsets": [0, 24]}, …, "__metadata__": {…}}

Source: the format's description in safetensors' README. Every number is checked before it is used.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aruntime.model.fields import CheckpointRefused, Fields

ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_INDEX_BYTES_MAX = 64 << 20
_SHARDS_MAX = 4096
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors")
# Of one file; safetensors itself takes 100 MB. A tensor's entry has some 120 bytes.
_HEADER_BYTES_MAX = 16 << 20
_DIMENSIONS_MAX = 8
_BYTES_MAX = 1 << 63


@dataclass(frozen=True, slots=True)
class Header:
    """One tensor as its file describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index names. CheckpointRefused when one is missing or oddly named."""
    if (folder / _WHOLE).exists():
        return [folder / _WHOLE]
    if not (folder / _INDEX).exists():
        raise CheckpointRefused(
            "neither model.safetensors nor an index of its shards is there; no other format is read"
        )
    shard_of = Fields.from_file(folder / _INDEX, _INDEX_BYTES_MAX).object("weight_map")
    shards = sorted({shard_of.text(name) for name in shard_of.names()})
    if not 1 <= len(shards) <= _SHARDS_MAX or not all(_SHARD_NAME.fullmatch(shard) for shard in shards):
        raise CheckpointRefused(f"{_INDEX}: want 1 to {_SHARDS_MAX} plain names of .safetensors files beside it")
    for shard in shards:
        if not (folder / shard).exists():
            raise CheckpointRefused(f"shard {shard} is missing")
    return [folder / shard for shard in shards]


def read_headers(folder: Path) -> Iterator[Header]:
    """Every tensor of the folder. CheckpointRefused when a header is malformed or lies about its file."""
    for file in weight_files(folder):
        yield from _read(file)


def _read(file: Path) -> Iterator[Header]:
    try:
        with file.open("rb") as stream:
            file_bytes = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if file_bytes < 8 or length > min(_HEADER_BYTES_MAX, file_bytes - 8):
                raise CheckpointRefused(f"{file.name}: a header of {length} bytes in a file of {file_bytes}")
            values = json.loads(stream.read(length))
    except OSError as error:
        raise CheckpointRefused(f"{file.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointRefused):
            raise
        raise CheckpointRefused(f"{file.name}: its header is not JSON") from None
    if not isinstance(values, dict):
        raise CheckpointRefused(f"{file.name}: its header is not a JSON object")
    for name, value in values.items():
        if name != "__metadata__":
            yield _header(name, value, file, file_bytes - 8 - length)


def _header(name: str, value: Any, file: Path, data_bytes: int) -> Header:
    fields = Fields(value if isinstance(value, dict) else {}, f"{file.name}: tensor {name[:120]}")
    dtype, shape, offsets = fields.text("dtype"), value.get("shape"), value.get("data_offsets")
    if dtype not in ITEM_BYTES:
        raise CheckpointRefused(f"{fields.where}: want {' or '.join(ITEM_BYTES)}, got {dtype[:20]}")
    if not _are_counts(shape, _DIMENSIONS_MAX):
        raise fields.refusal("shape", f"at most {_DIMENSIONS_MAX} counts")
    if not _are_counts(offsets, 2) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_bytes:
        raise fields.refusal("data_offsets", f"two offsets into {data_bytes} bytes, in order")
    if tensor_bytes(shape, ITEM_BYTES[dtype]) != offsets[1] - offsets[0]:
        raise fields.refusal("data_offsets", f"the bytes of {dtype} {shape}")
    return Header(name, dtype, tuple(shape))


def tensor_bytes(shape: "list[int] | tuple[int, ...]", item_bytes: int) -> int:
    """Bytes of a tensor. CheckpointRefused when they do not fit 63 bits, as those who index into it count."""
    count = item_bytes
    for size in shape:
        count *= size
        if count >= _BYTES_MAX:
            raise CheckpointRefused(f"a tensor of shape {list(shape)} is too large for any machine")
    return count


def _are_counts(values: Any, count_max: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= count_max
        and all(type(value) is int and 0 <= value < _BYTES_MAX for value in values)
    )
