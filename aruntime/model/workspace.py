"""What the operations of a step write into: tensors that are made once, for the largest step there may be.

So a step allocates nothing of that size, and a captured graph finds its tensors where they were.
"""

from dataclasses import dataclass

import torch
from aruntime_kernels.decode_attention import decode_workspace
from torch import Tensor

from aruntime.model.config import ModelConfig
from aruntime.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one step in the workspaces."""

    x: Tensor  # what a block reads and what it adds to the residual stream
    residual: Tensor
    normed: Tensor
    qkv: Tensor
    attended: Tensor
    gate_up: Tensor
    activated: Tensor


class Workspace:
    """Tensors for the largest step. On a CPU memory is taken only as far as it has been used."""

    def __init__(self, config: ModelConfig, weights: Weights, tokens_max: int, sequences_max: int) -> None:
        embedding = weights.embedding
        dtype = torch.float32 if embedding.is_cpu else embedding.dtype
        samples_max = min(tokens_max, sequences_max)

        def room(rows: int, width: int, of: torch.dtype = dtype) -> Tensor:
            return torch.empty(rows, width, dtype=of, device=embedding.device)

        self._tokens_max = tokens_max
        self._rows = Rows(
            x=room(tokens_max, config.hidden),
            residual=room(tokens_max, config.hidden),
            normed=room(tokens_max, config.hidden),
            qkv=room(tokens_max, config.query_size + 2 * config.kv_size),
            attended=room(tokens_max, config.query_size),
            gate_up=room(tokens_max, 2 * config.intermediate),
            activated=room(tokens_max, config.intermediate),
        )
        self.sampled_x = room(samples_max, config.hidden)
        self.sampled_residual = room(samples_max, config.hidden)
        self.logits = room(samples_max, config.vocab, torch.float32)
        # A matrix product writes the dtype that it reads; the sampler wants float32.
        self.head_out = None if dtype == torch.float32 else room(samples_max, config.vocab)
        self.partial = None
        if not embedding.is_cpu:
            self.partial = decode_workspace(
                samples_max, config.heads, config.head_dim, config.context_max, str(embedding.device)
            )

    def rows(self, count: int) -> Rows:
        """The first `count` rows of each tensor."""
        if count > self._tokens_max:
            raise ValueError(f"{count} tokens in a step; there is room for {self._tokens_max}")
        return Rows(*(getattr(self._rows, name)[:count] for name in Rows.__slots__))
