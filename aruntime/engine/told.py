"""What few requests are told beside their tokens, of the forward that was launched last.

plan.likely_* ──► the logits that tokens were drawn from ──► alternatives ──┐
plan.scored_* ──► logits of the prompt, piece by piece ──► its logprobs ────┼──► host
plan.pool_*   ──► Decoder.states ──► Pooler ──► vectors of prompts ─────────┘
"""

from dataclasses import dataclass, field

import torch
from aruntime_kernels.likely import likely

from aruntime.engine.device import fetch, put
from aruntime.engine.parts import Array, Owner
from aruntime.engine.pooler import Pooler, results
from aruntime.model.decoder import Decoder
from aruntime.scheduler.scheduler import StepPlan


@dataclass(frozen=True, slots=True)
class Told:
    """Of one step, on the host; to be looked at when the step has arrived."""

    likely: list[torch.Tensor] = field(default_factory=list)  # tokens, logprobs [L, top]
    scored: list[torch.Tensor] = field(default_factory=list)  # logprobs [N], tokens and logprobs [N, top]
    pooled: tuple[list[Owner], torch.Tensor] | None = None  # whose vectors, and they

    def arrays(self) -> tuple[tuple[Array, Array] | None, tuple[Array, Array, Array] | None, list[tuple[Owner, bytes]]]:
        """`likely`, `scored` and `vectors` of `Sampled`."""
        likely = (self.likely[0].numpy(), self.likely[1].numpy()) if self.likely else None
        scored = (self.scored[0].numpy(), self.scored[1].numpy(), self.scored[2].numpy()) if self.scored else None
        return likely, scored, results(self.pooled[0], self.pooled[1].numpy()) if self.pooled else []


class Teller:
    """Finds out what is told, on the device, for at most `sequences_max` rows at once."""

    def __init__(self, decoder: Decoder, sequences_max: int) -> None:
        self._decoder = decoder
        self._device = decoder.device
        self._rows_max = sequences_max
        self._pooler = Pooler(decoder, sequences_max)

    def launch(self, plan: StepPlan, logits: torch.Tensor, tokens: torch.Tensor) -> Told:
        """What `plan` asks for; `tokens` [R] were drawn from `logits` [R, V], of which nothing more is asked."""
        return Told(self._likely(logits, plan, tokens), self._score(plan), self._pool(plan))

    def _likely(self, logits: torch.Tensor, plan: StepPlan, tokens: torch.Tensor) -> list[torch.Tensor]:
        """The likeliest tokens at the plan's likely rows, under what the tokens were drawn from."""
        if not len(plan.likely_row):
            return []
        row = put(plan.likely_row, self._device)
        return [fetch(part) for part in self._look(logits, row, tokens[row], plan.top)[1:]]

    def _score(self, plan: StepPlan) -> list[torch.Tensor]:
        """The prompt's tokens under the logits before them, in pieces for which there is room."""
        if not len(plan.scored_index):
            return []
        index, token = put(plan.scored_index, self._device), put(plan.scored_token, self._device)
        pieces = []
        for first in range(0, len(index), self._rows_max):
            piece = slice(first, first + self._rows_max)
            logits = self._decoder.logits(index[piece], plan.tokens)
            row = torch.arange(len(logits), dtype=torch.int32, device=self._device)
            pieces.append(self._look(logits, row, token[piece], plan.top))
        return [fetch(torch.cat(parts)) for parts in zip(*pieces, strict=True)]

    def _pool(self, plan: StepPlan) -> tuple[list[Owner], torch.Tensor] | None:
        """Whose vectors this step makes, and they. The last thing to be asked of a forward."""
        if not len(plan.pool_start):
            return None
        owners, vectors = self._pooler.launch(plan)
        return owners, fetch(vectors)

    def _look(self, logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor, top: int) -> list[torch.Tensor]:
        """What `likely` tells of these rows, and of a token of each."""
        count = len(row)
        logprob = torch.empty(count, dtype=torch.float32, device=self._device)
        top_token = torch.empty(count, top, dtype=torch.int32, device=self._device)
        top_logprob = torch.empty(count, top, dtype=torch.float32, device=self._device)
        likely(logits, row, token, logprob, top_token, top_logprob)
        return [logprob, top_token, top_logprob]
