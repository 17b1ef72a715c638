"""The supervisor with real processes, real rings and a fake model; the front ends' agents live in the test."""

import asyncio
import hashlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from control_house import ENDLESS, SHORT, Build, House, submit, tokens_of, until

from aruntime.admission.tenants import Tenant
from aruntime.base.errors import Draining, ModelError, ModelNotFound, ModelNotReady, PermissionDenied
from aruntime.base.names import ModelRef
from aruntime.control import replica as replica_room
from aruntime.control import supervisor as supervisor_room
from aruntime.control.agent import Agent
from aruntime.control.launch_order import launch_order
from aruntime.control.repository import Repository, publish
from aruntime.control.settings import VersionRefused
from aruntime.queue.columns import DEPARTED_ROW, ENGINE_ROW, Column, TenantColumn, tenant_column
from aruntime.queue.post import pair
from aruntime.wire.control import Drained, Hello, Refused, encode


async def test_a_front_end_gets_a_route_and_its_requests_are_answered(house: House) -> None:
    agent = await house.front_end()
    assert await tokens_of(submit(agent, SHORT)) == [0, 1, 2]
    health = agent.view.health()
    assert health.ready
    assert health.dependencies == {"supervisor": "ok", "journal": "ok", "repository": "ok"}
    assert [(entry.name, entry.version, entry.ready) for entry in agent.view.models()] == [("demo", 1, True)]


async def test_a_front_end_that_comes_later_has_every_ready_model_before_it_listens(house: House) -> None:
    await house.front_end()
    late = await house.front_end(settled=False)
    await late.taken_up()
    assert await tokens_of(submit(late, SHORT)) == [0, 1, 2]


async def test_names_that_are_not_there_are_not_found(house: House) -> None:
    agent = await house.front_end()
    assert agent.view.resolve(ModelRef("demo", version=1)).version == 1
    for ref in (
        ModelRef("other"),
        ModelRef("demo", version=2),
        ModelRef("demo", label="x"),
        ModelRef("demo", adapter="x"),
    ):
        with pytest.raises(ModelNotFound):
            agent.view.resolve(ref)


async def test_a_killed_engine_ends_its_requests_with_an_error_and_comes_back(house: House) -> None:
    agent = await house.front_end()
    ticket = submit(agent, ENDLESS)
    await anext(ticket)
    killed_s = time.monotonic()
    house.engines.started[0].kill()
    with pytest.raises(ModelError, match="the engine stopped"):
        await tokens_of(ticket)
    assert time.monotonic() - killed_s < 1.0
    with pytest.raises(ModelNotReady):
        agent.view.resolve(ModelRef("demo"))
    assert not agent.view.health().ready
    await until(lambda: agent.view.health().ready)
    assert await tokens_of(submit(agent, SHORT)) == [0, 1, 2]


async def test_two_front_ends_share_an_engine_and_one_that_is_lost_frees_what_it_held(house: House) -> None:
    stays, goes = await house.front_end(), await house.front_end()
    table = stays.view.resolve(ModelRef("demo")).route.table
    kept, lost = submit(stays, ENDLESS), submit(goes, ENDLESS)
    await tokens_of(submit(goes, SHORT))
    await anext(kept)
    await anext(lost)
    assert table.sum(Column.IN_FLIGHT) == 2
    await until(lambda: table.get(0, Column.RUNNING) == 2)
    house.depart(goes)
    await until(lambda: table.get(0, Column.RUNNING) == 1)
    assert table.sum(Column.IN_FLIGHT) == 1
    assert table.get(DEPARTED_ROW, Column.ENDED) >= 1
    assert (await anext(kept)).token_ids
    kept.close()
    await until(lambda: table.sum(Column.IN_FLIGHT) == 0)


async def test_a_front_end_that_talks_nonsense_is_hung_up_on_and_killed(house: House) -> None:
    await house.front_end()
    mine, theirs = pair()
    killed = asyncio.Event()
    house.supervisor.admit(mine, killed.set)
    theirs.send(b'{"kind":"ready"}')
    await asyncio.wait_for(killed.wait(), 5)
    assert theirs.receive() is None
    theirs.close()
    assert await tokens_of(submit(house.agents[0], SHORT)) == [0, 1, 2]


