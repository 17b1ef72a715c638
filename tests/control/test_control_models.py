"""Versions come and go while others serve: discovery, labels, loads, drains, memory, and what a restart remembers."""

import asyncio
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from control_house import ENDLESS, SHORT, Build, House, act, ask, reason_of, state_of, submit, tokens_of, until

from aruntime.admission.tenants import Tenant
from aruntime.base.errors import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    ModelNotFound,
    ModelNotReady,
    Overloaded,
    ServingError,
)
from aruntime.base.names import ModelRef
from aruntime.control import agent as agent_room
from aruntime.control import catalog, holding
from aruntime.control import version as version_room
from aruntime.control.manifest import Manifest
from aruntime.control.repository import ModelVersion, publish
from aruntime.control.view import Caller
from aruntime.model.embedding import Embedding
from aruntime.wire import actions
from aruntime.wire.control import AttachReplica


@pytest.fixture(autouse=True)
def _scan_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SCAN_S", 0.1)
    monkeypatch.setattr(catalog, "WATCH_S", 0.05)


async def test_a_version_that_is_published_later_is_found_and_verified_but_not_served(
    house: House, root: Path, checkpoint: Path
) -> None:
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    assert agent.view.resolve(ModelRef("demo")).version == 1
    with pytest.raises(ModelNotReady):
        agent.view.resolve(ModelRef("demo", version=2))
    assert agent.view.health().ready
    assert len(house.engines.started) == 1


async def test_a_load_returns_when_every_front_end_sends_to_it(
    house: House, root: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await house.front_end()
    quick = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(quick, 2) == "verified")
    read = agent_room._read_embedding

    def read_slowly(order: AttachReplica) -> Embedding | None:
        time.sleep(0.3)
        return read(order)

    monkeypatch.setattr(agent_room, "_read_embedding", read_slowly)
    await act(quick, actions.LoadVersion(model="demo", version=2))
    for agent in (slow, quick):
        assert agent.view.resolve(ModelRef("demo", version=2)).version == 2


async def test_a_loaded_version_rests_until_a_label_names_it(house: House, root: Path, checkpoint: Path) -> None:
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    assert (await act(agent, actions.LoadVersion(model="demo", version=2)))["state"] == "standby"
    assert await ask(agent, "demo@2") == [0, 1, 2]
    with pytest.raises(ModelNotFound):
        agent.view.resolve(ModelRef("demo", label="next"))
    await act(agent, actions.SetLabel(model="demo", label="next", version=2))
    assert agent.view.resolve(ModelRef("demo", label="next")).version == 2
    assert state_of(agent, 2) == "serving"
    await act(agent, actions.SetLabel(model="demo", label="stable", version=2))
    assert agent.view.resolve(ModelRef("demo")).version == 2
    await act(agent, actions.DropLabel(model="demo", label="next"))
    with pytest.raises(ModelNotFound):
        agent.view.resolve(ModelRef("demo", label="next"))


async def test_a_label_moves_to_ready_versions_only(house: House, root: Path, checkpoint: Path) -> None:
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    with pytest.raises(InvalidRequest, match="demo@2 is verified: a label names versions that are ready"):
        await act(agent, actions.SetLabel(model="demo", label="stable", version=2))
    with pytest.raises(ModelNotFound):
        await act(agent, actions.SetLabel(model="demo", label="stable", version=3))
    with pytest.raises(InvalidRequest, match="always has a stable version"):
        await act(agent, actions.DropLabel(model="demo", label="stable"))
    assert agent.view.resolve(ModelRef("demo")).version == 1


async def test_an_unload_lets_what_runs_end_and_nothing_new_in(house: House) -> None:
    agent = await house.front_end()
    running = submit(agent, SHORT, tokens=60)
    await anext(running)
    unloading = asyncio.create_task(act(agent, actions.UnloadVersion(model="demo")))
    await until(lambda: state_of(agent, 1) == "draining")
    with pytest.raises(ModelNotReady):
        agent.view.resolve(ModelRef("demo"))
    assert (await tokens_of(running))[-1] == 59
    assert await unloading == {"unloaded": ["demo@1"]}
    assert state_of(agent, 1) == "unloaded"
    assert agent.view.health().ready  # nobody wants it
    assert (await act(agent, actions.LoadVersion(model="demo")))["state"] == "serving"
    assert await ask(agent, "demo") == [0, 1, 2]


