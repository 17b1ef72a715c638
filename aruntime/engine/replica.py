"""Builds what one engine serves, from a Load order: decoder, cache, scheduler, and the loop over them."""

import os
import secrets
import time
from array import array
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from pathlib import Path

import torch
from aruntime_kernels import cpu

from aruntime.base import log
from aruntime.engine.exchange import Exchange
from aruntime.engine.grammars import EngineGrammars
from aruntime.engine.loop import Loop
from aruntime.engine.runner import Runner
from aruntime.model.config import CheckpointRefused, ModelConfig
from aruntime.model.decoder import load_decoder
from aruntime.model.grammar import Grammars
from aruntime.model.identity import tokenizer_of, weights_of
from aruntime.model.kv_cache import KvCache
from aruntime.queue.table import Table
from aruntime.scheduler.scheduler import Scheduler
from aruntime.wire import control
from aruntime.wire.compatibility import Compatibility

_DTYPES = {"checkpoint": None, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PRECISIONS: dict[torch.dtype, control.Dtype] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
# Warm-up runs a prompt of every power of two up to the step's budget, then decodes.
_WARM_DECODES = 4


@dataclass(frozen=True, slots=True)
class Replica:
    """A loaded model version, ready to be warmed and served."""

    loop: Loop
    scheduler: Scheduler
    runner: Runner
    context_max: int
    vocab: int
    blocks: int
    weight_bytes: int
    step_tokens_max: int
    target: str
    precision: control.Dtype
    key: Compatibility
    inputs: list[control.TensorSpec] = field(default_factory=list)  # none: it takes and gives tokens
    outputs: list[control.TensorSpec] = field(default_factory=list)

    def warm(self) -> None:
        """Run every kind of step through the real scheduler, so that the first request pays for nothing.

        Twice: the first time pays for what happens once, with the clock stopped; the second teaches the pace.
        """
        most = min(self.step_tokens_max, self.context_max - _WARM_DECODES)
        for token, clock in enumerate((lambda: 0.0, time.monotonic)):
            length = 1
            while length < min(most, self.blocks):
                self._generate(length, token + length, clock)
                length *= 4
            self._generate(most, token + most, clock)

    def _generate(self, prompt_tokens: int, token: int, clock: Callable[[], float]) -> None:
        """Answer one prompt of a token again and again, for nobody: front end 0 has no channel.

        No two prompts have the same token: they would share blocks.
        """
        refused = self.scheduler.submit(
            front_end=0,
            slot=0,
            generation=0,
            arrived_s=0.0,
            deadline_s=float("inf"),
            prompt=array("i", [token % self.vocab]) * prompt_tokens,
            max_tokens=_WARM_DECODES,
            ignore_eos=True,
        )
        while not refused:
            plan = self.scheduler.plan(clock())
            if plan.tokens == 0:
                break
            tokens, logprobs, *_ = self.runner.launch(plan).fetch()
            self.scheduler.commit(tokens, clock(), logprobs)
        self.scheduler.drop_front_end(0)


def load_decoder_replica(order: control.Load, table: int, bell: int) -> Replica:
    """Load the checkpoint of `order`. CheckpointRefused says why it cannot be served.

    `table` and `bell` are descriptors that came with the order and belong to the replica from now on.
    """
    device = _device(order.device)
    torch.set_num_threads(order.threads)
    cpu.set_threads(order.threads)
    decoder = load_decoder(
        order.folder,
        device=device,
        weight_dtype=_DTYPES[order.dtype],
        tokens_max=order.step_tokens_max,
        sequences_max=order.sequences_max,
    )
    config = decoder.config
    cache_dtype = _DTYPES[order.cache_dtype] or decoder.dtype
    per_block = KvCache.bytes_per_block(config, order.block_tokens, cache_dtype)
    blocks = min(order.cache_bytes // per_block, _blocks_useful(order, config.context_max))
    if blocks < 1:
        raise CheckpointRefused(f"one cache block takes {per_block} bytes, cache_bytes is {order.cache_bytes}")
    cache = KvCache(config, blocks, order.block_tokens, cache_dtype, device)
    context_max = min(config.context_max, blocks * order.block_tokens)
    key = compatibility(order, config, decoder.dtype, cache_dtype)
    scheduler = Scheduler(
        sequences_max=order.sequences_max,
        step_tokens_max=order.step_tokens_max,
        waiting_max=order.bounds.waiting_max,
        context_max=context_max,
        block_tokens=order.block_tokens,
        blocks=blocks,
        vocab=config.vocab,
        eos_token_ids=config.eos_token_ids,
        itl_s=order.bounds.itl_s,
        prefix_secret=int.from_bytes(key.root(secrets.token_bytes(32))[:8]),
    )
    grammars = _grammars(order, config, bell)
    runner = Runner(decoder, cache, order.sequences_max, grammars)
    loop = Loop(scheduler, runner, Exchange(scheduler, grammars), Table(table), bell, time.monotonic)
    os.close(table)
    log.info("engine.loaded", model=order.model, version=order.version, blocks=blocks, context=context_max)
    return Replica(
        loop=loop,
        scheduler=scheduler,
        runner=runner,
        context_max=context_max,
        vocab=config.vocab,
        blocks=blocks,
        weight_bytes=decoder.weight_bytes,
        step_tokens_max=order.step_tokens_max,
        target=device,
        precision=_PRECISIONS[decoder.dtype],
        key=key,
    )


def _grammars(order: control.Load, config: ModelConfig, bell: int) -> EngineGrammars | None:
    """What constrains answers; None when this model's cannot be."""
    try:
        return EngineGrammars(Grammars.from_folder(Path(order.folder), config.vocab, config.eos_token_ids), bell)
    except CheckpointRefused as error:
        log.warning("engine.no_grammars", model=order.model, version=order.version, reason=str(error))
        return None


def compatibility(
    order: control.Load, config: ModelConfig, dtype: torch.dtype, cache_dtype: torch.dtype
) -> Compatibility:
    """What another end must have in common with this engine."""
    folder, rope = Path(order.folder), config.rope
    heads = f"{config.kv_heads} heads of {config.head_dim}"
    return Compatibility(
        weights=weights_of(folder),
        tokenizer=tokenizer_of(folder),
        dtype=str(dtype),
        cache_dtype=str(cache_dtype),
        layout=f"blocks of {order.block_tokens} tokens, {config.layers} layers, {heads}",
        rope=" ".join(f"{value}" for value in astuple(rope)),
        window=",".join(map(str, sorted(set(config.windows)))),
    )


def _device(name: str) -> str:
    """The torch device for `name`; "auto" is a GPU when there is one."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _blocks_useful(order: control.Load, context_max: int) -> int:
    """Blocks that sequences_max full contexts would fill: more could never be used."""
    return order.sequences_max * -(-context_max // order.block_tokens)
