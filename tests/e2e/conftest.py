"""One repository of two models for every end-to-end test, and one server for each module that asks for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_checkpoint import write_checkpoint
from e2e_server import Server

from aruntime.control.repository import publish

NARROW = "[limits]\nsequences_max = 1\nwaiting_max = 1\n"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder."""
    return write_checkpoint(tmp_path_factory.mktemp("e2e") / "checkpoint")


@pytest.fixture(scope="session")
def repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, `tiny`."""
    root = tmp_path_factory.mktemp("e2e") / "repository"
    publish(checkpoint, root, "tiny")
    return root


@pytest.fixture(scope="session")
def narrow_repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, `tiny`, that runs one sequence and lets one more wait."""
    root = tmp_path_factory.mktemp("e2e") / "narrow"
    publish(checkpoint, root, "tiny")
    (root / "tiny" / "model.toml").write_text(NARROW)
    return root


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one front end."""
    with Server(repository, tmp_path_factory.mktemp("e2e") / "server.log") as running:
        yield running
