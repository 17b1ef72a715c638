"""A checkpoint's tensors as the decoder uses them: projections fused and packed, one layer at a time.

    q_proj, k_proj, v_proj  ──►  one projection [(heads + 2 kv_heads) * head_dim, hidden]
    gate_proj, up_proj      ──►  one projection [2 intermediate, hidden]

A tensor is read, packed and let go before the next, so that memory peaks at one copy of the weights and a little.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from aruntime_kernels.linear import Weight, pack
from torch import Tensor

from aruntime.model.checkpoint import Checkpoint
from aruntime.model.config import CheckpointRefused, ModelConfig

_EMBEDDING = "model.embed_tokens.weight"
_NORM = "model.norm.weight"
_HEAD = "lm_head.weight"


@dataclass(frozen=True, slots=True)
class Layer:
    """The weights of one layer. `window` is how many tokens it sees back, 0 for all."""

    input_norm: Tensor
    qkv: Weight
    query_norm: Tensor | None
    key_norm: Tensor | None
    output: Weight
    mlp_norm: Tensor
    gate_up: Weight
    down: Weight
    window: int


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights of a decoder. `embedding` is [vocab, hidden]; `head` is a copy of it in tied checkpoints on a CPU."""

    embedding: Tensor
    layers: list[Layer]
    norm: Tensor
    head: Weight
    nbytes: int


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this config holds."""
    shapes = {_EMBEDDING: (config.vocab, config.hidden), _NORM: (config.hidden,)}
    if not config.tied:
        shapes[_HEAD] = (config.vocab, config.hidden)
    for layer in range(config.layers):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in _layer_shapes(config)})
    return shapes


def _layer_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, query, kv = config.hidden, config.query_size, config.kv_size
    for name, outputs, inputs, bias in (
        ("self_attn.q_proj", query, hidden, config.qkv_bias),
        ("self_attn.k_proj", kv, hidden, config.qkv_bias),
        ("self_attn.v_proj", kv, hidden, config.qkv_bias),
        ("self_attn.o_proj", hidden, query, config.output_bias),
        ("mlp.gate_proj", config.intermediate, hidden, config.mlp_bias),
        ("mlp.up_proj", config.intermediate, hidden, config.mlp_bias),
        ("mlp.down_proj", hidden, config.intermediate, config.mlp_bias),
    ):
        yield f"{name}.weight", (outputs, inputs)
        if bias:
            yield f"{name}.bias", (outputs,)
    yield "input_layernorm.weight", (hidden,)
    yield "post_attention_layernorm.weight", (hidden,)
    if config.head_norms:
        yield "self_attn.q_norm.weight", (config.head_dim,)
        yield "self_attn.k_norm.weight", (config.head_dim,)


def load_weights(
    config: ModelConfig,
    checkpoint: Checkpoint,
    device: str,
    dtype: torch.dtype | None,
    progress: Callable[[int, int], None] | None = None,
) -> Weights:
    """Read and pack all weights as `dtype`; None keeps what is stored, except that a CPU widens float16 to float32.

    `progress` is told how many layers have been read, and of how many. CheckpointRefused when a tensor is missing,
    unexpected, of a wrong shape or dtype, or when the device does not compute in `dtype`.
    """
    checkpoint.check(tensor_shapes(config), spare=frozenset([_HEAD]))
    reader = _Reader(checkpoint, device, _dtype(checkpoint, device, dtype))
    embedding = reader.tensor(_EMBEDDING)
    layers = []
    for index in range(config.layers):
        layers.append(reader.layer(config, index))
        if progress is not None:
            progress(index + 1, config.layers)
    norm = reader.vector(_NORM)
    head = pack(embedding) if config.tied else reader.matrix(_HEAD)
    tied_copy = head.nbytes if config.tied and embedding.is_cpu else 0
    return Weights(embedding, layers, norm, head, reader.nbytes + tied_copy)


def _dtype(checkpoint: Checkpoint, device: str, dtype: torch.dtype | None) -> torch.dtype:
    on_cpu = torch.device(device).type == "cpu"
    if dtype is None:
        stored = checkpoint.dtype(_EMBEDDING)
        return torch.float32 if on_cpu and stored == torch.float16 else stored
    served = (torch.float32, torch.bfloat16) if on_cpu else (torch.float32, torch.bfloat16, torch.float16)
    if dtype not in served:
        raise CheckpointRefused(f"weights in {dtype} are not served on {device}; want {' or '.join(map(str, served))}")
    return dtype


class _Reader:
    """Reads tensors of one checkpoint to one device and dtype, and counts the bytes that stay."""

    def __init__(self, checkpoint: Checkpoint, device: str, dtype: torch.dtype) -> None:
        self.nbytes = 0
        self._checkpoint = checkpoint
        self._device = device
        self._dtype = dtype

    def layer(self, config: ModelConfig, index: int) -> Layer:
        at = f"model.layers.{index}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        return Layer(
            input_norm=self.vector(f"{at}.input_layernorm.weight"),
            qkv=self.matrix(*(f"{attention}.{name}_proj.weight" for name in "qkv"), bias=config.qkv_bias),
            query_norm=self.vector(f"{attention}.q_norm.weight") if config.head_norms else None,
            key_norm=self.vector(f"{attention}.k_norm.weight") if config.head_norms else None,
            output=self.matrix(f"{attention}.o_proj.weight", bias=config.output_bias),
            mlp_norm=self.vector(f"{at}.post_attention_layernorm.weight"),
            gate_up=self.matrix(f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight", bias=config.mlp_bias),
            down=self.matrix(f"{mlp}.down_proj.weight", bias=config.mlp_bias),
            window=config.windows[index],
        )

    def tensor(self, name: str) -> Tensor:
        """One tensor in memory of its own: what the library returns may be a view of the file."""
        tensor = self._checkpoint.read(name).to(self._device, self._dtype, copy=True)
        self.nbytes += tensor.nbytes
        return tensor

    def vector(self, name: str) -> Tensor:
        """The weight of a norm, in the dtype of the activations."""
        on_cpu = torch.device(self._device).type == "cpu"
        vector = self._checkpoint.read(name).to(self._device, torch.float32 if on_cpu else self._dtype, copy=True)
        self.nbytes += vector.nbytes
        return vector

    def matrix(self, *names: str, bias: bool = False) -> Weight:
        """The weights of these names, one below the other, packed; with the biases that belong to them."""
        biases = [name.removesuffix("weight") + "bias" for name in names]
        packed = pack(self._stacked(list(names)), self._stacked(biases) if bias else None)
        self.nbytes += packed.nbytes
        return packed

    def _stacked(self, names: list[str]) -> Tensor:
        parts = [self._checkpoint.read(name).to(self._device, self._dtype) for name in names]
        return torch.cat(parts) if len(parts) > 1 else parts[0]