async def test_a_request_on_its_way_to_the_door_is_waited_for(house: House) -> None:
    agent = await house.front_end()
    served = agent.view.resolve(ModelRef("demo"))
    with agent.view.arriving(served):
        unloading = asyncio.create_task(act(agent, actions.UnloadVersion(model="demo")))
        await until(lambda: state_of(agent, 1) == "draining")
        await asyncio.sleep(0.1)
        assert not unloading.done()
        assert served.route.in_flight_here == 0
    await unloading


async def test_a_drain_is_bounded_and_what_it_cuts_is_told_so(root: Path, build: Build) -> None:
    agent = await build(root, drain_timeout_s=0.3).front_end()
    endless = submit(agent, ENDLESS)
    await anext(endless)
    await act(agent, actions.UnloadVersion(model="demo"))
    with pytest.raises(Draining, match="unloaded before the answer was complete"):
        await tokens_of(endless)


async def test_a_corrupt_version_is_quarantined_and_the_old_one_is_not_disturbed(
    house: House, root: Path, checkpoint: Path
) -> None:
    agent = await house.front_end()
    running = submit(agent, ENDLESS)
    await anext(running)
    bad = publish(checkpoint, root.parent / "elsewhere", "demo")
    (bad.folder / "config.json").write_text("{ }")
    bad.folder.rename(root / "demo" / "2")
    await until(lambda: state_of(agent, 2) == "quarantined")
    assert "config.json is not the file that was published" in reason_of(agent, 2)
    with pytest.raises(ModelNotReady, match="quarantined"):
        await act(agent, actions.LoadVersion(model="demo", version=2))
    assert (await act(agent, actions.ReleaseVersion(model="demo", version=2)))["state"] == "discovered"
    with pytest.raises(ModelNotReady, match="quarantined"):  # it is checked again
        await act(agent, actions.LoadVersion(model="demo", version=2))
    assert (await anext(running)).token_ids
    assert agent.view.health().ready
    running.close()


async def test_a_version_that_is_known_to_answer_wrong_while_it_loads_is_quarantined(
    house: House, root: Path, checkpoint: Path
) -> None:
    (checkpoint / "probe.txt").write_text("wrong-early")
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    loading = asyncio.create_task(act(agent, actions.LoadVersion(model="demo", version=2)))
    await until(lambda: len(house.engines.started) == 2)
    os.kill(house.engines.started[1].pid, signal.SIGSTOP)  # it takes its time
    with pytest.raises(ModelNotReady):
        await loading
    assert state_of(agent, 2) == "quarantined"
    assert await ask(agent, "demo") == [0, 1, 2]


async def test_an_unload_supersedes_the_load_under_way(house: House, root: Path, checkpoint: Path) -> None:
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    loading = asyncio.create_task(act(agent, actions.LoadVersion(model="demo", version=2)))
    await until(lambda: state_of(agent, 2) == "loading")
    await act(agent, actions.UnloadVersion(model="demo", version=2))
    with pytest.raises(ModelNotReady):
        await loading
    await until(lambda: state_of(agent, 2) == "unloaded")
    assert (await act(agent, actions.LoadVersion(model="demo", version=2)))["state"] == "standby"


async def test_the_newest_version_that_can_be_served_is_the_first_stable_one(
    root: Path, checkpoint: Path, build: Build
) -> None:
    publish(checkpoint, root, "demo")
    (root / "demo" / "2" / "config.json").write_text("{ }")
    agent = await build(root).front_end()
    assert agent.view.resolve(ModelRef("demo")).version == 1
    assert state_of(agent, 2) == "quarantined"
    assert agent.view.health().ready


