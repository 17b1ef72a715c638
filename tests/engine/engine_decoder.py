"""A tiny checkpoint, and the scheduler and runner over it, driven by hand."""

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from aruntime.engine.runner import Runner
from aruntime.model.decoder import load_decoder
from aruntime.model.kv_cache import KvCache
from aruntime.queue.records import RecordKind
from aruntime.scheduler.scheduler import Scheduler

VOCAB, BLOCK_TOKENS, SEQUENCES, TOKENS = 97, 8, 4, 32


def save(folder: Path) -> transformers.LlamaForCausalLM:
    """Write the checkpoint into `folder`; the model that was written."""
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return model.eval()


@dataclass(slots=True)
class Told:
    """What one request was told."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    prompt: list[tuple[int, float, list[tuple[int, float]]]] = field(default_factory=list)
    vector: bytes = b""

    def take(self, token: int, logprob: float, kind: int, before: list[tuple[int, float]]) -> None:
        if kind == RecordKind.ALTERNATIVE:
            before.append((token, logprob))
            return
        if kind == RecordKind.PROMPT_TOKEN:
            self.prompt.append((token, logprob, list(before)))
        elif token >= 0:
            self.tokens.append(token)
            self.logprobs.append(logprob)
            self.alternatives.append(list(before))
        before.clear()


def answers(checkpoint: Path, requests: list[dict[str, Any]], *, steps_ahead: int = 0, blocks: int = 64) -> list[Told]:
    """What each request is told, when so many steps are launched before the first is fetched."""
    decoder = load_decoder(checkpoint, device="cpu", tokens_max=TOKENS, sequences_max=SEQUENCES)
    runner = Runner(decoder, KvCache(decoder.config, blocks, BLOCK_TOKENS, torch.float32), SEQUENCES)
    scheduler = Scheduler(
        sequences_max=SEQUENCES,
        step_tokens_max=TOKENS,
        waiting_max=16,
        context_max=120,
        block_tokens=BLOCK_TOKENS,
        blocks=blocks,
        vocab=VOCAB,
        eos_token_ids=[2],
    )
    for slot, request in enumerate(requests):
        asked = {"max_tokens": 40, "seed": slot, **request, "prompt": array("i", request["prompt"])}
        assert not scheduler.submit(front_end=1, slot=slot, generation=0, **asked)
    told = [Told() for _ in requests]
    before: list[list[tuple[int, float]]] = [[] for _ in requests]
    under_way = []
    for _ in range(2000):
        plan = scheduler.plan(0.0)
        if plan.tokens:
            under_way.append(runner.launch(plan))
        elif not under_way:
            break
        while len(under_way) > (steps_ahead if plan.tokens else 0):
            sampled = under_way.pop(0).fetch()
            for (_, slot, _), vector in sampled.vectors:
                told[slot].vector = vector
            scheduler.commit(sampled.tokens, 0.0, sampled.logprobs, sampled.likely, sampled.scored)
        for slot, _, token, _, _, _, logprob, kind in scheduler.take_outputs(1):
            told[slot].take(token, logprob, kind, before[slot])
    scheduler.check_integrity()
    assert scheduler.stats().running == scheduler.stats().waiting == 0
    return told
