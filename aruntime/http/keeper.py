"""Generations that go on when their client leaves, and answers that are kept: one front end's.

    create ──► Recording: a generation nobody can disconnect ──events──► store (every FLUSH_S, beside the loop)
                   └──► follow: its client, and whoever comes back with the number of the last event it has

A follower reads a recording of its own front end from memory, one of another's from the store. An answer's end is
written before it is told. What its owner died over has failed; whoever asks first writes that down.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
from starlette.types import Message

from aruntime.base import log
from aruntime.base.errors import ModelError, Overloaded, ServingError, Unavailable
from aruntime.control.kept import RUNNING, AnswerStore, Event, Kept
from aruntime.h2.stream import EXTENSION
from aruntime.http.errors import as_refusal
from aruntime.http.generation import Generation
from aruntime.wire import responses_answers, stored_chat

FLUSH_S = 0.1
LOOK_S = 0.2  # how often a follower looks for what another front end has written
CANCEL_S = 5.0
FOLLOWERS_MAX = 256  # who came back for events; each that reads another front end's looks every LOOK_S
# Events that its owner has told and not written when it dies are fewer: its last event has a number beyond theirs.
_UNWRITTEN_MAX = 1 << 16
Result = TypeVar("Result")


class Recorded(Protocol):
    """An answer that remembers what it tells: one of the shapes of a generation."""

    id: str
    state: str

    def response(self) -> dict[str, Any]: ...
    def failed(self, error: ServingError) -> bytes: ...
    def cancelled(self) -> bytes: ...


class Recording:
    """One generation on its way into the store. `error` is why it has not even begun."""

    def __init__(self, keeper: "Keeper", tenant: str, answer: Recorded, items: bytes, request_id: str) -> None:
        self.answer = answer
        self.tenant = tenant
        self.items = items
        self.request_id = request_id
        self.headers: list[tuple[bytes, bytes]] = []
        self.error: Exception | None = None
        self.over = False
        self._keeper = keeper
        self._events: list[bytes] = []
        self._kept = 0
        self.begun = False
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    def kept(self) -> Kept:
        """It, as it is now."""
        now = orjson.dumps(self.answer.response())
        return Kept(self.answer.id, self.tenant, self._keeper.store.owner, RUNNING, now, self.items)

    async def begin(self) -> None:
        """Let the store know of it."""
        await self._keeper.run(partial(self._keeper.store.begin, self.kept()))
        self.begun = True

    def start(self, generation: Generation) -> None:
        """Have it go on by itself."""
        self._keeper.add(self)
        self._task = asyncio.create_task(self._run(generation))

    async def first(self) -> None:
        """Wait until there is an event to tell. Raises what came in its place."""
        while not self._events and not self.over:
            await self._news.wait()
        if self.error is not None:
            raise self.error

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The events beyond number `after`, until the last, with their numbers as `id`."""
        place = after + 1
        while True:
            news, over = self._news, self.over
            while place < len(self._events):
                yield numbered(place, self._events[place])
                place += 1
            if over:
                return
            if place >= len(self._events):
                await news.wait()

    async def cancel(self) -> None:
        """End it, if it has not ended."""
        if self._task is not None and not self._ending:
            self._task.cancel()
        await self.ended()

    async def ended(self) -> None:
        """Wait until it has."""
        while not self.over:
            await self._news.wait()

    def write(self, data: bytes) -> bool:
        """Take events of its generation, which may always go on."""
        self._events += split(data)
        self._wake()
        return True

    async def drained(self) -> None:
        """Whoever reads slowly reads from here."""

    def pending(self) -> list[Event]:
        """The events that nobody has written yet."""
        return [(self.answer.id, self._kept + i, event) for i, event in enumerate(self._events[self._kept :])]

    def written(self, events: int) -> None:
        """So many of all its events are written."""
        self._kept = max(self._kept, events)

    async def _run(self, generation: Generation) -> None:
        try:
            await generation({"type": "http", "extensions": {EXTENSION: self}}, _stay, self._send)
        except asyncio.CancelledError:
            await self._end(self.answer.cancelled())
        except Exception as error:
            if self.begun:
                await self._end(self.answer.failed(as_refusal(error, self.request_id)))
            else:
                self.error = error
        finally:
            self.over = True
            self._wake()
            self._keeper.drop(self)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.headers = message["headers"]
            if not self.begun:
                await self.begin()
        elif message["more_body"]:
            self.write(message["body"])
        else:
            await self._end(message["body"])

    async def _end(self, last: bytes) -> None:
        """Write the last events and the answer, then tell of them."""
        self._ending = True
        events = split(last)
        told = len(self._events)
        rows = self.pending() + [(self.answer.id, told + i, event) for i, event in enumerate(events)]
        status, answer = self.answer.state, orjson.dumps(self.answer.response())
        try:
            await self._keeper.run(lambda: self._keeper.store.end(self.answer.id, status, answer, rows))
        except ServingError as error:
            events = split(self.answer.failed(error))
        self._events += events
        self._kept = len(self._events)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Keeper:
    """One front end's recordings, and the store that it shares with the others."""

    def __init__(self, store: AnswerStore) -> None:
        self.store = store
        self._thread = ThreadPoolExecutor(1, "answers")
        self._running: dict[str, Recording] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._followers = 0

    def glance(self) -> None:
        """Overloaded when as many follow kept answers already as may."""
        if self._followers >= FOLLOWERS_MAX:
            raise Overloaded("too many clients follow answers that are kept", retry_after_s=1.0)

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` makes of the store, in its thread. Unavailable: the disk is full, or the file is damaged."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            log.error("answers.failed", reason=str(error))
            raise Unavailable("answers cannot be kept at the moment") from None

    def add(self, recording: Recording) -> None:
        """It has begun."""
        self._running[recording.answer.id] = recording
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())

    def drop(self, recording: Recording) -> None:
        """It has ended."""
        self._running.pop(recording.answer.id, None)

    def running(self, tenant: str, id_: str) -> Recording | None:
        """A recording of this front end that has not ended."""
        found = self._running.get(id_)
        return found if found is not None and found.tenant == tenant else None

    async def find(self, tenant: str, id_: str) -> Kept | None:
        """A tenant's answer, as far as it is kept. One whose owner has died has failed."""

        def look() -> Kept | None:
            kept = self.store.find(tenant, id_)
            if kept is None or kept.status != RUNNING or self.store.lives(kept.owner):
                return kept
            self._fail(kept)
            return self.store.find(tenant, id_)

        return await self.run(look)

    async def follow(self, kept: Kept, after: int) -> AsyncIterator[bytes]:
        """The events of an answer beyond number `after`, until the last, wherever it is generated."""
        self._followers += 1
        try:
            recording = self.running(kept.tenant, kept.id)
            async for event in self._read(kept, after) if recording is None else recording.follow(after):
                yield event
        finally:
            self._followers -= 1

    async def _read(self, kept: Kept, after: int) -> AsyncIterator[bytes]:
        now: Kept | None = kept
        while now is not None:
            while events := await self.run(partial(self.store.events, kept.id, after)):
                for number, event in events:
                    after = number
                    yield numbered(number, event)
            if now.status != RUNNING:
                return
            await asyncio.sleep(LOOK_S)
            now = await self.find(kept.tenant, kept.id)

    async def end(self, kept: Kept) -> Kept:
        """Have an answer end, wherever it is generated; it, as it is then. Its owner is given CANCEL_S to see it."""
        await self.run(partial(self.store.unwant, kept.id))
        if (recording := self.running(kept.tenant, kept.id)) is not None:
            await recording.cancel()
        for _ in range(int(CANCEL_S / LOOK_S)):
            now = await self.find(kept.tenant, kept.id)
            if now is None or now.status != RUNNING:
                return now or kept
            await asyncio.sleep(LOOK_S)
        return kept

    async def until_none(self, timeout_s: float) -> None:
        """Wait until nothing is generated for the store, but not longer than `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, timeout_s)):
                for recording in list(self._running.values()):
                    await recording.ended()

    async def sweep(self) -> None:
        """What front ends that are gone have left unfinished has failed."""

        def fail() -> None:
            for kept in self.store.left():
                self._fail(kept)

        with contextlib.suppress(Unavailable):
            await self.run(fail)

    def _fail(self, kept: Kept) -> None:
        number = self.store.last_event(kept.id) + _UNWRITTEN_MAX
        error = ModelError("the server that generated this response has ended")
        if kept.id.startswith(stored_chat.PREFIX):
            answer, event = stored_chat.failed_later(kept.answer, error)
        else:
            answer, event = responses_answers.failed_later(kept.answer, error, number)
        self.store.end(kept.id, "failed", answer, [(kept.id, number, event)])

    async def _flush(self) -> None:
        while self._running:
            await asyncio.sleep(FLUSH_S)
            batches = {recording: recording.pending() for recording in self._running.values() if recording.begun}
            events = [event for batch in batches.values() for event in batch]
            running = [recording.answer.id for recording in batches]
            with contextlib.suppress(Unavailable):  # they are written with the next ones
                for id_ in await self.run(partial(self.store.write, events, running)):
                    if (recording := self._running.get(id_)) is not None:
                        await recording.cancel()
                for recording, batch in batches.items():
                    recording.written(batch[-1][1] + 1 if batch else 0)


def open_keeper(path: Path) -> Keeper | None:
    """A keeper of what is at `path`; None, and a word in the log, when nothing can be kept there."""
    try:
        return Keeper(AnswerStore(path))
    except (OSError, sqlite3.Error) as error:
        log.error("answers.refused", reason=str(error))
        return None


def numbered(number: int, event: bytes) -> bytes:
    """An event with its number, which a client sends back as Last-Event-ID."""
    return b"id: %d\n%b" % (number, event)


def split(data: bytes) -> list[bytes]:
    """Each event of some."""
    return [event + b"\n\n" for event in data.split(b"\n\n") if event]


async def _stay() -> Message:
    """Its client may leave: it does not."""
    await asyncio.Future[Any]()
    raise AssertionError