async def test_an_engine_that_stands_still_is_reported_then_killed_then_replaced(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aruntime.control.health.PROGRESS_S_MAX", 0.2)
    monkeypatch.setattr(replica_room, "STALL_S_MAX", 1.0)
    agent = await house.front_end()
    os.kill(house.engines.started[0].pid, signal.SIGSTOP)
    await until(lambda: "no progress" in " ".join(agent.view.health().reasons))
    await until(lambda: len(house.engines.started) == 2)
    await until(lambda: agent.view.health().ready)


async def test_a_refused_checkpoint_is_not_tried_again_and_its_reason_stays_inside(
    tmp_path: Path, checkpoint: Path, build: Build
) -> None:
    publish(checkpoint, tmp_path / "two", "demo")
    publish(checkpoint, tmp_path / "two", "refused")
    house = build(tmp_path / "two")
    agent = await house.front_end()
    assert agent.view.health().reasons == ["refused@1: no such architecture"]
    with pytest.raises(ModelNotReady) as refusal:
        agent.view.resolve(ModelRef("refused"))
    assert "architecture" not in refusal.value.message
    assert await tokens_of(submit(agent, SHORT)) == [0, 1, 2]
    assert len(house.engines.started) == 2


async def test_a_changed_file_keeps_its_model_from_being_loaded(root: Path, build: Build) -> None:
    (root / "demo" / "1" / "model.safetensors").write_bytes(b"evil")
    house = build(root)
    agent = await house.front_end()
    assert "model.safetensors is not the file that was published" in agent.view.health().reasons[0]
    assert house.engines.started == []


async def test_a_version_whose_tokenizer_cannot_be_read_fails(tmp_path: Path, checkpoint: Path, build: Build) -> None:
    (checkpoint / "broken.txt").write_text("")
    publish(checkpoint, tmp_path / "repository", "demo")
    house = build(tmp_path / "repository")
    agent = await house.front_end()
    assert agent.view.health().reasons == ["demo@1: the tokenizer cannot be read"]
    await until(lambda: not Path(f"/proc/{house.engines.started[0].pid}").exists())


async def test_a_version_for_another_device_is_refused(tmp_path: Path, root: Path, build: Build) -> None:
    house = build(root)
    version = Repository(root).open("demo", 1)
    built = version.settings.model_copy(update={"target": "cuda"})
    with pytest.raises(VersionRefused, match="built for cuda"):
        launch_order(replace(version, settings=built), house.supervisor._settings)


async def test_an_engine_that_dies_at_once_is_started_less_and_less_often(
    tmp_path: Path, checkpoint: Path, build: Build
) -> None:
    publish(checkpoint, tmp_path / "repository", "short-lived")
    house = build(tmp_path / "repository")
    agent = await house.front_end(settled=False)
    await until(lambda: len(house.engines.started) == 3)
    assert "status 3" in agent.view.health().reasons[0] or "loading again" in agent.view.health().reasons[0]
    third_s = time.monotonic()
    await until(lambda: len(house.engines.started) == 4)
    assert time.monotonic() - third_s > 0.3


async def test_a_drain_lets_streams_end_and_nothing_new_in(house: House) -> None:
    agent = await house.front_end()
    ticket = submit(agent, SHORT, tokens=60)
    await anext(ticket)
    house.supervisor.stop()
    await until(lambda: agent.view.draining)
    with pytest.raises(Draining):
        submit(agent, SHORT)
    assert "the server is shutting down" in agent.view.health().reasons
    assert (await tokens_of(ticket))[-1] == 59
    house.depart(agent)
    assert await asyncio.wait_for(house.running, 5) == 0


async def test_what_is_longer_than_the_drain_allows_ends_with_a_word(root: Path, build: Build) -> None:
    house = build(root, drain_timeout_s=0.3)
    agent = await house.front_end()
    ticket = submit(agent, ENDLESS)
    await anext(ticket)
    house.supervisor.stop()
    with pytest.raises(Draining):
        await tokens_of(ticket)
    house.depart(agent)
    assert await asyncio.wait_for(house.running, 5) == 0


async def test_a_second_word_to_stop_is_obeyed_at_once(root: Path, build: Build) -> None:
    house = build(root, drain_timeout_s=100)
    agent = await house.front_end()
    ticket = submit(agent, ENDLESS)
    await anext(ticket)
    house.supervisor.stop()
    house.supervisor.stop()
    with pytest.raises(ModelError):
        await asyncio.wait_for(tokens_of(ticket), 5)
    house.depart(agent)
    await asyncio.wait_for(house.running, 10)


async def test_a_front_end_notices_that_its_supervisor_is_gone(house: House) -> None:
    mine, theirs = pair()
    agent = Agent()
    joining = asyncio.create_task(agent.join(theirs))
    await asyncio.sleep(0)
    mine.close()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(joining, 5)
    assert agent.view.health().dependencies["supervisor"] == "gone"
    agent.leave()


async def test_a_front_end_whose_supervisor_has_gone_serves_nothing_until_it_finds_another(
    root: Path, build: Build
) -> None:
    house = build(root)
    agent = await house.front_end()
    ticket = submit(agent, ENDLESS)
    house.supervisor.stop()
    house.supervisor.stop()
    await asyncio.wait_for(house.running, 10)
    for guest in house.supervisor.guests:
        guest.line.close()  # as the end of its process would
    await asyncio.wait_for(agent.lost.wait(), 5)
    with pytest.raises(ModelError):
        await tokens_of(ticket)
    assert agent.view.models() == []
    other = build(root)
    mine, theirs = pair()
    other.supervisor.admit(mine, lambda: None)
    await agent.join(theirs)
    assert await agent.settled(10)
    assert not agent.view.draining
    assert await tokens_of(submit(agent, SHORT)) == [0, 1, 2]


async def test_a_front_end_that_comes_during_a_drain_is_told(house: House) -> None:
    agent = await house.front_end()
    ticket = submit(agent, ENDLESS)
    await anext(ticket)
    house.supervisor.stop()
    await until(lambda: agent.view.draining)
    late = await house.front_end(settled=False)
    await until(lambda: late.view.draining)
    ticket.close()


async def test_a_late_refusal_of_an_earlier_channel_fails_nothing(house: House) -> None:
    agent = await house.front_end()
    mine, theirs = pair()
    house.supervisor.admit(mine, lambda: None)
    theirs.send(encode(Hello(pid=1)), [0])
    theirs.send(encode(Refused(replica=0, epoch=10_000, reason="of another life")))
    theirs.send(encode(Drained()))
    theirs.close()
    await until(lambda: len(house.supervisor.guests) == 1)
    assert agent.view.health().ready


async def test_no_descriptor_of_a_dead_engine_is_left(house: House) -> None:
    agent = await house.front_end()
    await asyncio.sleep(0.05)  # what the joining held is closed
    before = len(os.listdir("/proc/self/fd"))
    for lives in (2, 3):
        house.engines.started[-1].kill()
        await until(lambda lives=lives: len(house.engines.started) == lives)
        await until(lambda: agent.view.health().ready)
    await until(lambda: len(os.listdir("/proc/self/fd")) == before)


async def test_no_descriptor_is_left_behind(house: House) -> None:
    agent = await house.front_end()
    house.depart(agent)
    await until(lambda: not house.supervisor.guests)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        agent = await house.front_end()
        await tokens_of(submit(agent, SHORT))
        house.depart(agent)
        await until(lambda: not house.supervisor.guests)
    assert sorted(os.listdir("/proc/self/fd")) == before


def write_tenants(path: Path, **weights: int) -> Path:
    """A file of tenants whose keys are their names."""
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in weights}
    tables = [
        f'[tenants.{name}]\nkeys = ["sha256:{digests[name]}"]\nweight = {weight}\n' for name, weight in weights.items()
    ]
    path.write_text("".join(tables))
    path.chmod(0o600)
    return path


