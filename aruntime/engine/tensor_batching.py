"""When a tensor model's waiting rows run: at once, or after others had time to join them. Pure: no clock, no queue.

    rows waiting     0 ─────── preferred ──── between two ──── the largest ─────────────►
    run              never     at once        by the delay     at once; what is over waits for the next run

Whoever waits for others never misses its deadline by it: a run begins in time for the first deadline.
"""

import math
from dataclasses import dataclass

# A run is begun this many times its expected length before the first deadline, and what a sleep may overrun.
_MARGIN = 2.0
_OVERRUN_S = 0.02
AT_ONCE_S = -math.inf


@dataclass(frozen=True, slots=True)
class Batching:
    """At most `batch_max` rows a run. `preferred` sizes run as soon as so many wait; others wait up to `delay_s`."""

    batch_max: int
    preferred: tuple[int, ...] = ()
    delay_s: float = 0.0

    def starts_s(self, rows: int, oldest_s: float, deadline_s: float = math.inf, run_s: float = 0.0) -> float:
        """The moment at which `rows` waiting rows run if no more come; AT_ONCE_S when nothing is gained by waiting.

        `oldest_s` is when the first of them came, `deadline_s` the first of their deadlines, `run_s` what a run takes.
        """
        if rows >= self._enough or rows in self.preferred:
            return AT_ONCE_S
        return min(oldest_s + self.delay_s, deadline_s - _MARGIN * run_s - _OVERRUN_S)

    def within(self, rows_max: int) -> "Batching":
        """The same for a model that takes no more than `rows_max` rows."""
        batch_max = min(self.batch_max, rows_max)
        return Batching(batch_max, tuple(size for size in self.preferred if size <= batch_max), self.delay_s)

    @property
    def _enough(self) -> int:
        return max(self.preferred, default=self.batch_max)
