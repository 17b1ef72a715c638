"""The decoder that Llama, Mistral, Qwen2 and Qwen3 share: one step's tokens in, logits of the sampled rows out.

    embed ──► [ norm ─ qkv ─ (head norms) ─ rotary ─ store ─ attention ─ output        x layers
                norm ─ gate_up ─ silu_mul ─ down ]
          ──► norm ─ head, of the sampled rows only

The same code runs on a CPU (activations float32) and on a GPU (activations in the dtype of the weights). What the
operations write into is in workspace.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from aruntime_kernels.decode_attention import decode_attention
from aruntime_kernels.embed import embed
from aruntime_kernels.linear import linear
from aruntime_kernels.prefill_attention import prefill_attention
from aruntime_kernels.rms_norm import rms_norm
from aruntime_kernels.rotary import rotary
from aruntime_kernels.silu_mul import silu_mul
from aruntime_kernels.store_kv import store_kv
from torch import Tensor

from aruntime.model.checkpoint import Checkpoint
from aruntime.model.config import ModelConfig
from aruntime.model.kv_cache import KvCache
from aruntime.model.rope import cos_sin_table
from aruntime.model.weights import Layer, Weights, load_weights
from aruntime.model.workspace import Rows, Workspace


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: T tokens of S sequences, R rows to sample. All int32, on the decoder's device.

    The first `decodes` sequences have one token each; the rest are chunks of prompts.
    """

    token_ids: Tensor  # [T]
    positions: Tensor  # [T]
    slot_mapping: Tensor  # [T], rows of the cache
    query_start: Tensor  # [S + 1]
    context_len: Tensor  # [S], tokens in the cache, this step's included
    block_tables: Tensor  # [S, blocks]
    sample_index: Tensor  # [R], rows of T
    decodes: int


class Decoder:
    """A model on a device. Not to be shared between threads: its workspaces are one step's."""

    def __init__(self, config: ModelConfig, weights: Weights, tokens_max: int, sequences_max: int) -> None:
        self.config = config
        self.device = str(weights.embedding.device)
        self.dtype = weights.embedding.dtype
        self.weight_bytes = weights.nbytes
        self._weights = weights
        self._cos_sin = cos_sin_table(config, self.device)
        self._work = Workspace(config, weights, tokens_max, sequences_max)

    def forward(self, batch: Batch, cache: KvCache) -> Tensor:
        """The logits [R, vocab] of the sampled rows in float32; a view, valid until the next forward.

        Keys and values of all T tokens go to `cache`. ValueError when T or R is more than there is room for.
        """
        weights, eps = self._weights, self.config.norm_eps
        rows = self._work.rows(len(batch.token_ids))
        attend = _Attention(self.config, batch, cache, rows, self._cos_sin, self._work.partial)
        embed(batch.token_ids, weights.embedding, rows.x)
        rows.residual.zero_()
        for index, layer in enumerate(weights.layers):
            rms_norm(rows.x, layer.input_norm, rows.normed, eps=eps, residual=rows.residual)
            linear(rows.normed, layer.qkv, rows.qkv)
            attend(layer, cache.key[index], cache.value[index])
            linear(rows.attended, layer.output, rows.x)
            rms_norm(rows.x, layer.mlp_norm, rows.normed, eps=eps, residual=rows.residual)
            linear(rows.normed, layer.gate_up, rows.gate_up)
            silu_mul(rows.gate_up, rows.activated)
            linear(rows.activated, layer.down, rows.x)
        return self._logits(rows, batch.sample_index)

    def logits(self, index: Tensor, tokens: int) -> Tensor:
        """The logits of other rows `index` of the `tokens` that the last forward computed; its own are lost."""
        return self._logits(self._work.rows(tokens), index)

    def states(self, tokens: int) -> Tensor:
        """The states [T, hidden] behind the last norm, of the `tokens` that the last forward computed.

        The last thing to be asked of a forward, and once; a view, valid until the next.
        """
        rows = self._work.rows(tokens)
        rms_norm(rows.x, self._weights.norm, rows.normed, eps=self.config.norm_eps, residual=rows.residual)
        return rows.normed

    def _logits(self, rows: Rows, sample_index: Tensor) -> Tensor:
        work = self._work
        count = len(sample_index)
        if count > len(work.logits):
            raise ValueError(f"{count} sampled rows; there is room for {len(work.logits)}")
        x, residual, logits = work.sampled_x[:count], work.sampled_residual[:count], work.logits[:count]
        torch.index_select(rows.x, 0, sample_index, out=x)
        torch.index_select(rows.residual, 0, sample_index, out=residual)
        rms_norm(x, self._weights.norm, x, eps=self.config.norm_eps, residual=residual)
        head_out = logits if work.head_out is None else work.head_out[:count]
        linear(x, self._weights.head, head_out)
        if head_out is not logits:
            logits.copy_(head_out)
        return logits


class _Attention:
    """Attention of one step, the same for every layer but for the weights and the window."""

    def __init__(
        self, config: ModelConfig, batch: Batch, cache: KvCache, rows: Rows, cos_sin: Tensor, partial: Tensor | None
    ) -> None:
        self._batch = batch
        self._cos_sin = cos_sin
        self._eps = config.norm_eps
        self._partial = partial
        self._shared = {"scale": config.head_dim**-0.5, "block_tokens": cache.block_tokens}
        split = rows.qkv.view(len(rows.qkv), -1, config.head_dim)
        key_at, value_at = config.heads, config.heads + config.kv_heads
        self._query, self._key, self._value = split[:, :key_at], split[:, key_at:value_at], split[:, value_at:]
        self._out = rows.attended.view(len(rows.attended), -1, config.head_dim)
        # Decodes lie in front, one row each; the chunks' own rows begin behind them.
        self._chunk_start = batch.query_start[batch.decodes :] - batch.decodes

    def __call__(self, layer: Layer, key_cache: Tensor, value_cache: Tensor) -> None:
        batch, query, key = self._batch, self._query, self._key
        if layer.query_norm is not None and layer.key_norm is not None:
            rms_norm(query, layer.query_norm, query, eps=self._eps)
            rms_norm(key, layer.key_norm, key, eps=self._eps)
        rotary(query, key, batch.positions, self._cos_sin)
        store_kv(key, self._value, key_cache, value_cache, batch.slot_mapping)
        cut = batch.decodes
        if cut:
            decode_attention(
                query[:cut],
                key_cache,
                value_cache,
                batch.block_tables[:cut],
                batch.context_len[:cut],
                self._out[:cut],
                window=layer.window,
                partial=self._partial,
                **self._shared,
            )
        if cut < len(batch.context_len):
            prefill_attention(
                query[cut:],
                key_cache,
                value_cache,
                batch.block_tables[cut:],
                self._chunk_start,
                batch.context_len[cut:],
                self._out[cut:],
                window=layer.window,
                **self._shared,
            )


def load_decoder(
    folder: Path | str,
    *,
    device: str = "cpu",
    weight_dtype: torch.dtype | None = None,
    tokens_max: int,
    sequences_max: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Decoder:
    """Read the Hugging Face folder and make its decoder. CheckpointRefused says why it cannot be served.

    `tokens_max` tokens and `sequences_max` sequences (default: as many) fit a step. `weight_dtype` None keeps the
    stored one, except that a CPU widens float16. `progress` is told how many layers have been read, and of how many.
    """
    folder = Path(folder)
    config = ModelConfig.from_folder(folder)
    weights = load_weights(config, Checkpoint(folder), device, weight_dtype, progress)
    return Decoder(config, weights, tokens_max, sequences_max or tokens_max)