def knows(agent: Agent, key: str) -> bool:
    return agent.view.registry.find(key.encode(), admin=False) is not None


def weight_at_the_engine(agent: Agent, tenant: int) -> int:
    try:
        table = agent.view.resolve(ModelRef("demo")).route.table
    except ModelNotReady:  # an engine that was killed may not be missed yet when it is asked for
        return 0
    return table.get(ENGINE_ROW, tenant_column(tenant, TenantColumn.SERVED))


async def test_front_ends_and_engines_know_the_tenants_before_the_first_request(
    tmp_path: Path, root: Path, build: Build
) -> None:
    house = build(root, tenants=write_tenants(tmp_path / "tenants.toml", acme=3, umbrella=5))
    agent = await house.front_end(settled=False)
    assert agent.view.registry.asks(admin=False)
    assert knows(agent, "acme")
    assert [(tenant.index, tenant.name, tenant.weight) for tenant in agent.view.registry.tenants[1:]] == [
        (1, "acme", 3.0), (2, "umbrella", 5.0)
    ]  # fmt: skip
    assert await agent.settled(10)
    await until(lambda: weight_at_the_engine(agent, 2) == 5)
    house.engines.started[0].kill()
    await until(lambda: len(house.engines.started) == 2)
    await until(lambda: weight_at_the_engine(agent, 1) == 3)


