"""A server takes up another certificate without a restart, and no wrong one."""

import os
import shutil
import signal
import ssl
from pathlib import Path

import httpx
import pytest
from certificates import RSA, Pair, make_pair
from e2e_server import Server, sockets, until
from e2e_stream import Stream


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """A pair, and one of another kind that takes its place."""
    folder = tmp_path_factory.mktemp("pairs")
    return make_pair(folder, "old", RSA), make_pair(folder, "new")


def shown(server: Server) -> set[str]:
    """The certificates that new connections see."""
    address = httpx.URL(server.url)
    return {ssl.get_server_certificate((address.host, address.port or 0)) for _ in range(8)}


def trouble(server: Server) -> str:
    """What the server says of its certificate."""
    told: str = httpx.get(f"{server.admin_url}/health/dependencies").json()["dependencies"]["certificate"]
    return told


def test_a_certificate_is_replaced_under_streams_and_a_wrong_one_is_not_taken(
    repository: Path, tmp_path: Path, pairs: tuple[Pair, Pair]
) -> None:
    (old, new), files = pairs, Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    old_text, new_text = (pair.certfile.read_text() for pair in pairs)
    for source, file in zip(old, files, strict=True):
        shutil.copy(source, file)
    named = ("--certfile", str(files.certfile), "--keyfile", str(files.keyfile), "--workers", "2")
    trust = ssl.create_default_context(cafile=old.certfile)
    with Server(repository, tmp_path / "log", *named) as server:
        at_rest = {pid: sockets(pid) for pid in server.front_ends()}
        client = httpx.Client(base_url=server.url, http2=True, verify=trust, timeout=60)
        stream = Stream(client, 20_000)
        (serving,) = [pid for pid in server.front_ends() if sockets(pid) > at_rest[pid]]
        assert shown(server) == {old_text}
        assert trouble(server) == "ok"

        shutil.copy(new.certfile, files.certfile)  # whose key is not there yet
        until(lambda: trouble(server) != "ok", 10)
        assert str(tmp_path) not in trouble(server)
        assert "is not that of the certificate" in server.log.read_text()
        (other,) = set(server.front_ends()) - {serving}
        os.kill(other, signal.SIGKILL)
        until(lambda: shown(server) == {old_text} and len(server.front_ends()) == 2, 30)

        shutil.copy(new.keyfile, files.keyfile)
        until(lambda: shown(server) == {new_text}, 10)
        until(lambda: trouble(server) == "ok", 10)

        for source, file in zip(old, files, strict=True):
            os.replace(shutil.copy(source, tmp_path / "draft"), file)
        server.process.send_signal(signal.SIGHUP)
        until(lambda: shown(server) == {old_text}, 10)
        heard = len(stream.lines)
        until(lambda: len(stream.lines) > heard + 100)


def test_a_pair_that_does_not_match_is_refused_at_the_start(
    repository: Path, tmp_path: Path, pairs: tuple[Pair, Pair]
) -> None:
    old, new = pairs
    with pytest.raises(AssertionError, match="is not that of the certificate"):
        Server(repository, tmp_path / "log", "--certfile", str(new.certfile), "--keyfile", str(old.keyfile))
