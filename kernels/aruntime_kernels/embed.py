"""Look up the rows of a table: the model's first layer.

    out[t] = table[token_ids[t]]

Shapes: T tokens, V rows, N columns.
Bytes: T * N * (table's itemsize + out's itemsize); no arithmetic but a widening.
"""

import torch
from torch import Tensor

from aruntime_kernels import cpu


def embed(token_ids: Tensor, table: Tensor, out: Tensor) -> None:
    """Copy row `token_ids[t]` ([T] int32) of `table` [V, N] to row t of `out` [T, N].

    On a CPU the table is float32 or bfloat16 and out is float32; an id outside [0, V) raises ValueError. On a GPU both
    have one dtype, and ids are the caller's promise.
    """
    if table.is_cpu:
        cpu.embed(token_ids, table, out)
    else:
        torch.index_select(table, 0, token_ids, out=out)


def embed_reference(token_ids: Tensor, table: Tensor, out: Tensor) -> None:
    """What `embed` means, in the plainest torch."""
    out.copy_(table[token_ids.long()])
