"""An engine whose model is a clock: every 20 ms each sequence has its next token. All but the arithmetic is real.

Started by paced_serve.py in place of aruntime.engine.main: the same process, loop, scheduler and rings. Of a sequence
the token at place p is a word that p tells, so an answer can be checked.
"""

import functools
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import aruntime.engine.main as engine
from aruntime.engine import replica
from aruntime.engine.loop import Loop
from aruntime.engine.parts import Sampled
from aruntime.model.tokenizer import Tokenizer
from aruntime.scheduler.scheduler import StepPlan
from aruntime.wire.control import Load

STEP_S = 0.02
WORDS = (" the", " model", " of", " a", " server", " stream", " token", ".")


class Clock:
    """Says before which moment no step begins, and samples without a model."""

    steps_ahead = 0

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = np.array(tokens, np.int32)
        self._next_s = 0.0

    def starts_s(self) -> float:
        return self._next_s

    def launch(self, plan: StepPlan) -> "Step":
        now_s = time.monotonic()
        self._next_s = max(self._next_s + STEP_S, now_s)
        places = plan.positions[plan.sample_index] + 1
        return Step(self._tokens[places % len(self._tokens)])


class Step:
    """It has been."""

    def __init__(self, tokens: Any) -> None:
        self._tokens = tokens

    def fetch(self) -> Sampled:
        return Sampled(self._tokens, np.zeros(len(self._tokens), np.float32))


def load(order: Load, table: int, bell: int) -> engine.Replica:
    """The replica of `order` with a clock for a model."""
    tokenizer = Tokenizer.from_folder(Path(order.folder))
    ids = [list(tokenizer.encode(word)) for word in WORDS]
    clock = Clock([token for (token,) in ids])
    replica.Runner = lambda *_: clock  # type: ignore[assignment, misc]
    replica.Loop = functools.partial(Loop, starts_s=clock.starts_s)  # type: ignore[assignment, misc]
    return replica.load_decoder_replica(order, table, bell)


if __name__ == "__main__":
    engine.load = load
    sys.exit(engine.main())
