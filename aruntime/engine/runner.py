"""One step on the device: the plan's arrays become tensors, the model runs, the sampler draws.

plan (numpy views over the scheduler's memory) ──► Batch ──► Decoder.forward ──► logits [R, V]
                                   bans, penalties ──► sample ──► tokens [R], logprobs [R]
"""

import numpy as np
import torch
from aruntime_kernels.logits import ban, penalize
from aruntime_kernels.sample import sample

from aruntime.model.decoder import Batch, Decoder
from aruntime.model.kv_cache import KvCache
from aruntime.scheduler.scheduler import StepPlan

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


class Runner:
    """Runs planned steps of one model on one device."""

    def __init__(self, decoder: Decoder, cache: KvCache, sequences_max: int) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = decoder.device
        self._tokens = torch.empty(sequences_max, dtype=torch.int32, device=self._device)
        self._logprobs = torch.empty(sequences_max, dtype=torch.float32, device=self._device)

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> tuple[Array, Array]:
        """Compute the plan's tokens. Returns the sampled tokens [R] int32 and their log-probabilities [R] float32."""
        logits = self._decoder.forward(self._batch(plan), self._cache)
        rows = logits.shape[0]
        tokens, logprobs = self._tokens[:rows], self._logprobs[:rows]
        if rows:
            self._adjust(logits, plan)
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
        return tokens.cpu().numpy(), logprobs.cpu().numpy()

    def _batch(self, plan: StepPlan) -> Batch:
        return Batch(
            token_ids=self._put(plan.token_ids),
            positions=self._put(plan.positions),
            slot_mapping=self._put(plan.slot_mapping),
            query_start=self._put(plan.query_start),
            context_len=self._put(plan.context_len),
            block_tables=self._put(plan.block_tables),
            sample_index=self._put(plan.sample_index),
            decodes=plan.decodes,
        )

    def _adjust(self, logits: torch.Tensor, plan: StepPlan) -> None:
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
