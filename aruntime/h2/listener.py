"""A listening socket whose connections Hypercorn's protocols serve, with ours for HTTP/2.

    listen ──► takes connections ──leave──► takes none, and those it has go when nobody is disturbed ──stop──► closed

Hypercorn's own `worker_serve` listens for as long as it serves, and with one certificate. Here a process can stop
listening and go on serving, while others take what comes to the socket that they share; and it can listen again with
another certificate, which those who are connected do not notice.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from aruntime.h2.server import Server

# ASGI's own types differ between hypercorn and starlette.
App = Callable[[Any, Any, Any], Awaitable[None]]


class Listener:
    """Serves `app` to whoever connects to `listening`, which it owns."""

    def __init__(self, listening: socket.socket, app: App, config: Config) -> None:
        self._socket = listening
        self._app = ASGIWrapper(app)
        self._config = config
        self._context = WorkerContext(None)
        self._server: asyncio.Server | None = None
        self._turn = asyncio.Lock()
        self._leaving = False
        self._open: dict[asyncio.Task[Any], Server] = {}

    async def listen(self, tls: ssl.SSLContext | None = None) -> None:
        """Take connections, over TLS if it is given; called again, with another certificate from now on."""
        async with self._turn:
            if self._leaving:
                return
            before = self._server
            self._server = await asyncio.start_server(
                self._serve,
                sock=self._socket.dup(),
                backlog=self._config.backlog,
                ssl=tls,
                ssl_handshake_timeout=self._config.ssl_handshake_timeout if tls is not None else None,
                ssl_shutdown_timeout=self._config.graceful_timeout if tls is not None else None,
            )
            if before is not None:
                before.close()
            if self._leaving:
                self._close()

    def leave(self) -> None:
        """Take no more connections; close those that are open once their answers are whole and they rest."""
        self._close()
        for server in self._open.values():
            server.leave()

    def drain(self) -> None:
        """Take no more requests on the connections of HTTP/2; they close when theirs are answered."""
        for server in self._open.values():
            server.drain()

    async def until_closed(self, timeout_s: float) -> None:
        """Wait until no connection is open, but not longer than `timeout_s`."""
        if self._open:
            await asyncio.wait(self._open, timeout=max(0.0, timeout_s))

    async def stop(self) -> None:
        """Close everything, the socket too; what is in its last write has the time that Hypercorn calls graceful."""
        self._close()
        self._socket.close()
        await self._context.terminated.set()
        await self.until_closed(self._config.graceful_timeout)
        late = list(self._open)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _close(self) -> None:
        self._leaving = True
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        server = Server(self._app, loop, self._config, self._context, {}, reader, writer)
        if self._leaving:  # it was accepted before, and has shaken hands meanwhile
            server.leave()
        self._open[task] = server
        try:
            await server
        finally:
            del self._open[task]
