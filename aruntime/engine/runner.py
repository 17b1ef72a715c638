"""One step on the device: the plan's arrays become tensors, the model runs, the sampler draws.

plan (numpy views over the scheduler's memory) ──► Batch ──► Decoder.forward ──► logits [R, V]
         biases, penalties, bans (steer.py), masks ──► sample ──► tokens [R], logprobs [R]
                             more for those who ask ──► told.py

A step may be launched while the one before it runs: a token that nobody knows yet is read, on the device, from what
that step samples.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from aruntime_kernels.sample import sample

from aruntime.engine.device import put
from aruntime.engine.grammars import EngineGrammars, StepMasks
from aruntime.engine.parts import Array, Sampled
from aruntime.engine.steer import steer
from aruntime.engine.told import Teller, Told
from aruntime.model.decoder import Batch, Decoder
from aruntime.model.kv_cache import KvCache
from aruntime.scheduler.scheduler import StepPlan


@dataclass(slots=True)
class Samples:
    """What one step samples: on the device, and on its way to the host."""

    tokens: torch.Tensor  # [sequences_max] int32
    logprobs: torch.Tensor  # [sequences_max] float32
    host_tokens: torch.Tensor
    host_logprobs: torch.Tensor
    arrived: torch.Event | None
    rows: int = 0
    masks: StepMasks | None = None
    told: Told = field(default_factory=Told)

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
        return Sampled(tokens, logprobs, *self.told.arrays())


class Runner:
    """Runs planned steps of one model on one device."""

    def __init__(
        self, decoder: Decoder, cache: KvCache, sequences_max: int, grammars: EngineGrammars | None = None
    ) -> None:
        self._decoder = decoder
        self._cache = cache
        self._grammars = grammars
        self._device = decoder.device
        self._teller = Teller(decoder, sequences_max)
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
        if rows:
            steer(logits, plan, self._device)
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
        samples.told = self._teller.launch(plan, logits, tokens)
        samples.send()
        return samples

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

    def _put(self, values: Array) -> torch.Tensor:
        return put(values, self._device)
