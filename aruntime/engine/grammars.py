"""The grammars of one engine's sequences: compiled, and their masks made, in threads beside the loop.

    begin ─► compiled in a thread of its own, the bell rung ─► ready         the sequence is held until then
    step(plan) ─► masks made in other threads, while the model runs ─► apply(logits) ─► sample ─► check(tokens)

A place in a grammar moves when its sequence is planned, by the token that was said last: so what is sampled for
nothing, because its sequence gave way or was cancelled, never moves it. A grammar that cannot be followed any further
ends its own sequence and nobody else's: its row gets the token -1.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from aruntime_kernels.mask import mask

from aruntime.base import log
from aruntime.engine.parts import Owner
from aruntime.model.grammar import GrammarBroken, Grammars, Mask, Matcher
from aruntime.scheduler.scheduler import StepPlan

_MASK_THREADS = 2


@dataclass(slots=True, eq=False)
class _Place:
    """Where a sequence is in its grammar: `said` tokens are taken in."""

    grammar: str
    matcher: Matcher | None = None  # None: not compiled, or broken
    said: int = 0

    def write(self, said: int, last: int, row: Mask) -> None:
        """Write what may follow the first `said` tokens, of which `last` is the last. GrammarBroken."""
        if self.matcher is None:
            raise GrammarBroken("it is of no use any more")
        if said == self.said + 1:
            self.matcher.accept(last)
            self.said = said
        if said != self.said:
            raise GrammarBroken(f"{said} tokens were said, {self.said} were taken in")
        self.matcher.mask(row)


class StepMasks:
    """The masks of one step's guided rows, on their way."""

    def __init__(self, rows: npt.NDArray[np.int32], words: Mask, made: list[Future[None]]) -> None:
        self._rows = rows
        self._words = words
        self._made = made

    def apply(self, logits: torch.Tensor) -> None:
        """Wait for the masks; mask the rows of `logits` ([R, V])."""
        for part in self._made:
            part.result()
        row, words = (torch.from_numpy(part).to(logits.device) for part in (self._rows, self._words))
        mask(logits, row, words)

    def check(self, tokens: npt.NDArray[np.int32]) -> None:
        """Set those of `tokens` ([R]) that their grammar does not allow to -1: nothing was left to draw."""
        token = tokens[self._rows]
        word = self._words[np.arange(len(token)), token // 32]
        tokens[self._rows[word >> (token % 32) & 1 == 0]] = -1


class EngineGrammars:
    """Grammars of the sequences of one engine. All methods are the loop's; `bell` wakes it."""

    def __init__(self, grammars: Grammars, bell: int) -> None:
        self._grammars = grammars
        self._bell = bell
        self._places: dict[Owner, _Place] = {}
        self._ready: deque[tuple[Owner, _Place]] = deque()
        self._compiler = ThreadPoolExecutor(1, "grammar")
        self._masks = ThreadPoolExecutor(_MASK_THREADS, "mask")

    def begin(self, owner: Owner, grammar: str) -> None:
        """Start to compile the grammar of a new sequence."""
        place = self._places[owner] = _Place(grammar)
        self._compiler.submit(self._compile, owner, place)

    def ready(self) -> Iterator[tuple[Owner, bool]]:
        """Whose grammars have been compiled since the last call, and whether they could be."""
        while self._ready:
            owner, place = self._ready.popleft()
            if self._places.get(owner) is place:
                yield owner, place.matcher is not None

    def end(self, owner: Owner) -> None:
        """A sequence has ended: forget its place."""
        self._places.pop(owner, None)

    def step(self, plan: StepPlan) -> StepMasks | None:
        """Let the masks of a step be made; None when no grammar leads any of its rows."""
        if not len(plan.guided_row):
            return None
        rows = plan.guided_row.copy()
        places = [self._places.get(owner) for owner in plan.guided_owners()]
        words = np.zeros((len(rows), self._grammars.words), np.int32)
        work = list(zip(places, plan.position[rows].tolist(), plan.guided_token.tolist(), words, strict=True))
        parts = [work[first::_MASK_THREADS] for first in range(min(_MASK_THREADS, len(work)))]
        return StepMasks(rows, words, [self._masks.submit(self._write, part) for part in parts])

    def _compile(self, owner: Owner, place: _Place) -> None:
        if self._places.get(owner) is place:  # else it has ended while others were compiled
            try:
                place.matcher = self._grammars.matcher(place.grammar)
            except Exception as error:  # whatever it is, it is nobody else's
                log.warning("engine.grammar_refused", error=type(error).__name__)
            self._ready.append((owner, place))
            os.eventfd_write(self._bell, 1)

    def _write(self, work: list[tuple[_Place | None, int, int, Mask]]) -> None:
        for place, said, last, row in work:
            if place is None:
                continue
            try:
                place.write(said, last, row)
            except Exception as error:
                log.warning("engine.grammar_broken", error=type(error).__name__, said=said)
                row[:] = 0
                place.matcher = None
                self._compiler.submit(self._grammars.forget, place.grammar)
