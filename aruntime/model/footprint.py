"""What a version takes of a device's memory, before it is loaded: only configs and headers are read, and no torch.

    weights     what the files hold, in the precision that they are held in; a tied embedding twice on a CPU
    workspace   tensors of the largest step, logits, the table of angles, what the largest matrix takes while it
                is put together, the scheduler's books, and on a CPU the engine's process itself
    cache       what the settings ask for, and the least that the version cannot do without

Weights are counted by the config, so a config that lies is found when the checkpoint is checked against it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError, safe_open

from aruntime.model.config import ModelConfig
from aruntime.model.fields import CheckpointRefused

Dtype = Literal["checkpoint", "float32", "bfloat16", "float16"]
_ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}
_STORED = {"F32": 4, "BF16": 2, "F16": 2}
_EMBEDDING = "model.embed_tokens.weight"

# An engine that serves the demo model, whose weights and cache are 4 and at most 64 MB, had 346 MB resident on Linux
# x86-64 with torch 2.13 for CPUs, of which 139 MB are libraries.
PROCESS_BYTES = 384 << 20
# Of a CUDA context and what its libraries keep. Not measured: no such machine was at hand.
CUDA_CONTEXT_BYTES = 1 << 30
# onnxruntime holds an initializer once, and packs the matrices among them once more.
ONNX_FACTOR = 2


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of weights, of everything beside them, and of the cache: the least and what would be used."""

    weight_bytes: int
    workspace_bytes: int
    cache_bytes_min: int = 0
    cache_bytes: int = 0

    @property
    def fixed_bytes(self) -> int:
        """What it takes without its cache."""
        return self.weight_bytes + self.workspace_bytes

    @property
    def bytes_min(self) -> int:
        """What it cannot do without."""
        return self.fixed_bytes + self.cache_bytes_min

    def times(self, replicas: int) -> "Footprint":
        """That of so many."""
        numbers = (self.weight_bytes, self.workspace_bytes, self.cache_bytes_min, self.cache_bytes)
        return Footprint(*(number * replicas for number in numbers))


def decoder_footprint(
    folder: Path,
    *,
    on_cpu: bool,
    dtype: Dtype,
    cache_dtype: Dtype,
    block_tokens: int,
    sequences_max: int,
    step_tokens_max: int,
    cache_bytes: int,
    cache_bytes_min: int | None,
) -> Footprint:
    """Of a language model. `cache_bytes_min` None: the blocks of one full context, or of all the cache if that is less.

    CheckpointRefused when its config or the head of its weights cannot be read.
    """
    config = ModelConfig.from_folder(folder)
    itemsize = _ITEMSIZE.get(dtype) or _kept_itemsize(folder, on_cpu)
    vectors = config.layers * (2 * config.hidden + config.query_size + 2 * config.kv_size + 2 * config.head_dim)
    head_again = config.vocab * config.hidden if config.tied and on_cpu else 0
    weights = (config.parameters + vectors + config.hidden + head_again) * itemsize
    cache_itemsize = _ITEMSIZE.get(cache_dtype) or itemsize
    block = 2 * config.layers * block_tokens * config.kv_size * cache_itemsize
    most = sequences_max * -(-config.context_max // block_tokens) * block
    wanted = max(block, min(cache_bytes, most))
    floor = cache_bytes_min if cache_bytes_min is not None else -(-config.context_max // block_tokens) * block
    workspace = _workspace(config, itemsize, sequences_max, step_tokens_max, on_cpu=on_cpu)
    books = wanted // block * (_BLOCK_BOOK_BYTES + block_tokens * _TOKEN_BOOK_BYTES) if on_cpu else 0
    return Footprint(weights, workspace + books, max(block, min(floor, wanted)), wanted)


def tensor_footprint(folder: Path) -> Footprint:
    """Of an ONNX model: its files, as often as onnxruntime holds them, and the process."""
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return Footprint(size * ONNX_FACTOR, PROCESS_BYTES)


def _kept_itemsize(folder: Path, on_cpu: bool) -> int:
    """Bytes of a number that is kept as it is stored; a CPU widens float16."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy") as opened:
                stored = opened.get_slice(_EMBEDDING).get_dtype() if _EMBEDDING in opened.keys() else None  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointRefused(f"{file.name} is not a safetensors file: {error}") from None
        if stored is not None:
            if stored not in _STORED:
                raise CheckpointRefused(f"tensor {_EMBEDDING}: want {' or '.join(_STORED)}, got {stored}")
            return 4 if on_cpu and stored == "F16" else _STORED[stored]
    raise CheckpointRefused(f"tensor {_EMBEDDING} is missing")


def _workspace(config: ModelConfig, itemsize: int, sequences_max: int, step_tokens_max: int, *, on_cpu: bool) -> int:
    """What `aruntime.model.decoder` makes once, for the largest step, and what loading takes beside the weights."""
    width = 3 * config.hidden + 2 * config.query_size + 2 * config.kv_size + 3 * config.intermediate
    samples = min(sequences_max, step_tokens_max)
    activations = (step_tokens_max * width + samples * 2 * config.hidden) * (4 if on_cpu else itemsize)
    logits = samples * config.vocab * (4 if on_cpu else 4 + itemsize)
    angles = config.context_max * config.head_dim * 4
    # Its parts in the precision wanted and, on a CPU, all of them once more before they are packed.
    outputs = max(config.query_size + 2 * config.kv_size, 2 * config.intermediate, config.vocab)
    loading = (2 if on_cpu else 1) * outputs * config.hidden * itemsize
    together = activations + logits + angles + loading
    if on_cpu:
        return PROCESS_BYTES + together
    chunks = -(-config.context_max // _CHUNK)
    parts = samples * config.heads * chunks * (config.head_dim + _EXTRA) * 4
    return CUDA_CONTEXT_BYTES + together + parts


# Of aruntime_kernels.decode_attention, which imports torch: a test holds them together.
_CHUNK, _EXTRA = 256, 4
# Of the scheduler, for each cache block and each token in one: hashes and lists; tokens, log-probabilities.
_BLOCK_BOOK_BYTES, _TOKEN_BOOK_BYTES = 256, 16