async def test_without_a_file_a_front_end_asks_for_no_key(house: House) -> None:
    agent = Agent()
    assert agent.view.registry.asks(admin=False)  # until somebody has said so
    agent.leave()
    agent = await house.front_end(settled=False)
    assert not agent.view.registry.asks(admin=False)


async def test_a_file_that_changes_is_read_without_a_restart(tmp_path: Path, root: Path, build: Build) -> None:
    file = write_tenants(tmp_path / "tenants.toml", acme=3)
    house = build(root, tenants=file)
    agents = [await house.front_end(), await house.front_end()]
    ticket = submit(agents[0], ENDLESS)
    write_tenants(file, umbrella=7)
    for agent in agents:
        await until(lambda agent=agent: knows(agent, "umbrella"))
        assert not knows(agent, "acme")
    await until(lambda: weight_at_the_engine(agents[0], 2) == 7)
    assert weight_at_the_engine(agents[0], 1) == 1  # of a tenant that is gone
    assert (await anext(ticket)).token_ids
    ticket.close()


async def test_a_wrong_file_is_told_once_and_not_taken(
    tmp_path: Path, root: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(
        supervisor_room.log, "error", lambda event, **fields: lines.append(f"{event} {fields['reason']}")
    )
    file = write_tenants(tmp_path / "tenants.toml", acme=3)
    house = build(root, tenants=file)
    agent = await house.front_end()
    file.write_text("[tenants.acme]\nkeys = ['art-secret']\n")
    await until(lambda: lines)
    await asyncio.sleep(2.5 * supervisor_room.WATCH_S)
    assert len(lines) == 1
    assert lines[0].startswith("tenants.refused")
    assert "tenants.acme.keys.0" in lines[0]
    assert "secret" not in lines[0]
    assert knows(agent, "acme")
    file.unlink()
    await until(lambda: len(lines) == 2)
    assert knows(agent, "acme")
    write_tenants(file, umbrella=1)
    await until(lambda: knows(agent, "umbrella"))


async def test_a_hangup_signal_reads_the_file_at_once(
    tmp_path: Path, root: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_room, "WATCH_S", 100.0)
    file = write_tenants(tmp_path / "tenants.toml", acme=3)
    house = build(root, tenants=file)
    agent = await house.front_end()
    write_tenants(file, umbrella=1)
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: knows(agent, "umbrella"), 5)
    assert not knows(agent, "acme")


