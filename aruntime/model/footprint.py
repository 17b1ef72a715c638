"""How much memory a model version will take, known before anything of it is loaded. Loads no torch.

    weights      every tensor in the dtype it is held in; a tied embedding twice on a CPU, where the head is packed
    workspace    the largest step's activations and logits, the parts of attention on a GPU, the table of angles, what
                 packing the largest matrix takes for a moment, the scheduler's books, and the process itself
    cache        keys and values: as much as is wanted, but not more than could be used, nor less than one context

A tensor model has no cache: its weights are counted ONNX_FACTOR times, since the runtime may keep a packed copy beside
what it has read and makes its activations from the same arena.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aruntime.model.config import ModelConfig
from aruntime.model.fields import CheckpointRefused
from aruntime.model.headers import ITEM_BYTES, Header, read_headers, tensor_bytes
from aruntime.wire.control import EngineKind, Precision

Device = Literal["cpu", "cuda"]

# The graph, and the files that hold what is too large for it.
ONNX_SUFFIXES = frozenset([".onnx", ".onnx_data", ".data", ".bin"])
ONNX_FACTOR = 3
# Beyond weights, cache and rows. On a CPU: what an engine process with 1 MiB of cache and 16-token steps has of its own
# (163 MiB: Linux x86-64, Python 3.11, torch 2.13 for CPUs), the pages of libraries that it maps at least (136 MiB, and
# engines share them), room for prompts that wait and the rings of front ends. On a GPU: an allowance for the context,
# the libraries' own workspaces and the allocator's roundings; it was not measured.
PROCESS_BYTES = {"cpu": 336 << 20, "cuda": 1 << 30}

_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"
_STORED: dict[str, Precision] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {precision: ITEM_BYTES[stored] for stored, precision in _STORED.items()}
# On a CPU a matrix is packed in panels of 32 outputs with a bias for each, in pages of its own (csrc/cpu/ops.cpp).
_PANEL, _PAGE_BYTES = 32, 4096
# aruntime_kernels.decode_attention: positions of one part, and numbers beside a head in each.
_ATTENTION_CHUNK, _ATTENTION_EXTRA = 256, 4
# The scheduler's, for each cache block and for each token in one: tokens, log-probabilities, hashes.
_BLOCK_BOOK_BYTES, _TOKEN_BOOK_BYTES = 256, 16


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on one device. `cache_bytes_min` is at most `cache_bytes`."""

    weight_bytes: int
    workspace_bytes: int
    cache_bytes_min: int
    cache_bytes: int

    @property
    def fixed_bytes(self) -> int:
        """All but the cache."""
        return self.weight_bytes + self.workspace_bytes

    @property
    def bytes_min(self) -> int:
        """What it cannot do without."""
        return self.fixed_bytes + self.cache_bytes_min

    @property
    def bytes_max(self) -> int:
        """What it takes if there is room."""
        return self.fixed_bytes + self.cache_bytes

    def times(self, replicas: int) -> "Footprint":
        """That of so many."""
        numbers = (self.weight_bytes, self.workspace_bytes, self.cache_bytes_min, self.cache_bytes)
        return Footprint(*(number * replicas for number in numbers))


def measure(
    folder: Path,
    device: Device,
    *,
    engine: EngineKind = "decoder",
    dtype: Precision,
    cache_dtype: Precision,
    block_tokens: int,
    sequences_max: int,
    step_tokens_max: int,
    cache_bytes: int,
    cache_bytes_min: int | None = None,
) -> Footprint:
    """The footprint of the version in `folder`, with the words of `model.toml` and `version.toml`.

    `cache_bytes_min` None: the blocks of one full context. CheckpointRefused when the folder cannot be served.
    """
    if engine == "onnx":
        return Footprint(ONNX_FACTOR * _onnx_bytes(folder), PROCESS_BYTES[device], 0, 0)
    config = ModelConfig.from_folder(folder)
    headers = list(read_headers(folder))
    held = _held(headers, device, dtype)
    item_bytes = _ITEM_BYTES[held]
    per_block = 2 * config.layers * block_tokens * config.kv_size * _ITEM_BYTES.get(cache_dtype, item_bytes)
    context_blocks = -(-config.context_max // block_tokens)
    blocks = min(cache_bytes // per_block, sequences_max * context_blocks)
    if blocks < 1:
        raise CheckpointRefused(f"one cache block takes {per_block} bytes, cache_bytes is {cache_bytes}")
    floor = context_blocks * per_block if cache_bytes_min is None else max(cache_bytes_min, per_block)
    rows = _rows_bytes(config, device, item_bytes, step_tokens_max, sequences_max)
    books = blocks * (_BLOCK_BOOK_BYTES + _TOKEN_BOOK_BYTES * block_tokens)
    packing = 2 * _largest_matrix(config) * item_bytes
    return Footprint(
        weight_bytes=sum(_weight_bytes(header, config, device, item_bytes) for header in headers),
        workspace_bytes=rows + books + packing + PROCESS_BYTES[device],
        cache_bytes_min=min(floor, blocks * per_block),
        cache_bytes=blocks * per_block,
    )


def _held(headers: list[Header], device: Device, dtype: Precision) -> Precision:
    """What the weights are held in: what is stored, unless another is wanted; a CPU widens float16."""
    if dtype != "checkpoint":
        return dtype
    stored = next((_STORED[header.dtype] for header in headers if header.name == _EMBEDDING), None)
    if stored is None:
        raise CheckpointRefused(f"tensor {_EMBEDDING} is missing")
    return "float32" if device == "cpu" and stored == "float16" else stored


def _weight_bytes(header: Header, config: ModelConfig, device: Device, item_bytes: int) -> int:
    if config.tied and header.name == _HEAD:
        return 0  # not read
    if device == "cuda":
        return tensor_bytes(header.shape, item_bytes)
    if len(header.shape) < 2:
        return tensor_bytes(header.shape, 4)  # norms and biases are float32
    rows = -(-header.shape[0] // _PANEL) * _PANEL
    packed = tensor_bytes((rows, *header.shape[1:]), item_bytes) + 4 * rows + _PAGE_BYTES
    return 2 * packed if config.tied and header.name == _EMBEDDING else packed


def _rows_bytes(config: ModelConfig, device: Device, item_bytes: int, tokens_max: int, sequences_max: int) -> int:
    """The decoder's workspace; on a CPU activations are float32."""
    item_bytes = 4 if device == "cpu" else item_bytes
    samples = min(tokens_max, sequences_max)
    row = 3 * config.hidden + 2 * config.query_size + 2 * config.kv_size + 3 * config.intermediate
    rows = tokens_max * row * item_bytes
    # float32, once more in the dtype of the product, and what the sampler makes of them.
    logits = samples * config.vocab * (4 + item_bytes + 4) + 2 * samples * config.hidden * item_bytes
    parts = (
        samples * config.heads * -(-config.context_max // _ATTENTION_CHUNK) * (config.head_dim + _ATTENTION_EXTRA) * 4
    )
    angles = config.context_max * config.head_dim * 4
    return rows + logits + angles + (parts if device == "cuda" else 0)


def _largest_matrix(config: ModelConfig) -> int:
    """Numbers of the largest matrix that is put together and packed at once."""
    outputs = max(config.query_size + 2 * config.kv_size, 2 * config.intermediate, config.vocab)
    return config.hidden * outputs


def _onnx_bytes(folder: Path) -> int:
    """The graph and its external data."""
    if not (folder / "model.onnx").is_file():
        raise CheckpointRefused("model.onnx is missing")
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in ONNX_SUFFIXES and path.is_file())
