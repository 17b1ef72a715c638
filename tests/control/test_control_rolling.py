"""A rollout is driven: what it wants is loaded and leaves, also when engines die, operators change their mind, or the
server is killed."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from control_house import Build, House, act, ask, state_of, until

from aruntime.base.errors import InvalidRequest, ModelNotReady
from aruntime.base.names import ModelRef
from aruntime.control import catalog
from aruntime.control import version as version_room
from aruntime.control.agent import Agent
from aruntime.control.model import Model
from aruntime.control.repository import publish
from aruntime.control.rollout.rolling import Rolling
from aruntime.wire import actions
from aruntime.wire.actions import Steering

BY_HAND = "[rollout]\nwindow_s = 1000.0\nshadow_share = 0.0\nsteps = [1.0]\n"
BAKED_SOON = "[rollout]\nwindow_s = 1000.0\nshadow_share = 0.0\nsteps = [1.0]\nbake_s = 0.2\n"
BEGIN = actions.BeginRollout(model="demo", version=2)


@pytest.fixture(autouse=True)
def _scan_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SCAN_S", 0.1)
    monkeypatch.setattr(catalog, "WATCH_S", 0.05)


@pytest.fixture
def root(root: Path, checkpoint: Path) -> Path:
    """Rollouts move by hand."""
    (root / "demo" / "model.toml").write_text(BY_HAND)
    return root


async def second(house: House, root: Path, checkpoint: Path) -> Agent:
    """A front end that knows of a second version."""
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    return agent


async def steer(agent: Agent, to: Steering) -> dict[str, object]:
    return await act(agent, actions.SteerRollout(model="demo", to=to))


async def rollout(agent: Agent) -> dict[str, Any]:
    """How the rollout is; empty when none is under way."""
    shown: Any = await act(agent, actions.Show(model="demo"))
    return shown["models"][0]["rollout"] or {}


async def stage(agent: Agent, wanted: str) -> None:
    """Wait until the rollout has come so far; "" is its end."""
    while (await rollout(agent)).get("stage", "") != wanted:
        pass


def stable(agent: Agent) -> int:
    return agent.view.resolve(ModelRef("demo")).version


@pytest.fixture
def look_slowly(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], threading.Event]:
    """Has the files of a version take long to look into: until the event is set."""

    def slow(number: int) -> threading.Event:
        go_on, look_into = threading.Event(), version_room.Version._look_into

        def look(version: version_room.Version) -> object:
            if version.number == number:
                go_on.wait(10)
            return look_into(version)

        monkeypatch.setattr(version_room.Version, "_look_into", look)
        return go_on

    return slow


async def test_an_earlier_failure_of_a_version_is_not_held_against_the_try_under_way(
    house: House, root: Path, checkpoint: Path, look_slowly: Callable[[int], threading.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ticks: list[float] = []
    tick = Rolling.tick

    def count(rolling: Rolling, now_s: float) -> None:
        tick(rolling, now_s)
        ticks.append(now_s)

    monkeypatch.setattr(Rolling, "tick", count)
    agent = await second(house, root, checkpoint)
    toml = root / "demo" / "2" / "version.toml"
    kept = toml.read_text()
    toml.unlink()
    with pytest.raises(ModelNotReady):
        await act(agent, actions.LoadVersion(model="demo", version=2))
    assert state_of(agent, 2) == "failed"
    toml.write_text(kept)
    go_on = look_slowly(2)
    await act(agent, BEGIN)
    await until(lambda: len(ticks) > 4)
    assert state_of(agent, 2) == "failed"  # from last time
    assert (await rollout(agent))["stage"] == "preparing"
    go_on.set()
    await stage(agent, "canary")


async def test_a_roll_back_stops_a_candidate_whose_load_has_not_begun(
    house: House, root: Path, checkpoint: Path, look_slowly: Callable[[int], threading.Event]
) -> None:
    agent = await second(house, root, checkpoint)
    go_on = look_slowly(2)
    await act(agent, BEGIN)
    await steer(agent, "roll-back")
    go_on.set()
    await stage(agent, "")
    assert len(house.engines.started) == 1
    assert state_of(agent, 2) == "verified"


async def test_a_roll_back_does_not_wait_until_the_candidate_is_loaded(
    house: House, root: Path, checkpoint: Path
) -> None:
    (checkpoint / "probe.txt").write_text("waits")  # its golden questions are never answered
    agent = await second(house, root, checkpoint)
    await act(agent, BEGIN)
    await until(lambda: state_of(agent, 2) == "probing")
    await steer(agent, "roll-back")
    await stage(agent, "")
    assert state_of(agent, 2) == "unloaded"


async def test_a_rollout_does_not_complete_while_the_candidate_has_no_engine(
    house: House, root: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "demo" / "model.toml").write_text(BAKED_SOON)
    agent = await second(house, root, checkpoint)
    await act(agent, BEGIN)
    await stage(agent, "canary")
    monkeypatch.setattr("aruntime.control.replica.BACKOFF_FIRST_S", 1.5)
    house.engines.started[-1].kill()
    await until(lambda: len(list(agent.view.routes())) == 1)
    with pytest.raises(InvalidRequest, match="demo@2 does not answer now"):
        await steer(agent, "promote")
    await until(lambda: len(list(agent.view.routes())) == 2)
    await steer(agent, "promote")
    assert (await rollout(agent))["stage"] == "bake"
    house.engines.started[-1].kill()
    await until(lambda: len(list(agent.view.routes())) == 1)
    while not any(replica.life == "starting" for replica in house.supervisor._switchboard.replicas.values()):
        assert await ask(agent, "demo") == [0, 1, 2]  # the stable version is there as long as it is needed
    await until(lambda: state_of(agent, 1) == "unloaded")
    assert await ask(agent, "demo") == [0, 1, 2]
    assert stable(agent) == 2


@pytest.mark.parametrize(("to", "labels"), [("promote", {"stable": 2}), ("roll-back", {"stable": 1})])
async def test_the_end_of_a_rollout_and_its_labels_are_written_as_a_whole(
    root: Path, checkpoint: Path, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    to: Steering, labels: dict[str, int],
) -> None:  # fmt: skip
    """What a server finds that was killed right after the end was written, before anything else was done."""
    left, follow = tmp_path / "left", Model._follow

    def follow_later(model: Model) -> None:
        assert model.rolling is not None
        if model.rolling.rollout.record.over and not left.exists():
            with sqlite3.connect(tmp_path / "journal") as written, sqlite3.connect(left) as copy:
                written.backup(copy)
            written.close()
            copy.close()
        follow(model)

    monkeypatch.setattr(Model, "_follow", follow_later)
    agent = await second(build(root, journal=tmp_path / "journal"), root, checkpoint)
    await act(agent, BEGIN)
    await stage(agent, "canary")
    await steer(agent, "promote")
    await steer(agent, to)
    await until(left.exists)
    again = await build(root, journal=left).front_end()
    assert next(again.view.states()).labels == labels
    assert stable(again) == labels["stable"]


async def test_both_versions_of_a_rollout_stay_whatever_other_models_need(
    root: Path, checkpoint: Path, build: Build
) -> None:
    publish(checkpoint, root, "other")
    (root / "other" / "model.toml").write_text('[residency]\nload = "on-demand"\n')
    agent = await second(build(root, memory_bytes=1000 << 20), root, checkpoint)  # two versions fit
    await act(agent, BEGIN)
    await stage(agent, "canary")
    with pytest.raises(ModelNotReady):
        await ask(agent, "other")
    assert (state_of(agent, 1), state_of(agent, 2)) == ("serving", "serving")
    await steer(agent, "roll-back")
    await stage(agent, "")
    assert await ask(agent, "other") == [0, 1, 2]
    assert state_of(agent, 1) == "serving"
    await act(agent, actions.LoadVersion(model="demo", version=2))
    assert state_of(agent, 1) == "unloaded"  # the rollout is over: who was not asked for the longest time may leave


async def test_a_candidate_that_does_not_come_back_keeps_no_server_from_being_ready(
    root: Path, checkpoint: Path, build: Build, tmp_path: Path, look_slowly: Callable[[int], threading.Event]
) -> None:
    house = build(root, journal=tmp_path / "journal")
    agent = await second(house, root, checkpoint)
    await act(agent, BEGIN)
    await stage(agent, "canary")
    await house.close()
    go_on = look_slowly(2)
    agent = await build(root, journal=tmp_path / "journal").front_end()
    assert agent.view.health().ready
    assert stable(agent) == 1
    go_on.set()
    await until(lambda: state_of(agent, 2) == "serving")
    assert stable(agent) == 2  # the canary has all requests again


async def test_a_version_that_was_published_while_no_server_ran_is_verified_and_rolls_out_by_itself(
    root: Path, checkpoint: Path, build: Build, tmp_path: Path
) -> None:
    (root / "demo" / "model.toml").write_text(BY_HAND + "automatic = true\n")
    house = build(root, journal=tmp_path / "journal")
    await house.front_end()
    await house.close()
    publish(checkpoint, root, "demo")
    agent = await build(root, journal=tmp_path / "journal").front_end()
    await stage(agent, "canary")
    assert stable(agent) == 2
