"""A real server and clients that mean it no good: refused quickly, and whoever is beside them is served."""

import contextlib
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from e2e_front import Front
from e2e_http2 import RawClient
from e2e_server import HEADERS, Server, completion, h2c
from h2.events import StreamEnded
from h2.exceptions import ProtocolError

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
LARGE = 64 << 20
DEEP = b"[" * 100_000 + b"]" * 100_000


def connected(server: Server) -> socket.socket:
    """A connection in clear text."""
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def said(server: Server, words: bytes) -> bytes:
    """All that the server says to these words over HTTP/1.1, until it closes."""
    told = b""
    with connected(server) as plain, contextlib.suppress(ConnectionError):
        plain.sendall(words)
        while received := plain.recv(65_536):
            told += received
    return told


def test_a_front_end_may_have_as_many_descriptors_as_connections() -> None:
    lines = [
        "import resource as r",
        "from aruntime.cli.frontend import allow_files",
        "hard = r.getrlimit(r.RLIMIT_NOFILE)[1]",
        "r.setrlimit(r.RLIMIT_NOFILE, (256, hard))",
        "allow_files()",
        "soft = r.getrlimit(r.RLIMIT_NOFILE)[0]",
        "assert soft == hard or soft > 2 * 8_192, (soft, hard)",
    ]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=60)


@pytest.mark.skipif(shutil.which("h2spec") is None, reason="there is no h2spec here")
@pytest.mark.parametrize("path", ["/", "/v1/completions"])
def test_h2spec_passes_whole(front: Front, path: str) -> None:
    port = str(urlsplit(front.url).port)
    command = ["h2spec", "-h", "127.0.0.1", "-p", port, "-P", path, *(["-t", "-k"] if front.cafile else [])]
    told = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100).stdout
    assert re.search(r"146 tests, 146 passed, 0 skipped, 0 failed", told), told[-3_000:]


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"model": "tiny", "prompt": ' + DEEP + b"}",
        b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
        b'{"model": "tiny", "prompt": "hello", "metadata": {"a": ' + DEEP + b"}}",
    ],
    ids=["lists", "a prompt", "objects", "metadata"],
)
def test_json_of_a_hundred_thousand_levels_is_refused_at_once(clear_front: Front, body: bytes, http2: bool) -> None:
    with httpx.Client(base_url=clear_front.url, timeout=10, **clear_front.httpx(http2=http2)) as client:
        answer = client.post("/v1/completions", content=body, headers=HEADERS)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request_error")
        assert client.get("/health/live").status_code == 200


def test_a_long_body_is_refused_by_its_length_before_any_of_it_comes(server: Server) -> None:
    told = said(server, HEAD + b"content-length: %d\r\n\r\n" % LARGE)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in told.lower()
    with RawClient(server.url) as client:
        running = client.post("/v1/completions", completion(2_000))
        client.first_data(running)
        refused = client.begin("/v1/completions", ("content-length", str(LARGE)))
        assert client.status(refused) == 413
        client.reset(running)
        assert client.status(client.post("/v1/completions", completion(3, stream=False))) == 200


def test_a_long_body_without_a_length_is_refused_when_enough_has_come(server: Server) -> None:
    sent = 0
    with connected(server) as plain:
        plain.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while sent < LARGE and not select.select([plain], [], [], 0)[0]:
            plain.sendall(b"10000\r\n" + 65_536 * b" " + b"\r\n")
            sent += 65_536
        assert sent < LARGE / 2  # 4 MiB, and what the kernel keeps
        assert plain.recv(4_096).startswith(b"HTTP/1.1 413 ")
    with RawClient(server.url) as client:
        stream, sent, heard = client.begin("/v1/completions"), 0, list[object]()
        while not any(isinstance(event, StreamEnded) for event in heard):
            if (room := client.room(stream)) == 0:
                heard += client.hear()
                continue
            client.send(stream, room * b" ")
            sent += room
        assert 4 << 20 <= sent <= (4 << 20) + (1 << 20)
        assert json.loads(client.bodies[stream])["error"]["code"] == "request_too_large"
        assert client.status(client.post("/v1/completions", completion(3, stream=False))) == 200


def test_a_double_or_lying_host_is_refused(server: Server) -> None:
    assert said(server, HEAD + b"host: there\r\ncontent-length: 0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    with RawClient(server.url) as client:
        for hosts in (["there"], ["there", "there"]):
            stream = client.begin("/v1/completions", *(("host", host) for host in hosts))
            client.send(stream, b"{}", end=True)
            assert client.status(stream) == 400
            assert json.loads(client.bodies[stream])["error"]["param"] == "host"
        assert client.status(client.post("/v1/completions", completion(3, stream=False))) == 200


def test_of_a_request_that_two_servers_read_differently_nothing_is_done(server: Server) -> None:
    body = json.dumps(completion(3, stream=False)).encode()
    chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    before = server.metric("aruntime_requests_total")
    told = said(server, HEAD + b"content-length: %d\r\n" % len(body) + chunked + 2 * chunked)
    assert told.startswith(b"HTTP/1.1 400 ")
    assert told.count(b"HTTP/1.1") == 1
    assert server.metric("aruntime_requests_total") == before


def crumbs_of_http1(server: Server) -> bool:
    """Send a million bytes, a chunk each. Whether that was cut short."""
    sent = 0
    with connected(server) as plain, contextlib.suppress(ConnectionError):
        plain.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        while sent < 1_000_000:
            plain.sendall(1_000 * b"1\r\n \r\n")
            sent += 1_000
    return sent < 1_000_000


def crumbs_of_http2(server: Server) -> bool:
    """Send a million bytes, a frame each. Whether that was cut short."""
    sent = 0
    with RawClient(server.url) as client, contextlib.suppress(ConnectionError, AssertionError, ProtocolError):
        stream = client.begin("/v1/completions")
        while sent < 1_000_000:
            if client.room(stream) == 0:
                client.hear()
                continue
            client.send(stream, b" ")
            sent += 1
    return sent < 1_000_000


@pytest.mark.parametrize("crumbs", [crumbs_of_http1, crumbs_of_http2])
def test_a_million_bytes_in_as_many_pieces_are_cut_short_and_neighbours_do_not_wait(
    server: Server, crumbs: Callable[[Server], bool]
) -> None:
    with h2c(server.url) as neighbour, ThreadPoolExecutor(3) as pool:
        neighbour.get("/health/live")
        floods = [pool.submit(crumbs, server) for _ in range(3)]
        waits = []
        while not all(flood.done() for flood in floods):
            asked_s = time.monotonic()
            assert neighbour.get("/health/live").status_code == 200
            waits.append(time.monotonic() - asked_s)
        assert max(waits) < 2
        assert all(flood.result() for flood in floods)


def test_requests_that_are_reset_at_once_end_their_connection_and_leave_nothing_computed(clear_front: Front) -> None:
    body = json.dumps(completion(30_000)).encode()
    resets = 0
    with RawClient(clear_front.url) as client, contextlib.suppress(ConnectionError, AssertionError, ProtocolError):
        while resets < 20_000:
            stream = client.begin("/v1/completions")
            while client.room(stream) < len(body):
                client.hear()
            client.send(stream, body, end=True)
            client.reset(stream)
            resets += 1
    assert resets < 20_000
    clear_front.until_idle()
    with h2c(clear_front.url) as neighbour:
        assert neighbour.post("/v1/completions", json=completion(3, stream=False)).status_code == 200
