"""A restart of the front ends: one after the other, each replaced before it goes; one that does not serve stops it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from aruntime.base.errors import InvalidRequest
from aruntime.control import front_ends as room
from aruntime.control.actions import Actions
from aruntime.control.front_ends import FrontEnds
from aruntime.control.journal import Journal
from aruntime.control.lives import NotPossible
from aruntime.wire.actions import RestartFrontEnds, ShowFrontEnds


class Played:
    """A worker whose process does what the test says: it serves at once, and leaves when asked to unless `stubborn`."""

    def __init__(self, house: "House", number: int) -> None:
        self.number, self.child, self.state = number, None, "starting"
        self.stubborn = False
        self._house = house

    def start(self) -> None:
        self._house.tell(f"{self.number} starts")
        self.child: Any = SimpleNamespace(pid=self.number)
        fate = self._house.fates.get(self.number, "serves")
        if fate == "dies":
            self.child = None
        elif fate == "serves":
            self.state = "serving"

    def stop(self) -> None:
        self.state = "draining"

    def replace(self, deadline_s: float) -> None:
        self._house.tell(f"{self.number} is replaced")
        self.stop()
        if not self.stubborn:
            self.child = None

    def kill(self) -> None:
        if self.child is not None:
            self._house.tell(f"{self.number} is killed")
            self.child = None


class House:
    """Front ends numbered as they were made; `told` is what happened to them."""

    def __init__(self, count: int, **fates: str) -> None:
        self.fates = {int(number.removeprefix("n")): fate for number, fate in fates.items()}
        self.told: list[str] = []
        self.made: list[Played] = []
        self.journal = Journal(None)
        self.front_ends = FrontEnds(self._new, count, self._until, self.journal, drain_timeout_s=0.2)
        self.front_ends.start()
        self.told.clear()

    def tell(self, what: str) -> None:
        self.told.append(what)

    def states(self) -> list[tuple[int, str]]:
        return [(one["pid"], one["state"]) for one in self.front_ends.facts()["front_ends"]]

    def audit(self) -> list[tuple[str, str, str, str, str]]:
        entries = self.journal.audit(10)
        return [(one.actor, one.action, one.subject, one.outcome, one.detail) for one in entries]

    def _new(self) -> Any:
        self.made.append(Played(self, len(self.made)))
        return self.made[-1]

    async def _until(self, condition: Any, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():  # noqa: ASYNC110 - it is what the supervisor's is instead of
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True


@pytest.mark.parametrize("count", [1, 3])
async def test_each_is_replaced_when_the_next_one_serves(count: int) -> None:
    house = House(count)
    await house.front_ends.restart("admin")
    steps = [[f"{count + number} starts", f"{number} is replaced"] for number in range(count)]
    assert house.told == [step for pair in steps for step in pair]
    assert house.states() == [(count + number, "serving") for number in range(count)]
    assert house.audit() == [("admin", "restart", "front ends", "done", f"{count} of {count}")]


@pytest.mark.parametrize(
    ("fate", "why"),
    [("dies", "the new front end died"), ("stays away", "the new front end did not serve within 0.2 s")],
)
async def test_one_that_does_not_serve_ends_the_restart_and_the_old_ones_go_on(
    monkeypatch: pytest.MonkeyPatch, fate: str, why: str
) -> None:
    monkeypatch.setattr(room, "_UP_S_MAX", 0.2)
    house = House(2, n3=fate)
    await house.front_ends.restart("admin")
    assert house.states() == [(1, "serving"), (2, "serving")]
    assert house.front_ends.facts()["restart"] == {"count": 2, "replaced": 1, "state": "failed", "reason": why}
    assert house.audit() == [("admin", "restart", "front ends", "failed", f"1 of 2: {why}")]
    await house.front_ends.restart("admin")
    assert house.front_ends.facts()["restart"]["state"] == "done"


async def test_an_old_one_that_does_not_leave_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LAST_WORDS_S", 0.1)
    house = House(1)
    house.made[0].stubborn = True
    await house.front_ends.restart("admin")
    assert house.told == ["1 starts", "0 is replaced", "0 is killed"]
    assert house.states() == [(1, "serving")]


async def test_a_second_restart_is_refused_and_the_end_of_the_server_cuts_the_first_short() -> None:
    house = House(1, n1="stays away")
    restart = asyncio.create_task(house.front_ends.restart("admin"))
    await asyncio.sleep(0.02)
    assert house.states() == [(0, "serving"), (1, "starting")]
    with pytest.raises(NotPossible, match="a restart is under way"):
        house.front_ends.restart("admin")
    restart.cancel()
    with pytest.raises(asyncio.CancelledError):
        await restart
    assert house.audit() == [("admin", "restart", "front ends", "cut short", "0 of 1: the server ended")]
    house.front_ends.kill()
    assert house.front_ends.gone


async def test_an_action_begins_it_and_is_answered_at_once() -> None:
    house, begun = House(1), []
    catalog: Any = SimpleNamespace(spawn=begun.append)
    host: Any = SimpleNamespace(journal=house.journal)
    actions = Actions(catalog, host, house.front_ends)
    answer = await actions.do(RestartFrontEnds(), actor="admin")
    assert answer["restart"] == {"count": 1, "replaced": 0, "state": "running", "reason": ""}
    with pytest.raises(InvalidRequest, match="under way"):
        await actions.do(RestartFrontEnds(), actor="admin")
    await begun[0]
    facts = await actions.do(ShowFrontEnds(), actor="admin")
    assert facts["restart"]["state"] == "done"
    json.dumps(facts)
    assert [(one[1], one[3]) for one in house.audit()] == [
        ("restart", "done"),
        ("restart-front-ends", "refused"),
        ("restart-front-ends", "done"),
    ]


async def test_front_ends_that_others_started_are_theirs_to_restart() -> None:
    host: Any = SimpleNamespace(journal=Journal(None))
    nobody: Any = None
    for action in (RestartFrontEnds(), ShowFrontEnds()):
        with pytest.raises(InvalidRequest, match="started by somebody else"):
            await Actions(nobody, host).do(action, actor="admin")
