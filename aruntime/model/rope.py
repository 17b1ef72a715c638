"""The table of rotary angles: a row [cos (D/2) | sin (D/2)] for each position, with every scaling already in it.

    angle[p, i] = p * frequency[i]        frequency[i] = theta ** (-2 i / D)

Sources: Su et al., "RoFormer", 2021; linear: Chen et al., "Extending context window", 2023; llama3: the Llama 3.1 model
code. The arithmetic is float32 in the order of transformers, because that is what the weights were trained with.
"""

import math

import torch
from torch import Tensor

from aruntime.model.config import ModelConfig, Rope


def cos_sin_table(config: ModelConfig, device: str) -> Tensor:
    """The table [context_max, head_dim] in float32."""
    positions = torch.arange(config.context_max, dtype=torch.float32)
    angles = torch.outer(positions, _frequencies(config.rope, config.head_dim))
    return torch.cat((angles.cos(), angles.sin()), dim=1).to(device)


def _frequencies(rope: Rope, head_dim: int) -> Tensor:
    plain = 1.0 / (rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    match rope.kind:
        case "linear":
            return plain / rope.factor
        case "llama3":
            return _llama3(plain, rope)
        case _:
            return plain


def _llama3(plain: Tensor, rope: Rope) -> Tensor:
    """Long waves are stretched by the factor, short ones kept, and those between are blended."""
    waves = 2 * math.pi / plain
    low, high = rope.low_freq_factor, rope.high_freq_factor
    blend = ((rope.original_context / waves - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - blend) * plain / rope.factor + blend * plain
