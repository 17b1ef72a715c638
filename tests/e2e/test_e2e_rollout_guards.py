"""What stands between a new version and its clients: copies that cost nothing, golden questions under load, files that
must be what was published, a drain with an end, and the old version that comes back."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch
from e2e_rollout import Clients, Operator, copy_demo, serving, wrong_demo
from e2e_server import Server, completion, events, h2c, until
from safetensors.torch import load_file, save_file

from aruntime.control.repository import publish

KEY = "art-acme-KEYMARK"
SETTINGS = """
[labels]
stable = 1
[limits]
cache_bytes = 33_554_432
[rollout]
window_s = 1000.0
shadow_share = 1.0
steps = [1.0]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    publish(copy_demo(tmp_path / "first"), root, "demo")
    (root / "demo" / "model.toml").write_text(SETTINGS)
    return root


def settle(operator: Operator, version: int, state: str) -> None:
    until(lambda: operator.state(version) == state, 40)


def reason(operator: Operator, version: int) -> str:
    return next(str(one["reason"]) for one in operator.model()["versions"] if one["version"] == version)


def test_copies_are_computed_by_the_candidate_and_cost_their_tenant_nothing(repository: Path, tmp_path: Path) -> None:
    publish(copy_demo(tmp_path / "second"), repository, "demo")
    tenants = tmp_path / "tenants.toml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    tenants.write_text(f'[tenants.acme]\nkeys = ["sha256:{digest}"]\nrequests_per_minute = 12\n')
    tenants.chmod(0o600)
    with serving(repository, tmp_path / "server.log", "--tenants", str(tenants)) as (server, operator):
        assert operator.act("POST", "/rollout", version=2).status_code == 200
        until(lambda: operator.stage() == "shadow")
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as acme:
            body = completion(3, model="demo", stream=False)
            replies = [acme.post("/v1/completions", json=body) for _ in range(12)]
        assert [reply.headers.get("x-model-version") for reply in replies] == ["demo@1"] * 12
        until(lambda: server.metric("aruntime_requests_total", version="2", code="ok") == 12)
        assert operator.stage() == "shadow"


async def test_a_golden_answer_that_is_wrong_under_load_sends_a_candidate_back_that_passed_when_it_started(
    repository: Path, tmp_path: Path
) -> None:
    publish(copy_demo(tmp_path / "second"), repository, "demo")
    with serving(repository, tmp_path / "server.log") as (server, operator):
        assert operator.act("POST", "/rollout", version=2).status_code == 200
        await operator.until(lambda: operator.model()["rollout"]["stage"] == "shadow")
        await operator.until(lambda: not server.probers())
        answers = repository / "demo" / "2" / "golden" / "answers.jsonl"
        lines = [json.loads(line) | {"text": "Something else."} for line in answers.read_text().splitlines()]
        answers.write_text("".join(json.dumps({**line, "token_ids": line["token_ids"][:1]}) + "\n" for line in lines))
        async with Clients(server.url, 2) as clients:
            assert operator.act("POST", "/rollout/promote").status_code == 200  # every stage asks again
            await operator.until(lambda: operator.stage() == "" and operator.state(2) == "unloaded")
        assert clients.failed == []
        assert operator.ends(2)[-1] == "rolled back"
        assert "golden: 0 of" in operator.audit()[-1]["detail"]
        assert operator.model()["labels"] == {"stable": 1}


def broken_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.self_attn.o_proj.weight"][3, 5] = torch.nan
    save_file(weights, folder / "model.safetensors")


