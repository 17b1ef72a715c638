"""A real server, spoken to in every protocol."""

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from e2e_front import Front
from e2e_server import HEADERS, Server, completion, events, h2c


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


def test_tls_chooses_http2_by_alpn_and_http1_for_those_who_cannot(tls_front: Front) -> None:
    for http2, version in ((True, "HTTP/2"), (False, "HTTP/1.1")):
        with httpx.Client(base_url=tls_front.url, **tls_front.httpx(http2=http2) | {"http1": True}) as client:
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
