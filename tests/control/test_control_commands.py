"""A front end's actions on their way to the supervisor: bounded, answered once, and never left waiting for nobody."""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from aruntime.base.errors import ModelNotReady, Overloaded, Unavailable
from aruntime.control import commands as commands_room
from aruntime.control.commands import ACTIONS_MAX, Commands
from aruntime.queue.post import enclose, read_enclosure
from aruntime.wire.actions import LoadVersion, Show, decode_action
from aruntime.wire.control import Act, Message, Outcome


class Line:
    """What was sent to the supervisor, and its answers."""

    def __init__(self) -> None:
        self.commands = Commands(self._send)
        self.sent: list[tuple[Act, object]] = []

    def _send(self, message: Message, fds: Sequence[int]) -> None:
        assert isinstance(message, Act)
        self.sent.append((message, decode_action(read_enclosure(fds[0]))))

    def answer(
        self, number: int, code: str = "ok", result: object = None, message: str = "", param: str | None = None
    ) -> None:
        enclosure = enclose(json.dumps(result if result is not None else {}).encode())
        self.commands.ended(Outcome(number=number, code=code, message=message, param=param), enclosure)
        os.close(enclosure)

    async def act(self, model: str = "demo") -> "asyncio.Task[object]":
        task: asyncio.Task[object] = asyncio.create_task(self.commands.act(LoadVersion(model=model), actor="local"))
        await asyncio.sleep(0)
        return task


@pytest.fixture
async def line() -> Line:
    return Line()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_an_action_travels_with_its_actor_and_comes_back_with_its_result(line: Line) -> None:
    task = asyncio.create_task(line.commands.act(Show(model="demo"), actor="admin", request_id="r-1"))
    await asyncio.sleep(0)
    (act, action) = line.sent[0]
    assert (act.actor, act.request_id, action) == ("admin", "r-1", Show(model="demo"))
    line.answer(act.number, result={"models": []})
    assert await task == {"models": []}


async def test_a_refusal_is_raised_as_the_error_that_it_was(line: Line) -> None:
    task = await line.act()
    line.answer(line.sent[0][0].number, "model_not_ready", message="no weights", param="version")
    with pytest.raises(ModelNotReady, match="no weights") as refused:
        await task
    assert refused.value.param == "version"


async def test_no_more_than_so_many_are_under_way_and_each_that_ends_makes_room(line: Line) -> None:
    tasks = [await line.act() for _ in range(ACTIONS_MAX)]
    with pytest.raises(Overloaded, match=f"{ACTIONS_MAX} actions are under way"):
        await (await line.act())
    assert len(line.sent) == ACTIONS_MAX
    line.answer(line.sent[0][0].number)
    await tasks[0]
    tasks.append(await line.act())
    assert len(line.sent) == ACTIONS_MAX + 1
    line.commands.lost()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lost_supervisor_ends_what_waits_and_refuses_what_comes_until_it_is_back(line: Line) -> None:
    tasks = [await line.act(), await line.act()]
    line.commands.lost()
    for task in (*tasks, await line.act()):
        with pytest.raises(Unavailable, match="before it was done"):
            await task
    assert len(line.sent) == 2
    line.commands.found()
    task = await line.act()
    line.answer(line.sent[2][0].number, result={"again": True})
    assert await task == {"again": True}


async def test_an_outcome_that_nobody_waits_for_is_dropped(line: Line) -> None:
    gone = await line.act()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    line.answer(line.sent[0][0].number, result={"too": "late"})
    line.answer(999)
    task = await line.act()
    number = line.sent[1][0].number
    line.answer(number, result={"first": True})
    line.answer(number, "model_error", message="twice")
    assert await task == {"first": True}


async def test_no_descriptor_and_no_place_is_left_behind(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    for code in ("ok", "model_error"):
        task = await line.act()
        line.answer(line.sent[-1][0].number, code)
        await asyncio.gather(task, return_exceptions=True)
    cancelled = await line.act()
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)

    def full(_: bytes) -> int:
        raise OSError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(commands_room, "enclose", full)
        for _ in range(ACTIONS_MAX + 1):
            with pytest.raises(OSError, match="too many"):
                await (await line.act())
    assert descriptors() == before
    task = await line.act()
    line.answer(line.sent[-1][0].number)
    assert await task == {}
