"""One probe of a replica, as the supervisor keeps it: a process that asks the version's golden questions.

    start ──► it prepares ──Prepared──► waits ◄── ask(): the engine is warm ──► it asks ──Probed──► on_done
                  └──────── too long, its end, cancel() ───────┴──────────────────────┴──────────► on_done(failed)

The process is started together with the engine, so that what it has to read is read when the engine is warm.
"""

import asyncio
import os
from collections.abc import Callable, Sequence

from aruntime.control.launcher import Launcher, describe
from aruntime.control.line import Line
from aruntime.queue.channel import create_bell, create_channel
from aruntime.queue.columns import PROBER_ROW
from aruntime.queue.post import pair
from aruntime.queue.records import submit_cells
from aruntime.wire.control import AttachFrontEnd, Message, Prepared, Probe, Probed

# A tokenizer of a quarter of a million entries is read in seconds.
PREPARE_S_MAX = 60.0
PROBE_S_MAX = 300.0
# The prober ends by itself when its time is over; one that does not is killed.
_LAST_WORDS_S = 5.0
_SUBMIT_CELLS_MIN = 1 << 14


class Prober:
    """A prober's process. `on_done(probed)` is called once, in the event loop, however it ends.

    `on_gone(prober)` is called when the process has ended, which may be a moment later.
    """

    def __init__(
        self,
        launcher: Launcher,
        folder: str,
        on_done: Callable[[Probed], None],
        on_gone: Callable[["Prober"], None],
        arguments: Sequence[str] = (),
    ) -> None:
        """Start it on the version in `folder`; more `arguments` are the process's own (probing.py)."""
        mine, theirs = pair()
        fd = theirs.fileno()
        self._on_done = on_done
        self._on_gone = on_gone
        self._done = self._prepared = False
        self._timeout_s: float | None = None
        self._late = ""  # what took it so long that it is being killed
        self._line = Line(mine, self._on_message, lambda: None)
        given = ["--control-fd", str(fd), "--folder", folder, *arguments]
        self._child = launcher.start("aruntime.control.probe.probing", given, [fd], self._on_end)
        theirs.close()
        self._timer = asyncio.get_running_loop().call_later(PREPARE_S_MAX, self._give_up, "to read the questions")

    def ask(self, order: Probe, engine: Line, engine_bell: int, table: int) -> None:
        """The engine is warm: join the two, and let it ask. The descriptors stay the caller's.

        When it is done, the engine must be told DetachFrontEnd, and the row PROBER_ROW of the table is the caller's to
        zero: the process writes to neither any more.
        """
        channel, bell = create_channel(order.epoch, _submit_cells(order.context_max)), create_bell()
        try:
            engine.send(AttachFrontEnd(front_end=PROBER_ROW, epoch=order.epoch), (channel, bell))
            self._line.send(order, (channel, engine_bell, table, bell))
        finally:
            os.close(channel)
            os.close(bell)
        self._timeout_s = order.timeout_s + _LAST_WORDS_S
        self._wait_for_answers()

    def cancel(self, reason: str) -> None:
        """End it, if it has not ended: the probe has failed."""
        self._finish(Probed(passed=False, reason=reason))

    def _on_message(self, message: Message, fds: list[int]) -> None:
        match message:
            case Prepared():
                self._timer.cancel()
                self._prepared = True
                self._wait_for_answers()
            case Probed(passed=True) if not self._prepared or self._timeout_s is None:
                self.cancel("the prober said that it passed before it was asked")
            case Probed():
                self._finish(message)
            case _:
                for fd in fds:
                    os.close(fd)
                raise ValueError(f"a prober does not say {message.kind}")

    def _wait_for_answers(self) -> None:
        if self._prepared and self._timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s, self._give_up, "to ask the questions")

    def _give_up(self, what: str) -> None:
        self._late = f"the prober took too long {what}"
        self._child.kill()

    def _on_end(self, status: int) -> None:
        """What it said last may still lie in its socket; the line reads it in this turn of the loop."""
        self._on_gone(self)
        reason = self._late or f"the prober {describe(status)}"
        asyncio.get_running_loop().call_soon(self.cancel, reason)

    def _finish(self, probed: Probed) -> None:
        if self._done:
            return
        self._done = True
        self._timer.cancel()
        self._line.close()
        self._child.kill()
        self._on_done(probed)


def _submit_cells(context_max: int) -> int:
    """A ring for one prompt of a full context, and many short ones."""
    return max(_SUBMIT_CELLS_MIN, 1 << (2 * submit_cells(context_max) - 1).bit_length())
