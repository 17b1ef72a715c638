"""The keys and values of all sequences, by layer, in blocks of a fixed number of tokens.

row of the cache = block * block_tokens + offset in the block       which block is whose, the scheduler knows
"""

import torch

from aruntime.model.config import ModelConfig


class KvCache:
    """`key[layer]` and `value[layer]` are [blocks * block_tokens, kv_heads, head_dim]."""

    def __init__(
        self, config: ModelConfig, blocks: int, block_tokens: int, dtype: torch.dtype, device: str = "cpu"
    ) -> None:
        shape = (blocks * block_tokens, config.kv_heads, config.head_dim)
        # Zeros, not what lay there: a kernel that masks a row it has read must not meet a NaN.
        self.key = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self.value = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)]
        self.blocks = blocks
        self.block_tokens = block_tokens

    @staticmethod
    def bytes_per_block(config: ModelConfig, block_tokens: int, dtype: torch.dtype) -> int:
        """Bytes that one block takes in all layers together."""
        return 2 * config.layers * block_tokens * config.kv_size * dtype.itemsize
