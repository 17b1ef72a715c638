"""The operator's commands as they are typed, against a real server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e_server import HEADERS, Server, completion, free_port, until

from aruntime.cli.main import main
from aruntime.control.journal import Journal
from aruntime.control.repository import publish

# By hand: nothing of a rollout moves by itself while a test looks at it.
POLICY = "[rollout]\nshadow_share = 0.0\nsteps = [0.5]\nwindow_s = 3600\nrequests_min = 1000\n"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def root(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` with one version."""
    made = tmp_path_factory.mktemp("operators") / "repository"
    publish(checkpoint, made, "tiny")
    (made / "tiny" / "model.toml").write_text(POLICY)
    return made


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("operators") / "log"
    with Server(root, log, "--drain-timeout", "5", "--memory", "8G") as running:
        yield running


@pytest.fixture
def version(checkpoint: Path, root: Path, server: Server) -> int:
    """Another version of `tiny`, which the server has verified and not loaded."""
    number = publish(checkpoint, root, "tiny").version
    until(lambda: state_of(server, number) == "verified")
    return number


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Type a command; its status, its output, and what it said on standard error."""
    monkeypatch.setenv("ARUNTIME_ADMIN", server.admin_url)
    monkeypatch.delenv("ARUNTIME_ADMIN_KEY", raising=False)

    def typed(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()

    return typed


def facts_of(server: Server) -> dict[str, Any]:
    facts: dict[str, Any] = httpx.get(f"{server.admin_url}/admin/models/tiny").json()["models"][0]
    return facts


def state_of(server: Server, version: int) -> str:
    states = {one["version"]: one["state"] for one in facts_of(server)["versions"]}
    return str(states.get(version, ""))


def typed(server: Server, *words: object) -> "subprocess.Popen[str]":
    """A command in a process of its own, in a pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "aruntime.cli.main", *map(str, words)],
        env={**os.environ, "ARUNTIME_ADMIN": server.admin_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def test_a_version_is_loaded_labelled_asked_and_unloaded(run: Run, server: Server, version: int) -> None:
    status, out, err = run("models", "load", f"tiny@{version}")
    assert (status, out) == (0, f"tiny@{version} is standby\n")
    assert f"tiny@{version} loading" in err
    status, out, _ = run("models", "label", "tiny", "beta", version, "--json")
    assert (status, json.loads(out)["labels"]) == (0, {"stable": 1, "beta": version})
    answer = httpx.post(
        f"{server.url}/v1/completions", json=completion(2, model="tiny@beta", stream=False), headers=HEADERS, timeout=30
    )
    assert answer.headers["x-model-version"] == f"tiny@{version}"
    row = next(line for line in run("models", "status", "tiny")[1].splitlines() if f" {version} " in line)
    assert "serving" in row
    assert "beta" in row
    assert "1/1" in row
    assert run("models", "label", "tiny", "beta", "--drop")[0] == 0
    assert run("models", "unload", f"tiny@{version}")[:2] == (0, f"unloaded tiny@{version}\n")
    assert state_of(server, version) == "unloaded"
    trail = [json.loads(line) for line in run("audit", "--json")[1].splitlines()]
    told = [(one["actor"], one["action"], one["subject"], one["outcome"]) for one in trail]
    assert told[:4] == [
        ("local", "unload", f"tiny@{version}", "done"),
        ("local", "drop-label", "tiny label beta", "done"),
        ("local", "set-label", f"tiny@{version} label beta", "done"),
        ("local", "load", f"tiny@{version}", "done"),
    ]
    table = run("audit", "--limit", 2, "--before", trail[0]["id"])[1]
    assert "drop-label" in table
    assert "load" not in table.replace("unload", "")


def test_for_a_script_there_is_the_answer_and_nothing_else(run: Run, version: int) -> None:
    status, out, err = run("models", "load", f"tiny@{version}", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["state"] == "standby"
    assert set(json.loads(run("models", "status", "--json")[1])) == {"models", "memory", "repository"}
    assert json.loads(run("models", "unload", f"tiny@{version}", "--json")[1]) == {"unloaded": [f"tiny@{version}"]}


def test_what_drains_is_told_with_the_tokens_that_are_left(run: Run, server: Server, version: int) -> None:
    assert run("models", "load", f"tiny@{version}")[0] == 0
    answered = threading.Event()

    def long_answer() -> None:
        body = completion(30_000, model=f"tiny@{version}")
        with httpx.stream("POST", f"{server.url}/v1/completions", json=body, headers=HEADERS, timeout=60) as answer:
            for _ in answer.iter_lines():
                answered.set()

    client = threading.Thread(target=long_answer)
    client.start()
    assert answered.wait(20)
    status, _, err = run("models", "unload", f"tiny@{version}")
    client.join(20)
    assert status == 0
    assert f"tiny@{version} draining, 1 in flight, " in err
    assert " tokens left: an operator unloaded it" in err


def test_who_interrupts_a_load_does_not_stop_it(server: Server, version: int) -> None:
    loading = typed(server, "models", "load", f"tiny@{version}")
    until(lambda: state_of(server, version) == "loading")
    loading.send_signal(signal.SIGINT)
    _, err = loading.communicate(timeout=20)
    assert loading.returncode == 130
    assert "Traceback" not in err
    until(lambda: state_of(server, version) == "standby")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("models load tiny@999", "there is no version 999 of tiny"),
        ("models load nobody", "there is no model nobody"),
        ("models status nobody", "there is no model nobody"),
        ("models release tiny@1", "cannot release"),
        ("models label tiny beta 999", "there is no version 999"),
        ("models label tiny gone --drop", "tiny has no label gone"),
        ("models label tiny stable --drop", "always has a stable version"),
        ("rollout start tiny@1", "tiny@1 is the stable version"),
        ("rollout pause tiny", "no rollout of tiny is under way"),
        ("rollout roll-back tiny --wait", "no rollout of tiny is under way"),
        ("rollout watch nobody", "there is no model nobody"),
        ("audit --limit 0", "limit: "),
    ],
)
def test_what_the_server_refuses_is_one_line_and_status_1(run: Run, words: str, told: str) -> None:
    status, out, err = run(*words.split())
    assert (status, out) == (1, "")
    assert told in err.splitlines()[-1]
    assert err.startswith(f"aruntime {words.split()[0]}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        "models load Tiny",
        "models load ../tiny",
        "models load tiny@beta",
        "models load tiny:adapter",
        "models release tiny",
        "models remove tiny",
        "rollout start tiny",
        "rollout pause tiny@1",
        "models label tiny beta",
        "models label tiny beta 1 --drop",
        "models label tiny Bad 1",
        "models label tiny .. --drop",
        "models label tiny ../../other/labels/beta --drop",
        "models status --admin ftp://localhost",
        "models status --admin localhost:8001",
        "models status --admin http://user:secret@localhost",
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_server_is_asked(run: Run, words: str) -> None:
    with pytest.raises(SystemExit) as refused:
        run(*words.split())
    assert refused.value.code == 2


def test_a_server_that_is_not_there_or_is_another_is_said_in_words(run: Run, server: Server) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    for words in ("models status", "models load tiny", "rollout status", "audit"):
        status, _, err = run(*words.split(), "--admin", nowhere)
        assert status == 1
        assert f"no server answers at {nowhere}" in err
    status, _, err = run("audit", "--admin", server.url)
    assert status == 1
    assert f"what answers at {server.url} is no admin listener" in err


def test_the_key_comes_from_the_environment(
    run: Run, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "tenants.toml"
    assert main(["tenants", "admin-key", "--tenants", str(keys), "--json"]) == 0
    key = json.loads(capsys.readouterr().out)["admin_key"]
    with Server(root, tmp_path / "log", "--tenants", str(keys), "--memory", "8G") as guarded:
        for given in (None, "art-wrong"):
            if given is not None:
                monkeypatch.setenv("ARUNTIME_ADMIN_KEY", given)
            status, _, err = run("models", "status", "--admin", guarded.admin_url)
            assert status == 1
            assert "ARUNTIME_ADMIN_KEY" in err
            assert "art-wrong" not in err
        status, _, err = run("models", "remove", "tiny@1", "--repository", root, "--admin", guarded.admin_url)
        assert status == 1
        assert "does not say whether it needs tiny@1" in err
        monkeypatch.setenv("ARUNTIME_ADMIN_KEY", key)
        status, out, _ = run("models", "load", "tiny", "--admin", guarded.admin_url)
        assert status == 0
        assert out.endswith(" is serving\n")
        assert '"actor": "admin"' in run("audit", "--json", "--admin", guarded.admin_url)[1]


def test_a_version_is_removed_only_when_no_server_needs_it(
    run: Run, root: Path, server: Server, version: int, tmp_path: Path
) -> None:
    at = ("--repository", root)
    assert run("models", "load", f"tiny@{version}")[0] == 0
    status, _, err = run("models", "remove", f"tiny@{version}", *at)
    assert status == 1
    assert f"tiny@{version} is standby on the server at {server.admin_url}: unload it first" in err
    assert run("models", "label", "tiny", "beta", version)[0] == 0
    assert run("models", "unload", f"tiny@{version}")[0] == 0
    status, _, err = run("models", "remove", f"tiny@{version}", *at)
    assert status == 1
    assert f"tiny@{version} is beta on the server" in err
    assert run("models", "label", "tiny", "beta", "--drop")[0] == 0
    other = tmp_path / "other"
    shutil.copytree(root, other)
    assert run("models", "remove", "tiny@1", "--repository", other)[:2] == (0, "removed tiny@1\n")  # not that server's
    assert run("models", "remove", f"tiny@{version}", *at, "--json")[1] == f'{{"removed": "tiny@{version}"}}\n'
    assert not (root / "tiny" / str(version)).exists()
    assert [one.name for one in (root / "tiny").iterdir() if one.name.startswith(".")] == []
    until(lambda: state_of(server, version) == "")
    status, _, err = run("models", "remove", f"tiny@{version}", *at)
    assert status == 1
    assert f"there is no version {version} of tiny" in err


def test_a_version_shows_its_settings_its_files_and_what_it_takes(run: Run, root: Path) -> None:
    status, out, _ = run("models", "show", "tiny@1", "--repository", root, "--device", "cpu", "--json")
    facts = json.loads(out)
    assert (status, facts["model"], facts["version"]) == (0, "tiny", 1)
    assert facts["model.toml"]["rollout"]["steps"] == [0.5]
    assert facts["version.toml"]["provenance"]["source"] == "checkpoint"
    manifest = json.loads((root / "tiny" / "1" / "MANIFEST.json").read_text())["files"]
    assert {file["name"]: file["sha256"] for file in facts["files"]} == manifest
    weights = next(file for file in facts["files"] if file["name"] == "model.safetensors")
    assert weights["bytes"] == (root / "tiny" / "1" / "model.safetensors").stat().st_size
    assert facts["footprint"]["weight_bytes"] >= weights["bytes"] * 0.9
    text = run("models", "show", "tiny@1", "--repository", root, "--device", "cpu")[1]
    assert "rollout.steps = [0.5]" in text
    assert manifest["config.json"] in text


@pytest.mark.parametrize(
    ("form", "path", "words"),
    [
        ("model", ["$defs", "Limits", "properties", "waiting_max"], "one more is answered 503"),
        ("model", ["$defs", "RolloutPolicy", "properties", "bake_s"], "stays warm"),
        ("version", ["properties", "target"], "hardware"),
        ("manifest", ["properties", "files"], "sha256"),
    ],
)
def test_the_schema_of_a_file_describes_its_fields(run: Run, form: str, path: list[str], words: str) -> None:
    status, out, _ = run("models", "schema", form)
    found = json.loads(out)
    assert (status, found["additionalProperties"]) == (0, False)
    for name in path:
        found = found[name]
    assert words in found["description"]


def test_a_rollout_is_watched_to_its_end(run: Run, server: Server, version: int) -> None:
    status, out, _ = run("rollout", "start", f"tiny@{version}", "--json")
    assert (status, json.loads(out)["candidate"]) == (0, version)
    watching = typed(server, "rollout", "watch", "tiny")
    assert watching.stdout is not None
    seen = [watching.stdout.readline()]  # it looks
    until(lambda: facts_of(server)["rollout"]["stage"] == "canary")
    while "canary, 50 % of requests" not in seen[-1]:
        seen.append(watching.stdout.readline())
        assert seen[-1]
    assert run("rollout", "pause", "tiny")[1].startswith(f"tiny@{version} canary, 50 % of requests, paused: pause by")
    status, out, _ = run("rollout", "status", "tiny")
    assert status == 0
    assert "canary, paused" in out
    refused = run("models", "unload", f"tiny@{version}")
    assert refused[0] == 1
    assert "a rollout is under way" in refused[2]
    assert run("rollout", "resume", "tiny")[0] == 0
    assert run("rollout", "promote", "tiny")[0] == 0
    status, out, _ = run("rollout", "promote", "tiny", "--wait")
    assert status == 0
    assert f"tiny@{version} complete" in out
    out, err = watching.communicate(timeout=20)
    assert (watching.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[-1].startswith(f"tiny@{version} complete")
    assert facts_of(server)["labels"]["stable"] == version
    assert run("rollout", "watch", "tiny")[0] == 0  # the last one, which is over
    assert "complete" in run("rollout", "status", "tiny")[1]


def test_a_rollout_that_is_sent_back_is_a_failure_to_who_watched_and_not_to_who_asked(
    run: Run, server: Server, version: int
) -> None:
    assert run("rollout", "start", f"tiny@{version}")[0] == 0
    watching = typed(server, "rollout", "watch", "tiny", "--json")
    assert watching.stdout is not None
    assert any(json.loads(line)["stage"] == "canary" for line in watching.stdout)
    status, out, _ = run("rollout", "roll-back", "tiny", "--wait")
    assert status == 0
    assert f"tiny@{version} rolled back: roll-back by" in out
    out, err = watching.communicate(timeout=20)
    assert (watching.returncode, err) == (1, "")
    assert json.loads(out.splitlines()[-1])["stage"] == "rolled_back"
    trail = [json.loads(line) for line in run("audit", "--json")[1].splitlines()]
    assert any(one["action"] == "rollout" and one["outcome"] == "rolled back" for one in trail)


def test_a_load_that_the_end_of_the_server_cuts_short_is_told_at_once(root: Path, tmp_path: Path) -> None:
    with Server(root, tmp_path / "server.log", "--memory", "8G", "--drain-timeout", "60") as ending:
        publish(root / "tiny" / "1", root, "tiny", 900)
        until(lambda: state_of(ending, 900) == "verified")
        loading = typed(ending, "models", "load", "tiny@900")
        until(lambda: state_of(ending, 900) == "loading")
        ending.terminate()
        _, err = loading.communicate(timeout=20)
        assert loading.returncode == 1
        assert "the server ends: it was not done" in err
        assert ending.process.wait(20) == 0
    journal = Journal(tmp_path / "server.journal")
    cut = [entry for entry in journal.audit(100) if entry.outcome == "cut short"]
    journal.close()
    assert [entry.subject for entry in cut] == ["tiny@900"]
