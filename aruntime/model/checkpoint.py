"""The tensors of a Hugging Face folder: model.safetensors, or shards listed by model.safetensors.index.json.

Only the headers are read at first; the safetensors library proves that offsets, lengths and shapes of each file fit.
Then `check` holds all names, shapes and dtypes against what the model needs, before the first weight is read.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from aruntime.model.fields import CheckpointRefused, Fields

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

_INDEX = "model.safetensors.index.json"
_INDEX_BYTES_MAX = 64 << 20
_SHARDS_MAX = 4096
_SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors")
# Tables that old Llama checkpoints store although they follow from the config.
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


class Checkpoint:
    """The tensors of one folder by name. A tensor's bytes are read when it is asked for, and not kept."""

    def __init__(self, folder: Path) -> None:
        """Open every file. CheckpointRefused when one is missing, malformed, or not what the index says."""
        self._file_of: dict[str, Any] = {}
        if (folder / "model.safetensors").exists():
            self._add(folder / "model.safetensors")
        elif (folder / _INDEX).exists():
            self._add_shards(folder)
        else:
            raise CheckpointRefused(
                "neither model.safetensors nor an index of its shards is there; no other format is read"
            )

    def check(self, shapes: Mapping[str, tuple[int, ...]], spare: frozenset[str] = frozenset()) -> None:
        """Refuse unless the folder holds exactly the tensors of `shapes`; those in `spare` may be there as well."""
        for name, shape in shapes.items():
            if name not in self._file_of:
                raise CheckpointRefused(f"tensor {name} is missing")
            found = self._file_of[name].get_slice(name)
            if tuple(found.get_shape()) != shape:
                raise CheckpointRefused(f"tensor {name}: want shape {list(shape)}, got {list(found.get_shape())}")
            if found.get_dtype() not in DTYPES:
                raise CheckpointRefused(f"tensor {name}: want {' or '.join(DTYPES)}, got {found.get_dtype()}")
        unknown = [name for name in self._file_of.keys() - shapes.keys() - spare if not _DERIVED.fullmatch(name)]
        if unknown:
            raise CheckpointRefused(f"tensor {min(unknown)[:120]} is unexpected; {len(unknown)} such tensors")

    def dtype(self, name: str) -> torch.dtype:
        """The dtype that a tensor is stored in."""
        return DTYPES[self._file_of[name].get_slice(name).get_dtype()]

    def read(self, name: str) -> torch.Tensor:
        """A tensor, as it is stored."""
        tensor: torch.Tensor = self._file_of[name].get_tensor(name)
        return tensor

    def _add(self, file: Path) -> None:
        try:
            opened: Any = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointRefused(f"{file.name} is not a safetensors file: {error}") from error
        names = opened.keys()
        if twice := self._file_of.keys() & names:
            raise CheckpointRefused(f"tensor {min(twice)[:120]} is in more than one shard")
        self._file_of.update(dict.fromkeys(names, opened))

    def _add_shards(self, folder: Path) -> None:
        shard_of = Fields.from_file(folder / _INDEX, _INDEX_BYTES_MAX).object("weight_map")
        shards = sorted({shard_of.text(name) for name in shard_of.names()})
        if not 1 <= len(shards) <= _SHARDS_MAX or not all(_SHARD_NAME.fullmatch(shard) for shard in shards):
            raise CheckpointRefused(f"{_INDEX}: want 1 to {_SHARDS_MAX} plain names of .safetensors files beside it")
        for shard in shards:
            if not (folder / shard).exists():
                raise CheckpointRefused(f"shard {shard} is missing")
            self._add(folder / shard)
