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

from aruntime.model.fields import CheckpointRefused
from aruntime.model.headers import weight_files

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# Tables that old Llama checkpoints store although they follow from the config.
_DERIVED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")


class Checkpoint:
    """The tensors of one folder by name. A tensor's bytes are read when it is asked for, and not kept."""

    def __init__(self, folder: Path) -> None:
        """Open every file. CheckpointRefused when one is missing, malformed, or not what the index says."""
        self._file_of: dict[str, Any] = {}
        for file in weight_files(folder):
            self._add(file)

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
