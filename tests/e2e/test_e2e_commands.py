"""The command line as a user types it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from e2e_server import SERVE, events, free_port

from aruntime.cli.main import main


def test_the_printed_request_works_when_pasted(repository: Path, tmp_path: Path) -> None:
    command = [word for word in SERVE if word != "--json"]
    command += ["--repository", str(repository), "--journal", str(tmp_path / "journal")]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--repository", str(repository), "--journal", str(tmp_path / "journal")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
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


def test_a_version_is_shown_with_its_settings_its_memory_and_its_files(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--repository", str(tmp_path / "repository")]
    for _ in range(2):
        assert main(["models", "add", "mine", str(checkpoint), *where]) == 0
    (tmp_path / "repository" / "mine" / "model.toml").write_text("[limits]\nsequences_max = 3\n")
    capsys.readouterr()
    assert main(["models", "show", "mine", *where, "--device", "cpu", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["model"], shown["version"], shown["signed"]) == ("mine", 2, False)
    assert shown["version.toml"]["engine"] == "decoder"
    assert shown["model.toml"]["limits"]["sequences_max"] == 3
    assert shown["version.toml"]["provenance"]["source"] == checkpoint.name
    assert shown["footprint"]["weight_bytes"] > 400_000
    sizes = {file["name"]: file["bytes"] for file in shown["files"]}
    assert sizes["model.safetensors"] == (checkpoint / "model.safetensors").stat().st_size
    assert main(["models", "show", "mine@1", *where, "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "workspace_bytes" in told
    assert "tokenizer.json" in told


def test_a_version_is_removed_and_only_when_it_is_named(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--repository", str(tmp_path / "repository")]
    for _ in range(2):
        assert main(["models", "add", "mine", str(checkpoint), *where]) == 0
    nobody = ["--admin", f"http://127.0.0.1:{free_port()}"]
    with pytest.raises(SystemExit):
        main(["models", "remove", "mine", *where, *nobody])
    assert main(["models", "remove", "mine@1", *where, *nobody, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"removed": "mine@1"}
    assert main(["models", "list", *where, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 2


def test_the_schemas_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for form, field in (("model", "rollout"), ("version", "provenance"), ("manifest", "files")):
        assert main(["models", "schema", form]) == 0
        assert field in json.loads(capsys.readouterr().out)["properties"]


def test_a_signed_version_is_told_from_one_that_is_not(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("OpenSSL", reason="model-signing imports it")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "k.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    where = ["--repository", str(tmp_path / "repository"), "--json"]
    assert main(["models", "add", "mine", str(checkpoint), "--sign", str(tmp_path / "k.pem"), *where]) == 0
    assert main(["models", "add", "mine", str(checkpoint), *where]) == 0
    capsys.readouterr()
    assert main(["models", "verify", *where, "--trusted-key", str(tmp_path / "k.pub")]) == 1
    signed, unsigned = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert signed["verified"]
    assert unsigned["refused"] == "it is not signed, and only signed versions are trusted here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "Bad Name", "CHECKPOINT"], "cannot name a model"),
        (["add", "mine", "/nowhere"], "is no folder"),
        (["add", "mine", "CHECKPOINT", "--version", "0"], "cannot be a version"),
        (["verify", "nobody"], "no model nobody"),
        (["show", "nobody"], "no model nobody"),
        (["show", "tiny@9"], "no version 9 of tiny"),
        (["add", "mine", "CHECKPOINT", "--sign", "/nowhere"], "/nowhere is no file"),
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