async def test_a_front_end_without_its_supervisor_knows_the_keys_it_knew(
    tmp_path: Path, root: Path, build: Build
) -> None:
    house = build(root, tenants=write_tenants(tmp_path / "tenants.toml", acme=3))
    agent = await house.front_end()
    house.supervisor.stop()
    house.supervisor.stop()
    await asyncio.wait_for(house.running, 10)
    for guest in house.supervisor.guests:
        guest.line.close()
    await asyncio.wait_for(agent.lost.wait(), 5)
    assert agent.view.registry.asks(admin=False)
    assert knows(agent, "acme")
    assert not knows(agent, "umbrella")


async def test_what_a_front_end_has_refused_stays_counted_when_it_is_gone(house: House) -> None:
    agent, other = await house.front_end(), await house.front_end()
    for _ in range(3):
        agent.view.door.ledger.refused("invalid_api_key")
    agent.view.door.ledger.try_hold(5, 2)
    house.depart(agent)
    await until(lambda: other.view.door.ledger.held(5) == 0)
    assert other.view.door.ledger.refusals("invalid_api_key") == 3


async def test_who_may_call_a_model_is_known_to_front_ends(root: Path, build: Build) -> None:
    (root / "demo" / "model.toml").write_text('callers = ["acme"]\n')
    agent = await build(root).front_end()
    with pytest.raises(PermissionDenied, match="not for this tenant"):
        agent.view.resolve(ModelRef("demo"))
    assert agent.view.resolve(ModelRef("demo"), Tenant(1, "acme")).version == 1
    assert [entry.name for entry in agent.view.models(Tenant(2, "umbrella"))] == []


async def test_a_model_s_callers_and_bounds_change_without_a_restart(root: Path, build: Build) -> None:
    house = build(root)
    agent = await house.front_end()
    route = agent.view.resolve(ModelRef("demo")).route
    running = submit(agent, ENDLESS)
    file = root / "demo" / "model.toml"
    file.write_text('callers = ["acme"]\n[limits]\nwaiting_max = 400\n[objectives]\nttft_s = 0.5\nitl_s = 0.25\n')
    await until(lambda: route.limits.waiting_max == 400)
    assert (route.limits.ttft_s, route.limits.in_flight_max) == (0.5, 464)
    with pytest.raises(PermissionDenied):
        agent.view.resolve(ModelRef("demo"))
    await until(lambda: route.table.get(ENGINE_ROW, Column.STEP_US) == 250_000)
    assert (await anext(running)).token_ids
    house.engines.started[0].kill()
    await until(lambda: not agent.view.health().ready)
    await until(lambda: agent.view.health().ready)
    route = agent.view.resolve(ModelRef("demo"), Tenant(1, "acme")).route
    assert (route.limits.waiting_max, route.table.get(ENGINE_ROW, Column.STEP_US)) == (400, 250_000)


async def test_a_wrong_model_toml_is_told_once_and_not_taken(
    root: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(supervisor_room.log, "error", lambda event, **words: lines.append(f"{event} {words['reason']}"))
    file = root / "demo" / "model.toml"
    file.write_text('callers = ["acme"]\n')
    agent = await build(root).front_end()
    for text, words in (("[limits]\nwaiting_max = 0\n", "limits.waiting_max"), (None, "No such file")):
        lines.clear()
        file.unlink() if text is None else file.write_text(text)
        await until(lambda: lines)
        await asyncio.sleep(3 * supervisor_room.WATCH_S)
        (line,) = lines
        assert line.startswith("model.refused model.toml")
        assert words in line
        with pytest.raises(PermissionDenied):
            agent.view.resolve(ModelRef("demo"))
    file.write_text("")
    await until(lambda: agent.view.models(Tenant(2, "umbrella")))


@pytest.mark.parametrize("callers", ['"acme"', '["Acme"]', '["none"]', "[1]"])
async def test_callers_are_names_of_tenants(root: Path, build: Build, callers: str) -> None:
    (root / "demo" / "model.toml").write_text(f"callers = {callers}\n")
    agent = await build(root).front_end()
    assert "model.toml: callers" in agent.view.health().reasons[0]
