"""A real server, spoken to in every protocol and by every client that the README names."""

import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2e_server import HEADERS, Server, completion, events, h2c

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command = [*make.split(), "-keyout", str(keyfile), "-out", str(certfile)]
    subprocess.run(command, check=True, capture_output=True)
    return certfile, keyfile


@pytest.fixture(scope="module")
def tls_server(
    repository: Path, certificate: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    certfile, keyfile = certificate
    log = tmp_path_factory.mktemp("e2e") / "tls.log"
    with Server(repository, log, "--certfile", str(certfile), "--keyfile", str(keyfile)) as running:
        yield running


@curl
def test_curl_streams_over_http2_with_prior_knowledge(server: Server) -> None:
    command = ["curl", "-sN", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"]
    command += ["-H", "content-type: application/json", "-d", json.dumps(completion(5))]
    command += [f"{server.url}/v1/completions"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()
    assert answer[-1] == "2 200"
    assert events(answer)[-1] == "[DONE]"


def test_httpx_gets_the_same_answer_over_http2_and_http1(server: Server) -> None:
    body = completion(8, stream=False)
    with h2c(server.url) as client, httpx.Client(base_url=server.url) as old:
        new_answer, old_answer = client.post("/v1/completions", json=body), old.post("/v1/completions", json=body)
    assert (new_answer.http_version, old_answer.http_version) == ("HTTP/2", "HTTP/1.1")
    assert new_answer.json()["choices"] == old_answer.json()["choices"]
    assert new_answer.json()["usage"] == {**old_answer.json()["usage"], "completion_tokens": 8}


def test_many_streams_share_one_http2_connection(server: Server) -> None:
    with h2c(server.url, limits=httpx.Limits(max_connections=1)) as client:
        streams = [client.stream("POST", "/v1/completions", json=completion(20)) for _ in range(20)]
        answers = [stream.__enter__() for stream in streams]
        texts = [events(list(answer.iter_lines())) for answer in answers]
        for stream in streams:
            stream.__exit__(None, None, None)
    assert [text[-1] for text in texts] == ["[DONE]"] * 20


def test_answers_do_not_say_what_they_were_served_by(server: Server) -> None:
    assert "server" not in httpx.get(f"{server.url}/health/live").headers


def test_only_the_admin_listener_shows_metrics(server: Server) -> None:
    assert httpx.get(f"{server.url}/metrics").status_code == 404
    assert server.metric("aruntime_blocks") > 0
    assert httpx.get(f"{server.admin_url}/v1/models").json()["data"][0]["id"] == "tiny"


def test_tls_chooses_http2_by_alpn_and_http1_for_those_who_cannot(
    tls_server: Server, certificate: tuple[Path, Path]
) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        with httpx.Client(base_url=tls_server.url, http2=http2, verify=trust) as client:
            answer = client.post("/v1/completions", json=completion(3, stream=False))
        assert (answer.http_version, answer.status_code) == (version, 200)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--admin-host", "0.0.0.0"], "loopback"),
        (["--repository", "/nowhere"], "no model repository"),
        (["--certfile", "cert.pem"], "belong together"),
        (["--host", "203.0.113.1"], "it needs API keys"),
    ],
)
def test_wrong_options_are_refused_in_words(repository: Path, arguments: list[str], words: str) -> None:
    refused = subprocess.run(
        [
            sys.executable,
            "-m",
            "aruntime.cli.main",
            "serve",
            "--repository",
            str(repository),
            "--port",
            "0",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert refused.returncode == 2
    assert words in refused.stderr


def test_a_body_that_is_not_json_is_the_clients_fault(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/completions", content=b"{", headers=HEADERS)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("http2", [False, True])
def test_headers_without_measure_are_refused_in_words_and_far_beyond_it_by_hanging_up(
    server: Server, http2: bool
) -> None:
    with httpx.Client(base_url=server.url, http1=not http2, http2=http2, timeout=30) as client:
        for headers in ([("a", "b")] * 101, [("a", "x" * 17_000)]):
            answer = client.get("/health/live", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request_error")
        try:
            assert client.get("/health/live", headers={"a": "x" * 80_000}).status_code == 431
        except httpx.TransportError:
            assert http2
        assert client.get("/health/live").status_code == 200