def another_tokenizer(folder: Path) -> None:
    definition = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    names = sorted(vocabulary)
    definition["model"]["vocab"] = dict(zip(names, [vocabulary[name] for name in reversed(names)], strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(definition))


def another_template(folder: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text("Well: " + file.read_text())


SPOILERS: list[Callable[[Path], None]] = [broken_numbers, another_tokenizer, another_template]


async def test_what_is_wrong_or_corrupt_is_quarantined_and_the_stable_version_goes_on(
    repository: Path, tmp_path: Path
) -> None:
    for number, spoil in enumerate(SPOILERS, 2):
        folder = copy_demo(tmp_path / f"spoilt-{number}")
        spoil(folder)
        publish(folder, repository, "demo")
    corrupt = publish(copy_demo(tmp_path / "corrupt"), repository, "demo").version
    weights = repository / "demo" / str(corrupt) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with serving(repository, tmp_path / "server.log") as (server, operator):
        async with Clients(server.url, 2) as clients:
            for version in range(2, corrupt + 1):
                loaded = await asyncio.to_thread(operator.act, "POST", "/load", version=version)
                assert (loaded.status_code, operator.state(version)) == (503, "quarantined"), reason(operator, version)
                assert operator.act("POST", "/rollout", version=version).status_code == 400
            seen = len(clients.answered)
            await operator.until(lambda: len(clients.answered) > seen + 4)
        assert clients.failed == []
        assert {answer.version for answer in clients.answered} == {"demo@1"}
        assert "the probe: answers.jsonl:1: the answer has 0 tokens" in reason(operator, 2)
        assert "the tokenizer or the chat template is another" in reason(operator, 3)
        assert "the tokenizer or the chat template is another" in reason(operator, 4)
        assert "model.safetensors is not the file that was published" in reason(operator, corrupt)


def test_a_stream_longer_than_the_drain_of_a_rollout_allows_ends_with_one_error(
    repository: Path, tmp_path: Path
) -> None:
    publish(copy_demo(tmp_path / "second"), repository, "demo")
    with serving(repository, tmp_path / "server.log", "--drain-timeout", "0.5") as (server, operator):
        assert operator.act("POST", "/rollout", version=2).status_code == 200
        until(lambda: operator.stage() == "shadow")
        for _ in range(2):
            assert operator.act("POST", "/rollout/promote").status_code == 200
        with h2c(server.url) as client, client.stream("POST", "/v1/completions", json=on_first(3000)) as answer:
            lines = answer.iter_lines()
            received = [next(lines)]
            assert operator.act("POST", "/rollout/promote").status_code == 200
            received += lines
        settle(operator, 1, "unloaded")
        errors = [json.loads(data)["error"] for data in events(received) if '"error"' in data]
        assert [error["code"] for error in errors] == ["draining"]
        assert '"error"' in events(received)[-1]
        assert answers(server) == "demo@2"


def on_first(tokens: int) -> dict[str, object]:
    return completion(tokens, model="demo@1")


def answers(server: Server) -> str:
    reply = httpx.post(f"{server.url}/v1/completions", json=completion(2, model="demo", stream=False), timeout=30)
    return reply.headers.get("x-model-version", "")


async def test_where_memory_is_tight_the_old_version_comes_back_when_the_new_one_cannot_be_served(
    repository: Path, tmp_path: Path
) -> None:
    file = repository / "demo" / "model.toml"
    file.write_text(file.read_text() + 'strategy = "drain-first"\n')
    bad = wrong_demo(tmp_path / "bad")
    (bad / "golden").mkdir()
    (bad / "golden" / "answers.jsonl").write_bytes((tmp_path / "first" / "golden" / "answers.jsonl").read_bytes())
    publish(bad, repository, "demo")
    with serving(repository, tmp_path / "server.log") as (server, operator):
        async with Clients(server.url, 2) as clients:
            assert operator.act("POST", "/rollout", version=2).status_code == 200
            await operator.until(lambda: operator.state(1) == "unloaded")
            await operator.until(lambda: operator.stage() == "" and operator.state(1) == "serving")
            seen = len(clients.answered)
            await operator.until(lambda: len(clients.answered) > seen + 4)
        assert clients.failed == []
        assert {answer.version for answer in clients.answered} == {"demo@1"}
        assert operator.ends(2) == ["preparing", "aborted"]
        assert operator.state(2) == "quarantined"
