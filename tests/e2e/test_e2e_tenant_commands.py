"""`aruntime tenants` as a user types it: keys are shown once and kept as digests; a file is edited without a loss."""

import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from aruntime.cli.main import main
from aruntime.control.tenants import read_tenants


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenants.toml"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    """The rows that a command prints."""
    assert main(["tenants", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def digest(key: object) -> str:
    return f"sha256:{hashlib.sha256(str(key).encode()).hexdigest()}"


def test_a_key_is_shown_once_and_its_digest_is_kept(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--tenants", str(file)]
    (added,) = run(capsys, "add", "acme", *at)
    (second,) = run(capsys, "key", "acme", *at)
    (dotted,) = run(capsys, "add", "acme.eu-1", *at)
    (admin,) = run(capsys, "admin-key", *at)
    (admin_2,) = run(capsys, "admin-key", *at)
    keys = [added["key"], second["key"], dotted["key"], admin["admin_key"], admin_2["admin_key"]]
    assert all(re.fullmatch(r"art-[A-Za-z0-9_-]{43}", str(key)) for key in keys)
    assert len(set(keys)) == 5
    assert file.stat().st_mode & 0o777 == 0o600
    settings = read_tenants(file)
    assert settings.tenants["acme"].keys == [digest(second["key"]), digest(added["key"])]
    assert settings.tenants["acme.eu-1"].keys == [digest(dotted["key"])]
    assert settings.admin.keys == [digest(admin_2["admin_key"]), digest(admin["admin_key"])]
    assert "art-" not in file.read_text()
    assert run(capsys, "list", *at) == [{"tenant": "acme", "keys": 2}, {"tenant": "acme.eu-1", "keys": 1}]
    assert os.listdir(file.parent) == [file.name]


WRITTEN = """# ours
[tenants.acme]  # the first
# no keys yet
weight = 2
  keys = [ # none
  ]

[tenants.umbrella]
keys = ["sha256:%s"]
""" % ("a" * 64)


def test_what_else_stands_in_the_file_stays_as_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(WRITTEN)
    file.chmod(0o600)
    (made,) = run(capsys, "key", "acme", "--tenants", str(file))
    assert file.read_text() == WRITTEN.replace("keys = [ # none", f'keys = ["{digest(made["key"])}",  # none')
    (other,) = run(capsys, "key", "umbrella", "--tenants", str(file))
    assert tomllib.loads(file.read_text())["tenants"]["umbrella"]["keys"] == [
        digest(other["key"]),
        "sha256:" + "a" * 64,
    ]


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (WRITTEN, ["add", "acme"], "there is already a tenant acme"),
        (WRITTEN, ["key", "zeta"], "there is no tenant zeta"),
        (WRITTEN, ["add", "Zeta"], "cannot name a tenant"),
        (WRITTEN, ["add", 'x"]\n[admin'], "nothing was changed"),
        (WRITTEN, ["add", "none"], "cannot name a tenant"),
        ("tenants = {}\n", ["add", "acme"], "nothing was changed"),
        ("tenants = {acme = {keys = []}}\n", ["key", "acme"], "nothing was changed"),
        ("tenants.acme.keys = []\n", ["key", "acme"], "nothing was changed"),
        ("[tenants\n", ["add", "acme"], "is not TOML"),
        (f"[tenants.acme]\nkeys = {[f'sha256:{i:064x}' for i in range(8)]}\n", ["key", "acme"], "keys: List"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_in_one_line_and_changes_nothing(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, arguments: list[str], words: str
) -> None:
    file.write_text(text)
    file.chmod(0o600)
    assert main(["tenants", *arguments, "--tenants", str(file)]) == 1
    told = capsys.readouterr()
    assert words in told.err
    assert told.out == ""
    assert file.read_text() == text
    assert os.listdir(file.parent) == [file.name]


def test_a_file_that_others_may_read_is_not_edited(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(WRITTEN)
    file.chmod(0o644)
    for arguments in (["add", "zeta"], ["list"]):
        assert main(["tenants", *arguments, "--tenants", str(file)]) == 1
        assert "chmod 600" in capsys.readouterr().err


def test_a_link_to_the_file_stays_a_link(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    monkeypatch.setenv("ARUNTIME_TENANTS", str(link))
    run(capsys, "add", "acme")
    assert link.is_symlink()
    assert list(read_tenants(file).tenants) == ["acme"]


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (None, ["--host", "0.0.0.0"], "--host 0.0.0.0 is not loopback: it needs API keys"),
        (None, ["--host", "::"], "it needs API keys"),
        (None, ["--admin-host", "0.0.0.0"], "--admin-host 0.0.0.0 is not loopback: it needs an admin key"),
        (WRITTEN, ["--admin-host", "0.0.0.0"], "it needs an admin key"),
        ("[tenants.acme]\n", [], "tenants.acme.keys: Field required"),
        ("[tenants.acme]\nkeys = []\nwait = 1", [], "tenants.acme.wait"),
    ],
)
def test_what_must_not_be_served_is_refused_at_start(
    file: Path, repository: Path, capsys: pytest.CaptureFixture[str], text: str | None, arguments: list[str], words: str
) -> None:
    if text is not None:
        file.write_text(text)
        file.chmod(0o600)
        arguments = [*arguments, "--tenants", str(file)]
    assert main(["serve", "--port", "0", "--repository", str(repository), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_others_may_read_is_refused_at_start(
    file: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("")
    file.chmod(0o640)
    assert main(["serve", "--port", "0", "--repository", str(repository), "--tenants", str(file)]) == 2
    assert "chmod 600" in capsys.readouterr().err