async def test_a_restart_remembers_labels_and_quarantine_and_loads_what_was_stable(
    root: Path, checkpoint: Path, build: Build, tmp_path: Path
) -> None:
    house = build(root, journal=tmp_path / "journal")
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    publish(checkpoint, root, "demo")
    (root / "demo" / "3" / "config.json").write_text("{ }")
    await until(lambda: (state_of(agent, 2), state_of(agent, 3)) == ("verified", "quarantined"))
    await act(agent, actions.LoadVersion(model="demo", version=2))
    await act(agent, actions.SetLabel(model="demo", label="next", version=2))
    await house.close()
    agent = await build(root, journal=tmp_path / "journal").front_end()
    assert agent.view.resolve(ModelRef("demo")).version == 1
    assert agent.view.resolve(ModelRef("demo", label="next")).version == 2
    assert state_of(agent, 3) == "quarantined"
    audit = (await act(agent, actions.ReadAudit()))["audit"]
    assert isinstance(audit, list)
    assert [entry["action"] for entry in audit] == ["set-label", "load"]


async def test_two_replicas_share_the_requests_and_one_serves_when_the_other_dies(root: Path, build: Build) -> None:
    (root / "demo" / "model.toml").write_text("[limits]\nreplicas = 2\n")
    house = build(root)
    agent = await house.front_end()
    held = [submit(agent, ENDLESS) for _ in range(6)]
    for ticket in held:
        await anext(ticket)
    counts = [route.in_flight_here for _, route in agent.view.routes()]
    assert sum(counts) == 6
    assert min(counts) >= 2
    house.engines.started[0].kill()
    await until(lambda: len(list(agent.view.routes())) == 1)
    assert agent.view.health().ready
    assert await ask(agent, "demo") == [0, 1, 2]
    await until(lambda: len(list(agent.view.routes())) == 2)
    for ticket in held:
        ticket.close()


def on_demand(root: Path, more: str = "") -> None:
    (root / "demo" / "model.toml").write_text(f'[residency]\nload = "on-demand"\n{more}')


async def test_a_model_on_demand_is_loaded_once_for_all_who_wait(root: Path, build: Build) -> None:
    on_demand(root)
    house = build(root)
    agents = [await house.front_end(), await house.front_end()]
    assert agents[0].view.health().ready
    assert house.engines.started == []
    answers = await asyncio.gather(*(ask(agents[i % 2], "demo") for i in range(10)))
    assert answers == [[0, 1, 2]] * 10
    assert len(house.engines.started) == 1


async def test_who_waits_for_a_model_waits_no_longer_than_its_deadline(root: Path, build: Build) -> None:
    on_demand(root)
    agent = await build(root).front_end()
    agent.view.want = lambda _model, _version: None  # the load takes for ever
    begun_s = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="while the model was loaded"):
        await ask(agent, "demo", Caller(deadline_s=begun_s + 0.2))
    assert 0.2 <= time.monotonic() - begun_s < 5


async def test_who_waits_for_a_model_that_cannot_be_loaded_is_told(root: Path, build: Build) -> None:
    on_demand(root)
    (root / "demo" / "1" / "config.json").write_text("{ }")
    agent = await build(root).front_end()
    with pytest.raises(ModelNotReady):
        await asyncio.wait_for(ask(agent, "demo"), 5)


