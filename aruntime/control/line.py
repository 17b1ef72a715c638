"""A control socket in an event loop: whole messages in, whole messages out, nobody waits.

A peer that breaks the protocol or does not read is hung up on; its end is told like any other.
"""

import asyncio
from collections.abc import Callable, Sequence

from aruntime.base import log
from aruntime.queue.post import Letter, Post
from aruntime.wire.control import Message, decode, encode


class Line:
    """Takes letters from `post` (which it owns) while the event loop runs.

    `on_message(message, fds)` owns the descriptors; a ValueError from it means that the peer made no sense.
    `on_end()` is called once, when the peer has gone or was hung up on; not after `close`.
    """

    def __init__(
        self, post: Post, on_message: Callable[[Message, list[int]], None], on_end: Callable[[], None]
    ) -> None:
        self._post = post
        self._on_message = on_message
        self._on_end = on_end
        self._open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(post.fileno(), self._on_readable)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or hang up if the peer has gone or has not read for so long that there is no room."""
        if not self._open:
            return
        try:
            sent = self._post.try_send(encode(message), fds)
        except OSError:
            sent = False
        if not sent:
            self._loop.call_soon(self._end)

    def close(self) -> None:
        """Hang up."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._post.fileno())
            self._post.close()

    def _on_readable(self) -> None:
        try:
            while self._open:
                letter = self._post.try_receive()
                if letter is None:
                    self._end()
                else:
                    self._take(letter)
        except BlockingIOError:
            return
        except (ValueError, OSError) as error:
            log.error("control.refused", reason=str(error))
            self._end()

    def _take(self, letter: Letter) -> None:
        try:
            message = decode(letter.data, len(letter.fds))
        except ValueError:
            letter.discard()
            raise
        self._on_message(message, letter.fds)

    def _end(self) -> None:
        if self._open:
            self.close()
            self._on_end()
