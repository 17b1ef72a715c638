"""One repository for all end-to-end tests, and a server in clear text and one over TLS for all who do not hurt them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import RSA, Pair, make_pair
from e2e_checkpoint import write_checkpoint
from e2e_front import Front
from e2e_server import Server

from aruntime.control.repository import publish

NARROW = "[limits]\nsequences_max = 1\nwaiting_max = 1\n"
WIDE = "[limits]\nwaiting_max = 2048\n"


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


@pytest.fixture(scope="session")
def wide_repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model, `tiny`, that lets more wait than any client of these tests asks for."""
    root = tmp_path_factory.mktemp("e2e") / "wide"
    publish(checkpoint, root, "tiny")
    (root / "tiny" / "model.toml").write_text(WIDE)
    return root


@pytest.fixture(scope="session")
def server(wide_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all who leave it as it was; with one front end."""
    with Server(wide_repository, tmp_path_factory.mktemp("e2e") / "server.log") as running:
        yield running


@pytest.fixture(scope="module")
def own_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that one module may do anything to."""
    with Server(repository, tmp_path_factory.mktemp("e2e") / "own.log") as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A certificate for 127.0.0.1 and its key."""
    return make_pair(tmp_path_factory.mktemp("tls"), "server", RSA)


@pytest.fixture(scope="session")
def clear_front(server: Server) -> Front:
    """The way to the server in clear text."""
    return Front(server)


@pytest.fixture(scope="session")
def tls_front(wide_repository: Path, certificate: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A server over TLS, for all who leave it as it was."""
    certfile, keyfile = certificate
    log = tmp_path_factory.mktemp("e2e") / "tls.log"
    with Server(wide_repository, log, "--certfile", str(certfile), "--keyfile", str(keyfile)) as running:
        yield Front(running, certfile)


@pytest.fixture(params=["clear", "tls"])
def front(request: pytest.FixtureRequest) -> Front:
    """Each way to a server in turn."""
    made: Front = request.getfixturevalue(f"{request.param}_front")
    return made
