"""The application that every server serves: streams of numbered events, and an echo.

    GET  /alone/raw        an event every 20 ms, each sent and awaited; every stream keeps its own time
    GET  /alone/starlette  the same by Starlette's StreamingResponse
    GET  /step/raw         the same as /alone/raw, but all streams in step, as an engine makes tokens
    GET  /step/written     in step, and written by the step itself: for servers with "http.response.write"
    GET  /end              every stream that runs ends after its next event
    POST /echo             JSON in, JSON out

An event is 200 bytes. The last one of a stream says how many came before it. Runs wherever Starlette is installed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import StreamingResponse

STEP_S = 0.02
EVENT_BYTES = 200
EVENTS_MAX = 30_000
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


def event(words: str) -> bytes:
    """A server-sent event of EVENT_BYTES."""
    head, tail = f'data: {{"said":"{words}","more":"'.encode(), b'"}\n\n'
    return head + b"." * (EVENT_BYTES - len(head) - len(tail)) + tail


def last_event(count: int) -> bytes:
    """What a stream of `count` events says at its end."""
    return event(f"end {count:06d}")


EVENTS = [event(f"{number:06d}") for number in range(EVENTS_MAX)]
Next = Callable[[], Awaitable[None]]


class Steps:
    """Wakes all streams together, every STEP_S, as long as there are any."""

    def __init__(self) -> None:
        self.ending = False
        self._streams = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._written: dict[Any, tuple[list[int], asyncio.Future[int]]] = {}
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> None:
        if not self._streams:
            self.ending = False
        self._streams += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def __exit__(self, *_error: object) -> None:
        self._streams -= 1

    async def next(self) -> None:
        """Wait for the next step."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    async def write_to(self, stream: Any) -> int:
        """Have the steps write to `stream` themselves, to the end: how many events."""
        ended = asyncio.get_running_loop().create_future()
        self._written[stream] = ([0], ended)
        return await ended

    async def _run(self) -> None:
        while self._streams:
            await asyncio.sleep(STEP_S)
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)
            for stream, (count, ended) in self._written.items():
                if self.ending:
                    ended.set_result(count[0])
                else:
                    stream.write(EVENTS[count[0]])
                    count[0] += 1
            if self.ending:
                self._written.clear()
        self._task = None


steps = Steps()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer one request."""
    if scope["type"] == "http":
        await _ANSWERS[scope["path"]](scope, receive, send)


async def _alone() -> None:
    await asyncio.sleep(STEP_S)


async def _raw(send: Any, until_next: Next) -> None:
    count = 0
    with steps:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while not steps.ending:
            await until_next()
            await send({"type": "http.response.body", "body": EVENTS[count], "more_body": True})
            count += 1
        await send({"type": "http.response.body", "body": last_event(count), "more_body": False})


async def _alone_raw(_scope: Any, _receive: Any, send: Any) -> None:
    await _raw(send, _alone)


async def _step_raw(_scope: Any, _receive: Any, send: Any) -> None:
    await _raw(send, steps.next)


async def _step_written(scope: Any, _receive: Any, send: Any) -> None:
    with steps:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        count = await steps.write_to(scope["extensions"]["http.response.write"])
        await send({"type": "http.response.body", "body": last_event(count), "more_body": False})


async def _alone_starlette(scope: Any, receive: Any, send: Any) -> None:
    async def events() -> AsyncIterator[bytes]:
        count = 0
        with steps:
            while not steps.ending:
                await _alone()
                yield EVENTS[count]
                count += 1
            yield last_event(count)

    await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)


async def _end(_scope: Any, _receive: Any, send: Any) -> None:
    steps.ending = True
    await _whole(send, b"{}")


async def _echo(_scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await _whole(send, json.dumps(json.loads(body)).encode())


async def _whole(send: Any, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


_ANSWERS = {
    "/alone/raw": _alone_raw,
    "/alone/starlette": _alone_starlette,
    "/step/raw": _step_raw,
    "/step/written": _step_written,
    "/end": _end,
    "/echo": _echo,
}
