"""The story of four new versions, on real processes under load: two bad ones go back by themselves, two good ones stay.

No client of any of them sees an error.
"""

import asyncio
from pathlib import Path

import httpx
import pytest
from e2e_rollout import Answered, Clients, Operator, ask, copy_demo, serving, slow_demo, wrong_demo
from e2e_server import Server

from aruntime.control.repository import publish

SETTINGS = """
[limits]
sequences_max = 256
waiting_max = 512
step_tokens_max = 512
cache_bytes = 268_435_456
[objectives]
ttft_s = 60.0
[rollout]
window_s = 1.5
requests_min = 20
bake_s = 1.0
shadow_share = 1.0
steps = [0.3, 1.0]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    publish(copy_demo(tmp_path / "first"), root, "demo")
    (root / "demo" / "model.toml").write_text(SETTINGS)
    return root


async def roll_out(operator: Operator, repository: Path, folder: Path, version: int) -> None:
    """Publish a folder and begin."""
    publish(folder, repository, "demo")
    await operator.until(lambda: operator.state(version) == "verified")
    assert operator.act("POST", "/rollout", version=version).status_code == 200


@pytest.mark.slow
async def test_bad_versions_go_back_by_themselves_and_a_good_one_takes_over_without_an_error(
    repository: Path, tmp_path: Path
) -> None:
    with serving(repository, tmp_path / "server.log") as (server, operator):
        async with Clients(server.url, 6) as clients:
            await roll_out(operator, repository, slow_demo(tmp_path / "slow"), 2)
            await operator.until(lambda: operator.state(2) == "unloaded" and operator.stage() == "")
            stages = operator.ends(2)
            assert stages[-1] == "rolled back"
            assert len(stages) <= 4  # preparing, shadow, at most one share, back: within two windows
            assert any(word in reason_of_end(operator, 2) for word in ("ttft: p95", "itl: p95"))

            await roll_out(operator, repository, wrong_demo(tmp_path / "wrong"), 3)
            await operator.until(lambda: operator.state(3) == "unloaded" and operator.stage() == "")
            assert operator.ends(3)[-1] == "rolled back"
            assert len(operator.ends(3)) <= 4
            assert operator.model()["labels"] == {"stable": 1}

            await roll_out(operator, repository, copy_demo(tmp_path / "good"), 4)
            await operator.until(
                lambda: operator.model()["labels"] == {"stable": 4} and operator.state(1) == "unloaded"
            )
            assert operator.ends(4) == ["preparing", "shadow", "canary 30 %", "canary 100 %", "bake", "complete"]
            seen = len(clients.answered)
            await operator.until(lambda: len(clients.answered) > seen + 20)
        assert clients.failed == []
        for session in range(6):
            assert clients.versions(session)[-1] == "demo@4"
            took_over = clients.versions(session).index("demo@4")
            assert set(clients.versions(session)[took_over:]) == {"demo@4"}  # who was let over never went back


def reason_of_end(operator: Operator, version: int) -> str:
    entry = [entry for entry in operator.audit() if entry["subject"] == f"demo@{version}"][-1]
    return str(entry["detail"])


@pytest.mark.slow
async def test_a_rollout_under_200_live_streams_fails_none(repository: Path, tmp_path: Path) -> None:
    with serving(repository, tmp_path / "server.log", "--drain-timeout", "120") as (server, operator):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=120, limits=limits) as client:
            body = long_stream(400)
            streams = [asyncio.create_task(ask(client, body, session)) for session in range(200)]
            await operator.until(lambda: running(operator, 1) == 200)
            publish(copy_demo(tmp_path / "good"), repository, "demo")
            await operator.until(lambda: operator.state(2) == "verified")
            assert operator.act("POST", "/rollout", version=2).status_code == 200
            await operator.until(lambda: operator.stage() == "shadow", 60)
            for _ in range(4):  # the clients are busy: an operator promotes by hand
                assert operator.act("POST", "/rollout/promote").status_code == 200
            await operator.until(lambda: operator.model()["labels"] == {"stable": 2})
            assert operator.state(1) == "draining"
            assert operator.model()["versions"][0]["tokens_left"] > 0
            fresh = await ask(client, long_stream(3), 999)
            assert fresh == Answered(999, 200, "demo@2", complete=True)
            answers = await asyncio.gather(*streams)
        assert answers == [Answered(session, 200, "demo@1", complete=True) for session in range(200)]
        await operator.until(lambda: operator.state(1) == "unloaded")


def long_stream(tokens: int) -> dict[str, object]:
    messages = [{"role": "user", "content": "Hello!"}]
    return {"model": "demo", "stream": True, "messages": messages, "max_tokens": tokens, "ignore_eos": True}


def running(operator: Operator, version: int) -> int:
    found: int = next(one["in_flight"] for one in operator.model()["versions"] if one["version"] == version)
    return found


@pytest.fixture
def by_hand(repository: Path, tmp_path: Path) -> Path:
    """A repository whose rollouts move only when somebody moves them."""
    file = repository / "demo" / "model.toml"
    file.write_text(file.read_text().replace("window_s = 1.5", "window_s = 1000.0"))
    publish(copy_demo(tmp_path / "second"), repository, "demo")
    return repository


def pin_first(server: Server, operator: Operator) -> None:
    """Version 1 is stable, 2 is to come."""
    assert operator.act("POST", "/load", version=1).status_code == 200
    assert operator.act("PUT", "/labels/stable", version=1).status_code == 200
    assert operator.act("POST", "/unload", version=2).status_code == 200


def version_of(server: Server, model: str) -> tuple[int, str]:
    body = {"model": model, "prompt": "Hello!", "max_tokens": 2}
    reply = httpx.post(f"{server.url}/v1/completions", json=body, timeout=30)
    return reply.status_code, reply.headers.get("x-model-version", "")


async def test_an_operator_pauses_resumes_promotes_and_rolls_back(by_hand: Path, tmp_path: Path) -> None:
    with serving(by_hand, tmp_path / "server.log") as (server, operator):
        pin_first(server, operator)
        assert operator.act("POST", "/rollout/pause").status_code == 400
        assert operator.act("POST", "/rollout", version=2).status_code == 200
        assert operator.act("POST", "/rollout", version=2).status_code == 400
        await operator.until(lambda: operator.stage() == "shadow")
        assert operator.act("PUT", "/labels/stable", version=2).status_code == 400
        assert operator.act("POST", "/rollout/pause").json()["rollout"]["paused"]
        assert not operator.act("POST", "/rollout/resume").json()["rollout"]["paused"]
        assert operator.act("POST", "/rollout/promote").json()["rollout"]["share"] == 0.3
        assert operator.act("POST", "/rollout/promote").json()["rollout"]["share"] == 1.0
        assert version_of(server, "demo") == version_of(server, "demo@canary") == (200, "demo@2")
        assert version_of(server, "demo@stable") == version_of(server, "demo@1") == (200, "demo@1")
        assert operator.act("POST", "/rollout/roll-back").status_code == 200
        assert version_of(server, "demo") == (200, "demo@1")
        await operator.until(lambda: operator.state(2) == "unloaded")
        assert version_of(server, "demo@canary")[0] == 404
        assert version_of(server, "demo@2")[0] == 503


@pytest.mark.slow
async def test_where_memory_is_tight_the_old_version_leaves_first_and_requests_wait(
    by_hand: Path, tmp_path: Path
) -> None:
    file = by_hand / "demo" / "model.toml"
    file.write_text(file.read_text() + 'strategy = "drain-first"\n')
    with serving(by_hand, tmp_path / "server.log") as (server, operator):
        pin_first(server, operator)
        async with Clients(server.url, 3) as clients:
            assert operator.act("POST", "/rollout", version=2).status_code == 200
            await operator.until(lambda: operator.stage() == "bake")
            assert operator.state(1) == "unloaded"
            assert operator.act("POST", "/rollout/roll-back").status_code == 200
            await operator.until(lambda: operator.stage() == "" and operator.state(1) == "serving")
            seen = len(clients.answered)
            await operator.until(lambda: len(clients.answered) > seen + 5)
        assert clients.failed == []
        assert {answer.version for answer in clients.answered} == {"demo@1", "demo@2"}


async def test_a_version_that_breaks_its_promises_is_quarantined_and_the_stable_one_goes_on(
    repository: Path, tmp_path: Path
) -> None:
    bad = wrong_demo(tmp_path / "bad")
    (bad / "golden").mkdir()
    (bad / "golden" / "answers.jsonl").write_bytes((tmp_path / "first" / "golden" / "answers.jsonl").read_bytes())
    with serving(repository, tmp_path / "server.log") as (server, operator):
        async with Clients(server.url, 2) as clients:
            await roll_out(operator, repository, bad, 2)
            await operator.until(lambda: operator.state(2) == "quarantined" and operator.stage() == "")
        assert clients.failed == []
        assert operator.ends(2) == ["preparing", "aborted"]
        assert "the probe" in next(one["reason"] for one in operator.model()["versions"] if one["version"] == 2)
        assert operator.act("POST", "/rollout", version=2).status_code == 400
        assert version_of(server, "demo") == (200, "demo@1")
