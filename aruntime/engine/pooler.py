"""The vectors of a step: states of prompts, pooled, on the device; a prompt may come in several steps.

plan.pool_* ──► Decoder.states [T, H] ──► pool ──► sums, kept for the next chunk
                                               └─► vectors of the prompts that end ──► host
"""

import torch
from aruntime_kernels.pool import pool

from aruntime.engine.device import put
from aruntime.engine.parts import Array, Owner
from aruntime.model.decoder import Decoder
from aruntime.scheduler.scheduler import StepPlan


class Pooler:
    """Makes vectors, and keeps what is summed of at most `sequences_max` prompts between their steps."""

    def __init__(self, decoder: Decoder, sequences_max: int) -> None:
        self._decoder = decoder
        self._sums_max = sequences_max
        self._sums: torch.Tensor | None = None  # made by the first that asks: most models never are

    def launch(self, plan: StepPlan) -> tuple[list[Owner], torch.Tensor]:
        """Pool what `plan` says of the forward that was launched last, and of which nothing more is asked.

        Returns whose prompts end in this step, and their vectors [N, H] float32, on the device.
        """
        states = self._decoder.states(plan.tokens)
        device, size = states.device, states.shape[1]
        if self._sums is None:
            self._sums = torch.empty(self._sums_max, size, dtype=torch.float32, device=device)
        vectors = torch.empty(len(plan.pool_start), size, dtype=torch.float32, device=device)
        start, end, place, carry, divisor = (
            put(column, device)
            for column in (plan.pool_start, plan.pool_end, plan.pool_place, plan.pool_carry, plan.pool_divisor)
        )
        pool(states, start, end, place, carry, divisor, self._sums, vectors)
        ends = plan.pool_divisor.nonzero()[0]
        owners = plan.pool_owners()
        return [owners[chunk] for chunk in ends.tolist()], vectors[put(ends, device)]


def results(owners: list[Owner], vectors: Array) -> list[tuple[Owner, bytes]]:
    """Each vector, of those on the host, as its front end gets it: float32, little endian."""
    return [(owner, vector.astype("<f4").tobytes()) for owner, vector in zip(owners, vectors, strict=True)]
