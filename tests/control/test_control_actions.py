"""What operators want, and what of it stands in the audit trail. The catalog is the test's, the journal a real one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from aruntime.base.errors import Draining, InvalidRequest, ModelNotFound
from aruntime.control.actions import Actions
from aruntime.control.journal import AUDIT_PAGE_MAX, Journal
from aruntime.control.lives import Life
from aruntime.wire.actions import Action, LoadVersion, ReadAudit, ReleaseVersion, SetLabel, UnloadVersion


class Slow:
    """A version whose load never ends."""

    model, number = "demo", 2
    ready, resident = False, False
    life = Life()

    async def load(self) -> bool:
        await asyncio.Event().wait()
        return True

    def move(self, event: str, reason: str = "") -> bool:
        return self.life.move(event, reason)


class Desk:
    def __init__(self) -> None:
        self.journal = Journal(None)
        self.model = SimpleNamespace(name="demo", versions={2: Slow()}, labels={"stable": 1}, stable=None, rolling=None)
        catalog: Any = SimpleNamespace(models={"demo": self.model})
        host: Any = SimpleNamespace(journal=self.journal)
        self._actions = Actions(catalog, host)

    async def do(self, action: Action) -> dict[str, Any]:
        return await self._actions.do(action, actor="admin", request_id="r-1")

    def audit(self) -> list[tuple[str, str, str, str, str]]:
        entries = self.journal.audit(100)
        return [(one.actor, one.action, one.subject, one.outcome, one.detail) for one in entries]


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_what_the_end_of_the_server_cuts_short_is_answered_and_not_called_done(desk: Desk) -> None:
    loading = asyncio.create_task(desk.do(LoadVersion(model="demo", version=2)))
    await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(Draining):
        await loading
    assert desk.audit() == [("admin", "load", "demo@2", "cut short", "the server ended")]


async def test_what_is_not_possible_is_refused_and_what_fails_says_why(desk: Desk) -> None:
    with pytest.raises(InvalidRequest, match="cannot release"):
        await desk.do(ReleaseVersion(model="demo", version=2))
    with pytest.raises(ModelNotFound, match="no version 7"):
        await desk.do(SetLabel(model="demo", label="beta", version=7))
    assert desk.audit() == [
        ("admin", "set-label", "demo@7 label beta", "failed", "there is no version 7 of demo"),
        ("admin", "release", "demo@2", "refused", "a version that is discovered cannot release"),
    ]


@pytest.mark.parametrize("role", ["stable", "candidate"])
@pytest.mark.parametrize("version", [2, None])
async def test_a_version_that_a_rollout_needs_is_not_unloaded(desk: Desk, role: str, version: int | None) -> None:
    other = SimpleNamespace(number=1)
    both = {"stable": other, "candidate": other, role: desk.model.versions[2]}
    desk.model.rolling = SimpleNamespace(**both)
    with pytest.raises(InvalidRequest, match="a rollout is under way"):
        await desk.do(UnloadVersion(model="demo", version=version))
    assert desk.audit()[0][3] == "refused"


async def test_more_of_the_audit_trail_than_can_be_handed_over_is_refused_and_less_of_it_is_not(desk: Desk) -> None:
    for _ in range(AUDIT_PAGE_MAX):
        desk.journal.record("admin", "load", "demo@2", "failed", "x" * 2000)
    with pytest.raises(InvalidRequest, match="or fewer entries"):
        await desk.do(ReadAudit(limit=AUDIT_PAGE_MAX))
    assert len((await desk.do(ReadAudit(limit=400)))["audit"]) == 400
    assert len(desk.journal.audit(1000)) == 1000  # looking leaves no trail
