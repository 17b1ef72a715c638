"""The process of one front end: two listeners in one event loop, started by the supervisor with inherited sockets.

python -m aruntime.cli.frontend --public-fd N --admin-fd N --control-fd N [--answers F] [--certfile F --keyfile F]

hello ──► welcome ──► serve ──Drain or SIGTERM──► requests in flight end, new ones are answered 503 ──► leave
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets

from aruntime.base import log
from aruntime.control.agent import Agent
from aruntime.h2 import server as h2
from aruntime.http.app import build_app
from aruntime.http.keeper import open_keeper
from aruntime.http.limits import HttpLimits
from aruntime.queue.post import Post

# ASGI's own types differ between hypercorn and starlette.
App = Callable[[Any, Any, Any], Awaitable[None]]

# A request of this front end that was sent SIGTERM by somebody else than its supervisor may take so long to end.
_DRAIN_S = 30.0
# After the limit: what is cut short is told to the clients.
_LAST_WORDS_S = 1.0
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


def server_config(certfile: str | None, keyfile: str | None) -> Config:
    """Hypercorn's settings, where its own do not fit."""
    config = Config()
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.certfile, config.keyfile = certfile, keyfile
    config.backlog = 1024
    config.graceful_timeout = _CLOSE_S
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = 2**62  # of HTTP/1.1; a connection of HTTP/2 has no such limit
    # Ours are below and answered in words (http/edge.py); what is longer ends with the connection.
    config.h11_max_incomplete_size = config.h2_max_header_list_size = 2 * HttpLimits().header_bytes_max
    config.h2_max_concurrent_streams = 512
    return config


async def serve(options: argparse.Namespace) -> None:
    """Serve until drained, or until the supervisor is gone."""
    loop = asyncio.get_running_loop()
    drain_by: asyncio.Future[float] = loop.create_future()

    def on_drain(deadline_s: float) -> None:
        if not drain_by.done():
            drain_by.set_result(deadline_s)
            h2.drain()

    agent = Agent(on_drain)
    loop.add_signal_handler(signal.SIGTERM, lambda: agent.drain(time.monotonic() + _DRAIN_S))
    await agent.join(Post.from_fd(options.control_fd))

    keeper = open_keeper(options.answers) if options.answers is not None else None
    if keeper is not None:
        await keeper.sweep()
    requests, stop = OpenRequests(), asyncio.Event()
    public = server_config(options.certfile, options.keyfile)
    admin = server_config(None, None)
    servers = [
        _serve_on(options.public_fd, requests.around(build_app(agent.view, keeper=keeper)), public, stop),
        _serve_on(
            options.admin_fd,
            requests.around(build_app(agent.view, commands=agent.commands, keeper=keeper)),
            admin,
            stop,
        ),
    ]
    lost = asyncio.create_task(agent.lost.wait())
    endings: list[asyncio.Future[Any]] = [drain_by, lost, *servers]
    await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    if drain_by.done():
        await requests.until_none(drain_by.result() - time.monotonic() + _LAST_WORDS_S)
        if keeper is not None:
            await keeper.until_none(drain_by.result() - time.monotonic() + _LAST_WORDS_S)
    lost.cancel()
    stop.set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*servers), 2 * _CLOSE_S)
    agent.leave()


def _serve_on(fd: int, app: App, config: Config, stop: asyncio.Event) -> "asyncio.Future[Any]":
    """Serve `app` on an inherited listening socket until `stop`."""
    listener = socket.socket(fileno=fd)
    listener.setblocking(False)
    listener.set_inheritable(False)
    sockets = Sockets([listener], [], []) if config.ssl_enabled else Sockets([], [listener], [])
    serving = worker_serve(ASGIWrapper(app), config, sockets=sockets, shutdown_trigger=stop.wait)
    return asyncio.ensure_future(serving)


def main() -> int:
    """Run the front end on its inherited descriptors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--public-fd", "--admin-fd", "--control-fd"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--certfile")
    parser.add_argument("--keyfile")
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args()
    log.configure(options.log_level)
    gc.freeze()  # what was imported stays: it need not be looked through for garbage while streams wait
    h2.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is the supervisor's to handle
    try:
        uvloop.run(serve(options))
    except ConnectionError:
        return 1  # the supervisor is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
