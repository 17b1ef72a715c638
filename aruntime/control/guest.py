"""A front end's connection to the supervisor, from before its hello until its end."""

import os
from collections.abc import Callable

from aruntime.base import log
from aruntime.control.line import Line
from aruntime.control.switchboard import FrontEnd, Switchboard
from aruntime.queue.post import Post
from aruntime.wire.control import Act, Attached, Drain, Drained, Hello, Listening, Message, Refused, Retired, Wanted


class Guest:
    """Joins the switchboard with its hello and leaves it with its line.

    `kill` ends its process, should it hang up without a word while it lives: it may still write to shared memory.
    `on_hello(guest)` and `on_end(guest)` are called once each, the first perhaps never; `on_wish(guest, message, fds)`
    when it wants something of the models, and has the descriptors.
    """

    def __init__(
        self,
        post: Post,
        switchboard: Switchboard,
        kill: Callable[[], None],
        on_hello: Callable[["Guest"], None],
        on_end: Callable[["Guest"], None],
        on_wish: Callable[["Guest", Wanted | Act, list[int]], None],
    ) -> None:
        self._switchboard = switchboard
        self._kill = kill
        self._on_hello = on_hello
        self._on_end = on_end
        self._on_wish = on_wish
        self._front_end: FrontEnd | None = None
        self._polite = False
        self.line = Line(post, self._on_message, self._ended)

    @property
    def serves(self) -> bool:
        """Whether it listens, and sends to every replica that is ready."""
        return self._front_end is not None and self._switchboard.serves(self._front_end)

    def replace(self, deadline_s: float) -> None:
        """Another serves in its place: have it leave as soon as that disturbs nobody."""
        self.line.send(Drain(deadline_s=deadline_s, replaced=True))

    def _on_message(self, message: Message, fds: list[int]) -> None:
        front_end = self._front_end
        match message:
            case Hello() if front_end is None:
                self._front_end = self._switchboard.join(self.line, fds[0])
                self._on_hello(self)
            case Listening() if front_end is not None:
                self._switchboard.listens(front_end)
            case Attached(replica=replica, epoch=epoch) if front_end is not None:
                self._switchboard.attached(front_end, replica, epoch)
            case Refused(replica=replica, epoch=epoch, reason=reason) if front_end is not None:
                if front_end.epochs.get(replica) == epoch:
                    self._switchboard.replicas[replica].fail(reason)
            case Retired(replica=replica, epoch=epoch) if front_end is not None:
                self._switchboard.retired(front_end, replica, epoch)
            case Wanted() | Act() if front_end is not None:
                self._on_wish(self, message, fds)
            case Drained():
                self._polite = True
            case _:
                for fd in fds:
                    os.close(fd)
                raise ValueError(f"a front end does not say {message.kind} now")

    def _ended(self) -> None:
        if not self._polite:
            log.warning("front_end.lost", front_end=self._front_end.number if self._front_end else 0)
            self._kill()
        if self._front_end is not None:
            self._switchboard.leave(self._front_end)
        self._on_end(self)
