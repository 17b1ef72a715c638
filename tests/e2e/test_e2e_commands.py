"""The command line as a user types it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_server import SERVE, events

from aruntime.cli.main import main


def test_the_printed_request_works_when_pasted(repository: Path, tmp_path: Path) -> None:
    command = [word for word in SERVE if word != "--json"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--repository", str(repository)], stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
        )
    assert server.stdout is not None
    try:
        ready, request = server.stdout.readline(), server.stdout.readline()
        assert ready.startswith("ready on http://127.0.0.1:")
        assert "tiny@1" in ready
        body = request.replace('"stream": true', '"stream": true, "max_tokens": 5')
        answer = subprocess.run(body, shell=True, capture_output=True, text=True, timeout=30)
        assert events(answer.stdout.splitlines())[-1] == "[DONE]"
    finally:
        server.terminate()
        assert server.wait(15) == 0
        server.stdout.close()


def test_a_model_is_added_listed_and_verified(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--repository", str(tmp_path / "repository"), "--json"]
    assert main(["models", "add", "mine", str(checkpoint), *where]) == 0
    assert main(["models", "add", "mine", str(checkpoint), "--version", "5", *where]) == 0
    assert main(["models", "list", *where]) == 0
    assert main(["models", "verify", *where]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["model"], row["version"]) for row in rows] == [("mine", 1), ("mine", 5)] * 3
    assert all(row["verified"] for row in rows[-2:])


def test_a_damaged_version_is_named(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "repository"
    assert main(["models", "add", "mine", str(checkpoint), "--repository", str(root)]) == 0
    (root / "mine" / "1" / "config.json").write_text("{}")
    capsys.readouterr()
    assert main(["models", "verify", "mine", "--repository", str(root), "--json"]) == 1
    assert "config.json is not the file that was published" in json.loads(capsys.readouterr().out)["refused"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "Bad Name", "CHECKPOINT"], "cannot name a model"),
        (["add", "mine", "/nowhere"], "is no folder"),
        (["add", "mine", "CHECKPOINT", "--version", "0"], "cannot be a version"),
        (["verify", "nobody"], "no model nobody"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    checkpoint: Path, repository: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    filled = [word.replace("CHECKPOINT", str(checkpoint)) for word in arguments]
    assert main(["models", *filled, "--repository", str(repository)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "option", [["--cache-bytes", "5X"], ["--port", "70000"], ["--threads", "0"], ["--drain-timeout", "nan"]]
)
def test_an_option_out_of_range_is_refused_by_name(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", *option])
    assert option[0] in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        assert main(["serve", "--port", number, "--repository", str(repository)]) == 2
    assert f"cannot listen on 127.0.0.1:{number}" in capsys.readouterr().err


def test_the_version_is_told() -> None:
    told = subprocess.run([sys.executable, "-m", "aruntime.cli.main", "--version"], capture_output=True, text=True)
    assert told.stdout.startswith("aruntime ")
