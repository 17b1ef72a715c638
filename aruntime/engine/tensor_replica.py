"""Builds what a tensor engine serves, from a Load order: session, scheduler, batching, and the loop over them.

A row is the scheduler's token: `batch_max` rows are a step, a request is taken up whole, and ends with its only answer.
"""

import itertools
import os
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aruntime.base import log
from aruntime.engine.loop import Loop
from aruntime.engine.tensor_batching import AT_ONCE_S, Batching
from aruntime.engine.tensor_exchange import TensorExchange
from aruntime.engine.tensor_runner import TensorRunner
from aruntime.engine.tensor_session import Array, TensorSession, open_session, sample, to_tensor
from aruntime.model.config import CheckpointRefused
from aruntime.model.identity import tokenizer_of, weights_of
from aruntime.queue.table import Table
from aruntime.scheduler.scheduler import Scheduler
from aruntime.wire.compatibility import Compatibility
from aruntime.wire.control import Dtype, Load, TensorSpec
from aruntime.wire.tensors import encode

# A block is a place for one request, and there are so many that no tenant's share of the blocks is felt: what a tensor
# model has is rows, and those are shared by weight.
_BLOCKS_PER_ROW = 64
# Steps after which the pace is known (csrc/scheduler/pace.hpp).
_PACE_STEPS = 16
# How far a row computed among others may lie from the same row alone: kernels add up in another order.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class TensorReplica:
    """A loaded tensor model, ready to be warmed and served."""

    loop: Loop
    session: TensorSession
    context_max: int  # the most rows of one request, and its answer
    vocab: int
    blocks: int
    scheduler: Scheduler
    exchange: TensorExchange
    runner: TensorRunner
    batching: Batching
    can_sample: bool
    target: str
    key: Compatibility
    precision: Dtype = "float32"  # of what it computes in; the model may say otherwise, tensor by tensor

    @property
    def inputs(self) -> list[TensorSpec]:
        return self.session.inputs

    @property
    def outputs(self) -> list[TensorSpec]:
        return self.session.outputs

    @property
    def weight_bytes(self) -> int:
        return self.session.weight_bytes

    def warm(self) -> None:
        """Run every size that is likely through the real scheduler: once for what happens once, then for the pace."""
        if not self.can_sample:
            return
        sizes = sorted({1, *self.batching.preferred, self.batching.batch_max})
        for size in sizes:
            self._run(size, lambda: 0.0)
        for size in itertools.islice(itertools.cycle(sizes), _PACE_STEPS):
            self._run(size, time.monotonic)

    def _run(self, rows: int, clock: Callable[[], float]) -> None:
        """Answer one request of so many rows for nobody: front end 0 has no channel."""
        inputs = sample(self.session.inputs, range(rows))
        self.exchange.hold((0, 0, 0), encode(to_tensor(spec, inputs[spec.name]) for spec in self.session.inputs))
        self.scheduler.submit(front_end=0, slot=0, generation=0, prompt=array("i", [0]) * rows, max_tokens=1)
        tokens, logprobs, *_ = self.runner.launch(self.scheduler.plan(clock())).fetch()
        self.scheduler.commit(tokens, clock(), logprobs)
        self.scheduler.drop_front_end(0)


def load_tensors(order: Load, table: int, bell: int) -> TensorReplica:
    """Load the model of `order`. CheckpointRefused says why it cannot be served.

    `table` and `bell` are descriptors that came with the order and belong to the replica from now on.
    """
    if order.batching is None:
        raise CheckpointRefused("the order does not say how to batch")
    session = open_session(Path(order.folder), order.device, order.threads)
    can_sample, by_rows = try_out(session)
    asked = Batching(order.batching.batch_max, tuple(order.batching.preferred), order.batching.delay_s)
    batching = asked.within(order.batching.batch_max if by_rows else 1)
    rows_max = batching.batch_max
    scheduler = Scheduler(
        sequences_max=rows_max,
        step_tokens_max=rows_max,
        waiting_max=order.bounds.waiting_max,
        context_max=rows_max + 1,
        block_tokens=rows_max + 1,  # never full before its sequence ends, so no two requests share one
        blocks=_BLOCKS_PER_ROW * rows_max,
        vocab=1,
        eos_token_ids=[],
        itl_s=order.bounds.itl_s,
        whole_prompts=True,
    )
    exchange = TensorExchange(scheduler, time.monotonic)
    runner = TensorRunner(session, exchange, by_rows=rows_max > 1, can_sample=can_sample)
    starts_s = _Gathering(batching, scheduler).starts_s
    loop = Loop(scheduler, runner, exchange, Table(table), bell, time.monotonic, starts_s)
    os.close(table)
    log.info("engine.loaded", model=order.model, version=order.version, batch_max=rows_max, warms=can_sample)
    return TensorReplica(
        loop=loop,
        session=session,
        context_max=rows_max + 1,
        vocab=1,
        blocks=_BLOCKS_PER_ROW * rows_max,
        scheduler=scheduler,
        exchange=exchange,
        runner=runner,
        batching=batching,
        can_sample=can_sample,
        target=session.target,
        key=Compatibility(weights=weights_of(Path(order.folder)), tokenizer=tokenizer_of(Path(order.folder))),
    )


@dataclass(frozen=True, slots=True)
class _Gathering:
    """Batching, over what waits in the scheduler."""

    batching: Batching
    scheduler: Scheduler

    def starts_s(self) -> float:
        stats = self.scheduler.stats()
        if not stats.waiting:
            return AT_ONCE_S
        rows = stats.waiting_tokens
        run_s = rows / stats.prefill_tokens_per_s if stats.prefill_tokens_per_s else 0.0
        return self.batching.starts_s(rows, stats.oldest_s, self.scheduler.next_deadline_s(), run_s)


def try_out(session: TensorSession) -> tuple[bool, bool]:
    """Whether the model computes made-up inputs, and whether its requests may be put together along their first size.

    A free first size need not be rows: it may be the length of a text. So two rows together must give what each gives
    alone. A model that does not take what we can make up is believed.
    """
    try:
        alone = [session.run(sample(session.inputs, range(row, row + 1))) for row in range(2)]
    except Exception as error:  # onnxruntime's have no type in common
        log.info("engine.not_tried_out", error=type(error).__name__, detail=str(error)[:200])
        return False, session.has_rows
    if not session.has_rows:
        return True, False
    try:
        both = session.run(sample(session.inputs, range(2)))
    except Exception:
        return True, False
    return True, all(_is_alike(both[name], [one[name] for one in alone]) for name in both)


def _is_alike(both: Array, alone: list[Array]) -> bool:
    """Whether `both` holds the rows that were computed alone, one after the other."""
    rows = np.concatenate(alone)
    if both.shape != rows.shape:
        return False
    if both.dtype.kind in "fc":
        return np.allclose(both, rows, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    return bool(np.array_equal(both, rows))
