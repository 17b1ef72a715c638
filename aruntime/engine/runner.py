"""One step on the device: the plan's arrays become tensors, the model runs, the sampler draws.

plan (numpy views over the scheduler's memory) ──► Batch ──► Decoder.forward ──► logits [R, V]
                    biases, penalties, bans, masks ──► sample ──► tokens [R], logprobs [R]
                                                      likely ──► alternatives; the prompt's logprobs, piece by piece
                       Decoder.states ──► Pooler ──► the vectors of prompts that want no answer

A step may be launched while the one before it runs: a token that nobody knows yet is read, on the device, from what
that step samples.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from aruntime_kernels.likely import likely
from aruntime_kernels.logits import ban, bias, penalize
from aruntime_kernels.sample import sample

from aruntime.engine.grammars import EngineGrammars, StepMasks
from aruntime.engine.parts import Owner, Sampled
from aruntime.engine.pooler import Pooler, results
from aruntime.model.decoder import Batch, Decoder
from aruntime.model.kv_cache import KvCache
from aruntime.scheduler.scheduler import StepPlan

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


@dataclass(slots=True)
class Samples:
    """What one step samples: on the device, and on its way to the host."""

    tokens: torch.Tensor  # [sequences_max] int32
    logprobs: torch.Tensor  # [sequences_max] float32
    host_tokens: torch.Tensor
    host_logprobs: torch.Tensor
    arrived: torch.Event | None
    rows: int = 0
    likely: list[torch.Tensor] = field(default_factory=list)  # on the host, as are these: tokens, logprobs [L, top]
    scored: list[torch.Tensor] = field(default_factory=list)  # logprobs [N], tokens and logprobs [N, top]
    masks: StepMasks | None = None
    pooled: tuple[list[Owner], torch.Tensor] | None = None  # whose vectors, and they

    @classmethod
    def on(cls, device: str, rows_max: int) -> "Samples":
        tokens = torch.zeros(rows_max, dtype=torch.int32, device=device)
        logprobs = torch.zeros(rows_max, dtype=torch.float32, device=device)
        if device == "cpu":
            return cls(tokens, logprobs, tokens, logprobs, None)
        host_tokens = torch.empty_like(tokens, device="cpu", pin_memory=True)
        host_logprobs = torch.empty_like(logprobs, device="cpu", pin_memory=True)
        return cls(tokens, logprobs, host_tokens, host_logprobs, torch.Event(device))

    def send(self) -> None:
        """Let the host have them as soon as the step has run, and no later step with it."""
        if self.arrived is not None:
            self.host_tokens.copy_(self.tokens, non_blocking=True)
            self.host_logprobs.copy_(self.logprobs, non_blocking=True)
            self.arrived.record()

    def fetch(self) -> Sampled:
        """Wait for the step. Returns what `Scheduler.commit` takes."""
        if self.arrived is not None:
            self.arrived.synchronize()
        if self.masks is not None:
            self.masks.check(self.host_tokens[: self.rows].numpy())
        tokens, logprobs = self.host_tokens[: self.rows].numpy(), self.host_logprobs[: self.rows].numpy()
        likely = (self.likely[0].numpy(), self.likely[1].numpy()) if self.likely else None
        scored = (self.scored[0].numpy(), self.scored[1].numpy(), self.scored[2].numpy()) if self.scored else None
        vectors = results(self.pooled[0], self.pooled[1].numpy()) if self.pooled else ()
        return Sampled(tokens, logprobs, likely, scored, vectors)


class Runner:
    """Runs planned steps of one model on one device."""

    def __init__(
        self, decoder: Decoder, cache: KvCache, sequences_max: int, grammars: EngineGrammars | None = None
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._grammars = grammars
        self._device = decoder.device
        self._rows_max = sequences_max
        self._pooler = Pooler(decoder, sequences_max)
        # Of the last step and of the one before it, which may not have been fetched yet.
        self._last, self._before = (Samples.on(self._device, sequences_max) for _ in range(2))

    @property
    def steps_ahead(self) -> int:
        """How many steps are worth launching before the first is fetched: on a GPU the host plans while it computes."""
        return 0 if self._device == "cpu" else 1

    @torch.inference_mode()
    def launch(self, plan: StepPlan) -> "Samples":
        """Start a step. What it samples can be fetched until the second launch after this one."""
        batch = self._batch(plan)
        self._last, self._before = self._before, self._last
        samples = self._last
        samples.masks = None if self._grammars is None else self._grammars.step(plan)
        logits = self._decoder.forward(batch, self._cache)
        rows = samples.rows = logits.shape[0]
        tokens, logprobs = samples.tokens[:rows], samples.logprobs[:rows]
        samples.likely = []
        if rows:
            self._adjust(logits, plan)
            if samples.masks is not None:
                samples.masks.apply(logits)
            sample(
                logits,
                tokens,
                temperature=self._put(plan.temperature),
                top_k=self._put(plan.top_k),
                top_p=self._put(plan.top_p),
                min_p=self._put(plan.min_p),
                seed=self._put(plan.seed.view(np.int64)),
                position=self._put(plan.position),
                logprob=logprobs,
            )
            samples.likely = self._likely(logits, plan, tokens)
        samples.scored = self._score(plan)
        samples.pooled = self._pool(plan)
        samples.send()
        return samples

    def _likely(self, logits: torch.Tensor, plan: StepPlan, tokens: torch.Tensor) -> list[torch.Tensor]:
        """The likeliest tokens at the plan's likely rows, under what the tokens were drawn from."""
        if not len(plan.likely_row):
            return []
        row = self._put(plan.likely_row)
        return [self._fetch(part) for part in self._look(logits, row, tokens[row], plan.top)[1:]]

    def _score(self, plan: StepPlan) -> list[torch.Tensor]:
        """The prompt's tokens under the logits before them, in pieces for which there is room."""
        if not len(plan.scored_index):
            return []
        index, token = self._put(plan.scored_index), self._put(plan.scored_token)
        pieces = []
        for first in range(0, len(index), self._rows_max):
            piece = slice(first, first + self._rows_max)
            logits = self._decoder.logits(index[piece], plan.tokens)
            row = torch.arange(len(logits), dtype=torch.int32, device=self._device)
            pieces.append(self._look(logits, row, token[piece], plan.top))
        return [self._fetch(torch.cat(parts)) for parts in zip(*pieces, strict=True)]

    def _pool(self, plan: StepPlan) -> tuple[list[Owner], torch.Tensor] | None:
        """Whose vectors this step makes, and they. The last thing to be asked of a forward."""
        if not len(plan.pool_start):
            return None
        owners, vectors = self._pooler.launch(plan)
        return owners, self._fetch(vectors)

    def _look(self, logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor, top: int) -> list[torch.Tensor]:
        """What `likely` tells of these rows, and of a token of each."""
        count = len(row)
        logprob = torch.empty(count, dtype=torch.float32, device=self._device)
        top_token = torch.empty(count, top, dtype=torch.int32, device=self._device)
        top_logprob = torch.empty(count, top, dtype=torch.float32, device=self._device)
        likely(logits, row, token, logprob, top_token, top_logprob)
        return [logprob, top_token, top_logprob]

    def _fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy on the host that is whole once the step has arrived."""
        if self._device == "cpu":
            return tensor
        return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)

    def _batch(self, plan: StepPlan) -> Batch:
        return Batch(
            token_ids=self._token_ids(plan),
            positions=self._put(plan.positions),
            slot_mapping=self._put(plan.slot_mapping),
            query_start=self._put(plan.query_start),
            context_len=self._put(plan.context_len),
            block_tables=self._put(plan.block_tables),
            sample_index=self._put(plan.sample_index),
            decodes=plan.decodes,
        )

    def _token_ids(self, plan: StepPlan) -> torch.Tensor:
        """The step's tokens; those that the last step samples, from there."""
        token_ids = self._put(plan.token_ids)
        if (plan.token_source >= 0).any():
            source = self._put(plan.token_source)
            sampled = self._last.tokens[source.clamp(min=0)]
            known = token_ids[: plan.decodes]
            token_ids = torch.cat([torch.where(source >= 0, sampled, known), token_ids[plan.decodes :]])
        return token_ids

    def _adjust(self, logits: torch.Tensor, plan: StepPlan) -> None:
        if len(plan.bias_row):
            bias(logits, self._put(plan.bias_row), self._put(plan.bias_token), self._put(plan.bias))
        if len(plan.penalty_row):
            penalize(
                logits,
                self._put(plan.penalty_row),
                self._put(plan.penalty_token),
                self._put(plan.penalty_output_count),
                self._put(plan.penalty_in_prompt),
                self._put(plan.presence_penalty),
                self._put(plan.frequency_penalty),
                self._put(plan.repetition_penalty),
            )
        if len(plan.banned_row):
            ban(logits, self._put(plan.banned_row), self._put(plan.banned_token))

    def _put(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device, non_blocking=True)
