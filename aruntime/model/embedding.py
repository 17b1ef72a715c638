"""How a checkpoint's vectors are made: which of a text's states, and how many numbers each has.

The pooling is what sentence-transformers has written beside the weights, in 1_Pooling/config.json; without that the
last token's state, as vLLM takes it of a decoder: only that one has seen the whole text. Vectors that a checkpoint
sends through layers of their own (2_Dense) are not those that a decoder gives.
"""

from dataclasses import dataclass
from pathlib import Path

from aruntime.model.fields import Fields
from aruntime.queue.records import Pooling

_HIDDEN_MAX = 1 << 18
_MODES = {"pooling_mode_mean_tokens": Pooling.MEAN, "pooling_mode_lasttoken": Pooling.LAST}


@dataclass(frozen=True, slots=True)
class Embedding:
    """A checkpoint's vectors: `size` numbers each, pooled so. With NONE it has none, `refusal` says why."""

    pooling: Pooling
    size: int
    refusal: str = ""

    @classmethod
    def from_folder(cls, folder: Path) -> "Embedding":
        """Read it of a checkpoint. CheckpointRefused when a file cannot be read."""
        size = Fields.from_file(folder / "config.json").whole("hidden_size", 1, _HIDDEN_MAX)
        if any(folder.glob("*_Dense")):
            return cls(Pooling.NONE, size, "its vectors go through a dense layer, which is not served")
        if not (folder / "1_Pooling" / "config.json").is_file():
            return cls(Pooling.LAST, size)
        fields = Fields.from_file(folder / "1_Pooling" / "config.json")
        modes = [name for name in fields.names() if name.startswith("pooling_mode_") and fields.flag(name, False)]
        if len(modes) == 1 and modes[0] in _MODES:
            return cls(_MODES[modes[0]], size)
        return cls(Pooling.NONE, size, "its vectors are not the mean or the last of its states")