async def test_no_more_wait_than_there_is_room_for_and_no_tenant_takes_all_of_it(
    root: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "HELD_MAX", 4)
    on_demand(root)
    agent = await build(root).front_end()
    agent.view.want = lambda _model, _version: None
    agent.view.door.tenants = [Tenant(index, f"t{index}") for index in range(3)]
    greedy, other = Caller(Tenant(1, "t1")), Caller(Tenant(2, "t2"))
    waiting = [asyncio.create_task(agent.view.wait(ModelRef("demo"), greedy)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await agent.view.wait(ModelRef("demo"), greedy)
    waiting += [asyncio.create_task(agent.view.wait(ModelRef("demo"), other)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await agent.view.wait(ModelRef("demo"), other)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_only_what_a_label_names_is_loaded_for_a_request(root: Path, checkpoint: Path, build: Build) -> None:
    publish(checkpoint, root, "demo")
    on_demand(root)
    house = build(root)
    agent = await house.front_end()
    assert await ask(agent, "demo") == [0, 1, 2]
    with pytest.raises(ServingError):
        await ask(agent, "demo@1", Caller(deadline_s=time.monotonic() + 0.3))
    assert len(house.engines.started) == 1


async def test_an_idle_model_is_unloaded_and_comes_back_with_the_next_request(root: Path, build: Build) -> None:
    (root / "demo" / "model.toml").write_text("[residency]\nidle_s = 0.3\n")
    house = build(root)
    agent = await house.front_end()
    running = submit(agent, ENDLESS)
    await anext(running)
    await asyncio.sleep(0.6)
    assert state_of(agent, 1) == "serving"  # somebody uses it
    running.close()
    await until(lambda: state_of(agent, 1) == "unloaded")
    assert agent.view.health().ready
    assert await ask(agent, "demo") == [0, 1, 2]
    assert len(house.engines.started) == 2


def two_models(root: Path, checkpoint: Path, pinned: str = "") -> None:
    """`demo` at the start, and `other` on demand."""
    publish(checkpoint, root, "other")
    if pinned:
        (root / "demo" / "model.toml").write_text(pinned)
    (root / "other" / "model.toml").write_text('[residency]\nload = "on-demand"\n')


# One version fits, two do not: the engine's process alone counts as 336 MiB.
_ONE = 500 << 20


async def test_the_least_recently_used_model_makes_room_and_comes_back_on_demand(
    root: Path, checkpoint: Path, build: Build
) -> None:
    two_models(root, checkpoint)
    agent = await build(root, memory_bytes=_ONE).front_end()
    assert await ask(agent, "other") == [0, 1, 2]
    assert (state_of(agent, 1), state_of(agent, 1, "other")) == ("unloaded", "serving")
    assert reason_of(agent, 1) == "its memory is needed"
    assert await ask(agent, "demo") == [0, 1, 2]
    assert (state_of(agent, 1), state_of(agent, 1, "other")) == ("serving", "unloaded")


async def test_a_pinned_model_stays_and_what_does_not_fit_is_refused_with_the_numbers(
    root: Path, checkpoint: Path, build: Build
) -> None:
    two_models(root, checkpoint, "[residency]\npinned = true\n")
    agent = await build(root, memory_bytes=_ONE).front_end()
    with pytest.raises(ModelNotReady):
        await asyncio.wait_for(ask(agent, "other"), 5)
    with pytest.raises(ModelNotReady, match=r"needs 33\d.* MiB .* are free; held by demo@1 .* \(pinned\)"):
        await act(agent, actions.LoadVersion(model="other"))
    assert await ask(agent, "demo") == [0, 1, 2]


async def test_a_model_that_is_used_is_not_evicted(root: Path, checkpoint: Path, build: Build) -> None:
    two_models(root, checkpoint)
    agent = await build(root, memory_bytes=_ONE).front_end()
    running = submit(agent, ENDLESS)
    await anext(running)
    await asyncio.sleep(0.1)
    with pytest.raises(ModelNotReady):
        await asyncio.wait_for(ask(agent, "other"), 5)
    assert (await anext(running)).token_ids
    running.close()


async def test_files_that_change_after_they_were_verified_are_refused_at_the_handshake(
    root: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = ModelVersion.verify

    def verified_then_changed(version: ModelVersion, *arguments: Any) -> Manifest:
        manifest = verify(version, *arguments)
        (version.folder / "tokenizer.json").write_text("{}")
        return manifest

    monkeypatch.setattr(ModelVersion, "verify", verified_then_changed)
    agent = await build(root).front_end()
    assert state_of(agent, 1) == "failed"
    assert "the engine has loaded something else: tokenizer: " in reason_of(agent, 1)


async def test_a_journal_that_cannot_be_written_is_told_and_stops_nothing(house: House, root: Path) -> None:
    agent = await house.front_end()
    journal = house.supervisor._journal
    journal._database.execute("PRAGMA query_only = 1")
    unloaded = await act(agent, actions.UnloadVersion(model="demo"))
    assert "cannot be written" in str(unloaded["journal"])
    assert (await act(agent, actions.LoadVersion(model="demo")))["state"] == "serving"
    assert await ask(agent, "demo") == [0, 1, 2]
    await until(lambda: "cannot be written" in agent.view.health().dependencies["journal"])
    journal._database.execute("PRAGMA query_only = 0")
    await act(agent, actions.SetLabel(model="demo", label="next", version=1))
    await until(lambda: agent.view.health().dependencies["journal"] == "ok")


async def test_a_number_that_is_published_anew_is_not_held_to_what_was_quarantined(
    root: Path, checkpoint: Path, build: Build, tmp_path: Path
) -> None:
    house = build(root, journal=tmp_path / "journal")
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    (root / "demo" / "2" / "config.json").write_text("{ }")
    await until(lambda: state_of(agent, 2) == "quarantined")
    await house.close()
    shutil.rmtree(root / "demo" / "2")
    (checkpoint / "README.md").write_text("mended")
    publish(checkpoint, root, "demo")
    agent = await build(root, journal=tmp_path / "journal").front_end()
    assert (await act(agent, actions.LoadVersion(model="demo", version=2)))["state"] == "standby"


async def test_a_front_end_that_comes_while_a_version_leaves_sends_nothing_to_it(house: House) -> None:
    agent = await house.front_end()
    running = submit(agent, SHORT, tokens=60)
    await anext(running)
    unloading = asyncio.create_task(act(agent, actions.UnloadVersion(model="demo")))
    await until(lambda: state_of(agent, 1) == "draining")
    late = await house.front_end(settled=False)
    await until(lambda: late.view.versions("demo"))
    for ref in (ModelRef("demo"), ModelRef("demo", version=1)):
        with pytest.raises(ModelNotReady):
            late.view.resolve(ref)
    assert (await tokens_of(running))[-1] == 59
    await unloading


async def test_settings_change_while_a_version_of_the_model_is_not_in_memory(
    house: House, root: Path, checkpoint: Path
) -> None:
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    (root / "demo" / "model.toml").write_text("[residency]\npinned = true\n[limits]\nwaiting_max = 7\n")
    await until(lambda: next(agent.view.routes())[1].limits.waiting_max == 7)
    assert await ask(agent, "demo") == [0, 1, 2]


async def test_an_unload_stops_a_load_that_has_not_begun_to_load(
    house: House, root: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await house.front_end()
    publish(checkpoint, root, "demo")
    await until(lambda: state_of(agent, 2) == "verified")
    looked, go_on = threading.Event(), threading.Event()
    look_into = version_room.Version._look_into

    def look_slowly(version: version_room.Version) -> object:
        looked.set()
        go_on.wait(5)
        return look_into(version)

    monkeypatch.setattr(version_room.Version, "_look_into", look_slowly)
    loading = asyncio.create_task(act(agent, actions.LoadVersion(model="demo", version=2)))
    await until(looked.is_set)
    await act(agent, actions.UnloadVersion(model="demo", version=2))
    go_on.set()
    with pytest.raises(ModelNotReady):
        await loading
    assert len(house.engines.started) == 1
    assert house.supervisor._catalog.models["demo"].versions[2].key not in house.supervisor._catalog._host.memory


async def test_an_engine_that_dies_under_a_request_on_its_way_is_no_fault_of_ours(house: House) -> None:
    agent = await house.front_end()
    served = agent.view.resolve(ModelRef("demo"))
    with agent.view.arriving(served):
        house.engines.started[0].kill()
        await until(lambda: not list(agent.view.routes()))
    await until(lambda: agent.view.health().ready)
    assert await ask(agent, "demo") == [0, 1, 2]
