"""What the loop turns: a decoder and a tensor model each bring a runner and an exchange of their own."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from aruntime.queue.channel import EngineChannel
from aruntime.scheduler.scheduler import StepPlan

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]

Owner = tuple[int, int, int]  # front end, slot, generation


class Sampled(NamedTuple):
    """What a step has computed: all but the vectors as `Scheduler.commit` takes it."""

    tokens: Array  # [R] int32
    logprobs: Array  # [R] float32
    likely: tuple[Array, Array] | None = None  # of the plan's likely rows
    scored: tuple[Array, Array, Array] | None = None  # of its scored rows
    vectors: Sequence[tuple[Owner, bytes]] = ()  # for the exchange: of the prompts whose vectors were made


class Step(Protocol):
    """A step that was launched."""

    def fetch(self) -> Sampled:
        """Wait for it."""


class Runner(Protocol):
    """Runs planned steps; `steps_ahead` are worth launching before the first of them is fetched."""

    @property
    def steps_ahead(self) -> int: ...
    def launch(self, plan: StepPlan) -> Step: ...


class Exchange(Protocol):
    """Between the rings and the scheduler."""

    def attach(self, front_end: int, channel: EngineChannel) -> None: ...
    def detach(self, front_end: int) -> None: ...
    def receive(self) -> None: ...
    def answer(self, owner: Owner, result: bytes) -> bool: ...
    def deliver(self) -> bool: ...
    def prepare_sleep(self) -> bool: ...
    def awake(self) -> None: ...
    @property
    def refused(self) -> int: ...


class Grammars(Protocol):
    """Makes grammars ready, beside the loop. A sequence with one is held until its own is."""

    def begin(self, owner: Owner, grammar: str) -> None:
        """Start to make the grammar of a new sequence ready. Waits for nothing; the text is an input."""

    def ready(self) -> Iterable[tuple[Owner, bool]]:
        """Whose grammars have become ready since the last call, and whether each is any good."""

    def end(self, owner: Owner) -> None:
        """A sequence with a grammar has ended, wherever it was."""
