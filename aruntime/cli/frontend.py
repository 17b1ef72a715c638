"""The process of one front end: two listeners in one event loop, started by the supervisor with inherited sockets.

python -m aruntime.cli.frontend --public-fd N --admin-fd N --control-fd N [--answers F]

hello ──► welcome ──► serve ──Drain or SIGTERM──► requests in flight end, new ones are answered 503 ──► leave
                        └──replaced──► listens no more, and serves whom it has until they rest ──Drain, at half time──►
"""

import argparse
import asyncio
import contextlib
import gc
import resource
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from hypercorn.config import Config

from aruntime.base import log
from aruntime.control.agent import Agent
from aruntime.h2.limits import H2Limits
from aruntime.h2.listener import App, Listener
from aruntime.http.app import build_app
from aruntime.http.keeper import Keeper, open_keeper
from aruntime.http.limits import HttpLimits
from aruntime.queue.post import Post

# A request of this front end that was sent SIGTERM by somebody else than its supervisor may take so long to end.
_DRAIN_S = 30.0
# After the limit: what is cut short is told to the clients.
_LAST_WORDS_S = 1.0
# Descriptors: the connections of two listeners; rings, files and sockets between processes.
_FILES = 2 * H2Limits().connections_max + 1024
# Connections at rest are closed at once when serving stops; others may be in their last write.
_CLOSE_S = 1.0


class OpenRequests:
    """Counts the requests that have not been answered to the end."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def around(self, app: App) -> App:
        """`app`, counted."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            self._count += 1
            self._none.clear()
            try:
                await app(scope, receive, send)
            finally:
                self._count -= 1
                if self._count == 0:
                    self._none.set()

        return counted

    async def until_none(self, timeout_s: float) -> None:
        """Wait until there is none, but not longer than `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), timeout_s)


def server_config() -> Config:
    """Hypercorn's settings, where its own do not fit."""
    config = Config()
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.backlog = 1024
    config.graceful_timeout = _CLOSE_S
    config.ssl_handshake_timeout = H2Limits().greeting_s_max
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = 2**62  # of HTTP/1.1; a connection of HTTP/2 has no such limit
    # Ours are below and answered in words (http/edge.py); what is longer ends with the connection.
    config.h11_max_incomplete_size = config.h2_max_header_list_size = 2 * HttpLimits().header_bytes_max
    config.h2_max_concurrent_streams = 512
    return config


class FrontEnd:
    """Serves until drained, or until the supervisor is gone."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._drain_by: asyncio.Future[float] = self._loop.create_future()
        self._replaced: asyncio.Future[float] = self._loop.create_future()
        self._agent = Agent(self._on_drain, self._on_certificate, self._on_replaced)
        self._requests = OpenRequests()
        self._keeper: Keeper | None = None
        self._tls: ssl.SSLContext | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._public: Listener | None = None
        self._listeners: list[Listener] = []

    async def serve(self) -> None:
        """The whole life. ConnectionError when there is no supervisor."""
        agent = self._agent
        self._loop.add_signal_handler(signal.SIGTERM, lambda: agent.drain(time.monotonic() + _DRAIN_S))
        await agent.join(Post.from_fd(self._options.control_fd))
        await agent.taken_up()  # who connects may ask for any model that is ready
        await self._listen()
        agent.listens()
        lost = asyncio.create_task(agent.lost.wait())
        endings: list[asyncio.Future[Any]] = [self._drain_by, lost]
        await asyncio.wait([self._replaced, *endings], return_when=asyncio.FIRST_COMPLETED)
        if self._replaced.done():
            leaving = asyncio.create_task(self._leave(self._replaced.result()))
            await asyncio.wait([leaving, *endings], return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
        if self._drain_by.done():
            await self._until_answered(self._drain_by.result() + _LAST_WORDS_S)
        lost.cancel()
        await asyncio.gather(*(listener.stop() for listener in self._listeners))
        agent.leave()

    async def _listen(self) -> None:
        if self._options.answers is not None:
            self._keeper = open_keeper(self._options.answers)
        if self._keeper is not None:
            await self._keeper.sweep()
        view, config = self._agent.view, server_config()
        public = build_app(view, keeper=self._keeper)
        admin = build_app(view, commands=self._agent.commands, keeper=self._keeper)
        self._public = Listener(_inherited(self._options.public_fd), self._requests.around(public), config)
        own = Listener(_inherited(self._options.admin_fd), self._requests.around(admin), config)
        self._listeners = [self._public, own]
        await self._public.listen(self._tls)
        await own.listen()

    async def _leave(self, deadline_s: float) -> None:
        """Let go of the connections as it suits them; of those that are left by half of the time, as at the end."""
        half_s = (time.monotonic() + deadline_s) / 2
        for listener in self._listeners:
            listener.leave()
        await asyncio.sleep(min(H2Limits().last_rest_s, half_s - time.monotonic()))  # some may still shake hands
        for listener in self._listeners:
            await listener.until_closed(half_s - time.monotonic())
        self._agent.drain(deadline_s)

    async def _until_answered(self, deadline_s: float) -> None:
        await self._requests.until_none(deadline_s - time.monotonic())
        if self._keeper is not None:
            await self._keeper.until_none(deadline_s - time.monotonic())

    def _on_drain(self, deadline_s: float) -> None:
        if not self._drain_by.done():
            self._drain_by.set_result(deadline_s)
            for listener in self._listeners:
                listener.drain()

    def _on_replaced(self, deadline_s: float) -> None:
        if not self._replaced.done():
            self._replaced.set_result(deadline_s)

    def _on_certificate(self, context: ssl.SSLContext) -> None:
        self._tls = context
        if self._public is not None:
            self._renewal = self._loop.create_task(self._public.listen(context))


async def _serve(options: argparse.Namespace) -> None:
    await FrontEnd(options).serve()


def _inherited(fd: int) -> socket.socket:
    listening = socket.socket(fileno=fd)
    listening.setblocking(False)
    listening.set_inheritable(False)
    return listening


def allow_files() -> None:
    """Let this process have as many descriptors as its connections may want, if it may: many shells give 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> int:
    """Run the front end on its inherited descriptors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--public-fd", "--admin-fd", "--control-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    log.configure(options.log_level)
    allow_files()
    # What was imported stays: it need not be looked through for garbage while streams wait; and a step's few hundred
    # objects are not yet garbage worth looking for.
    gc.freeze()
    gc.set_threshold(10_000)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is the supervisor's to handle
    try:
        uvloop.run(_serve(options))
    except ConnectionError:
        return 1  # the supervisor is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
