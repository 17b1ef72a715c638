"""What the operator's commands make of keys, of servers that do not answer, and of a terminal."""

import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_admin import Answer, PlayedAdmin
from e2e_server import free_port

from aruntime.cli import admin_client
from aruntime.cli.main import main
from aruntime.control.repository import publish

NO_ENTRIES = (200, {"audit": []})
GATES = [
    {"gate": "errors", "outcome": "pass", "sentence": "no request failed"},
    {"gate": "ttft", "outcome": "undecided", "sentence": "too few requests"},
    {"gate": "golden", "outcome": "breach", "sentence": "1 of 4 answers is wrong"},
]


@pytest.mark.parametrize("key", ["art-secret", "art-secret\n", " art-secret\r\n"])
def test_a_key_that_was_read_from_a_file_may_bring_the_end_of_its_line(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARUNTIME_ADMIN_KEY", key)
    with PlayedAdmin([NO_ENTRIES]) as admin:
        assert main(["audit", "--admin", admin.url]) == 0
    assert [authorization for _, _, authorization in admin.asked] == ["Bearer art-secret"]


@pytest.mark.parametrize("key", ["", "\n"])
def test_an_empty_key_is_none(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARUNTIME_ADMIN_KEY", key)
    with PlayedAdmin([NO_ENTRIES]) as admin:
        assert main(["audit", "--admin", admin.url]) == 0
    assert [authorization for _, _, authorization in admin.asked] == [None]


@pytest.mark.parametrize("key", ["art-sec\nret", "art-sec\tret", "art-s\u00e9cret"])
def test_a_key_that_no_header_can_hold_is_refused_and_never_shown(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARUNTIME_ADMIN_KEY", key)
    with PlayedAdmin([NO_ENTRIES]) as admin:
        assert main(["audit", "--admin", admin.url]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "aruntime audit: what ARUNTIME_ADMIN_KEY holds is no key\n")
    assert admin.asked == []


def test_a_restart_that_fails_is_told_as_far_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [(0, "running", ""), (1, "running", ""), (1, "failed", "the new front end died")]
    answers: list[Answer] = [
        (200, {"front_ends": [], "restart": {"count": 2, "replaced": replaced, "state": state, "reason": reason}})
        for replaced, state, reason in steps
    ]
    with PlayedAdmin([*answers[:1], (503, {"error": {"message": "draining", "code": "draining"}}), *answers]) as admin:
        assert main(["front-ends", "restart", "--admin", admin.url]) == 1
    told = capsys.readouterr()
    assert told.out == "1 of 2 replaced\n"
    assert told.err == "aruntime front-ends: 1 of 2 replaced, then it failed: the new front end died\n"


@pytest.fixture
def remove(checkpoint: Path, tmp_path: Path) -> Callable[[str], tuple[int, bool]]:
    """Ask for `tiny@1` to be removed; the status, and whether it is gone."""
    publish(checkpoint, tmp_path, "tiny")

    def removed(url: str) -> tuple[int, bool]:
        status = main(["models", "remove", "tiny@1", "--repository", str(tmp_path), "--admin", url])
        return status, not (tmp_path / "tiny" / "1").exists()

    return removed


def test_a_version_is_not_removed_while_a_server_listens_that_does_not_answer(
    remove: Callable[[str], tuple[int, bool]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(admin_client, "_READ_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert remove(f"http://127.0.0.1:{silent.getsockname()[1]}") == (1, False)
    with PlayedAdmin([(0, None)]) as broken:
        assert remove(broken.url) == (1, False)
    refusals = capsys.readouterr().err.splitlines()
    assert len(refusals) == 2
    assert all("does not say whether it needs tiny@1" in line for line in refusals)


def test_a_version_is_not_removed_by_who_has_an_impossible_key(
    remove: Callable[[str], tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARUNTIME_ADMIN_KEY", "art-sec\nret")
    with PlayedAdmin([(200, {})]) as admin:
        assert remove(admin.url) == (1, False)


def test_where_nobody_listens_nobody_needs_a_version(remove: Callable[[str], tuple[int, bool]]) -> None:
    assert remove(f"http://127.0.0.1:{free_port()}") == (0, True)


def rollout(stage: str, **more: Any) -> Answer:
    """What the server says of `tiny` whose rollout is there."""
    facts = {"stable": 1, "candidate": 2, "stage": stage, "reason": f"because of {stage}", **more}
    return 200, {"models": [{"name": "tiny", "rollout": facts, "last_rollout": None}]}


CANARY = rollout("canary", share=0.25, mirror=0.0, paused=False, missing="9 requests more", gates=GATES)
AWAY = (503, {"error": {"code": "draining", "message": "the server ends"}})


@pytest.mark.parametrize(("end", "status"), [("complete", 0), ("rolled_back", 1), ("aborted", 1)])
def test_in_a_terminal_a_rollout_is_watched_to_its_end_gate_by_gate(end: str, status: int) -> None:
    with PlayedAdmin([rollout("shadow", mirror=0.1), CANARY, AWAY, (0, None), CANARY, rollout(end)]) as admin:
        told, screen = in_terminal("rollout", "watch", "tiny", "--admin", admin.url)
    assert told == status
    for words in ("tiny@2 shadow, 10 % copied", "canary, 25 % of requests", "9 requests more", f"because of {end}"):
        assert words in screen
    for gate in GATES:
        assert gate["outcome"] in screen
        assert gate["sentence"] in screen


def in_terminal(*words: str) -> tuple[int, str]:
    """A command's status and all that it wrote to its terminal."""
    ours, theirs = pty.openpty()
    try:
        command = subprocess.Popen(
            [sys.executable, "-m", "aruntime.cli.main", *words],
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            process_group=0,
        )
    finally:
        os.close(theirs)
    with open(ours, "rb", buffering=0) as terminal, command:
        try:
            screen = _read_all(terminal.fileno(), by_s=time.monotonic() + 60)
            return command.wait(10), screen
        finally:
            command.kill()


def _read_all(terminal: int, by_s: float) -> str:
    screen = b""
    while select.select([terminal], [], [], max(0.0, by_s - time.monotonic()))[0]:
        try:
            screen += os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            break
    return screen.decode()
