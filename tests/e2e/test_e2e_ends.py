"""The ways a request ends that is not answered: the client leaves, the deadline passes, the queue is full."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from e2e_http2 import RawClient
from e2e_server import Server, completion, events, h2c, until

ENDLESS = completion(30_000)


@pytest.fixture(scope="module")
def narrow(narrow_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One sequence runs, one waits, and that is all."""
    with Server(narrow_repository, tmp_path_factory.mktemp("e2e") / "narrow.log") as running:
        yield running


def assert_everything_is_free(server: Server) -> None:
    until(lambda: server.metric("aruntime_sequences_in_flight") == 0, 10)
    until(lambda: server.metric("aruntime_sequences_running") == 0, 10)
    until(lambda: server.metric("aruntime_blocks_free") == server.metric("aruntime_blocks"), 10)


def test_a_client_that_disconnects_frees_its_blocks(server: Server) -> None:
    for make in (lambda: h2c(server.url), lambda: httpx.Client(base_url=server.url, timeout=30)):
        with make() as client, client.stream("POST", "/v1/completions", json=ENDLESS) as answer:
            lines = answer.iter_lines()  # kept: an iterator that is dropped closes the answer
            next(lines)
            until(lambda: server.metric("aruntime_sequences_running") == 1)
            client.close()
        assert_everything_is_free(server)


def test_a_client_that_waits_for_the_whole_answer_and_leaves_frees_its_blocks(server: Server) -> None:
    with RawClient(server.url) as client:
        client.post("/v1/completions", completion(30_000, stream=False))
        until(lambda: server.metric("aruntime_sequences_running") == 1)
    assert_everything_is_free(server)


def test_a_reset_ends_one_stream_and_leaves_its_neighbour_alone(server: Server) -> None:
    with RawClient(server.url) as client:
        goes = client.post("/v1/completions", ENDLESS)
        client.first_data(goes)
        stays = client.post("/v1/completions", ENDLESS)
        client.first_data(stays)
        until(lambda: server.metric("aruntime_sequences_running") == 2)
        client.reset(goes)
        until(lambda: server.metric("aruntime_sequences_running") == 1)
        assert client.first_data(stays)
    assert_everything_is_free(server)


def test_a_deadline_in_the_stream_is_its_last_event(server: Server) -> None:
    with h2c(server.url) as client:
        # What may end by a stop string may end in time: the door lets it in.
        asked = {**ENDLESS, "stop": "never said"}
        answer = client.post("/v1/completions", json=asked, headers={"x-request-timeout-ms": "500"})
    assert answer.status_code == 200
    last = events(answer.text.splitlines())[-1]
    assert json.loads(last)["error"]["code"] == "deadline_exceeded"
    assert 0.4 < answer.elapsed.total_seconds() < 5
    assert_everything_is_free(server)


def test_a_deadline_before_the_answer_is_a_status(server: Server) -> None:
    with h2c(server.url) as client:
        whole = completion(30_000, stream=False)
        answer = client.post("/v1/completions", json=whole, headers={"x-request-timeout-ms": "300"})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    assert_everything_is_free(server)


def test_a_deadline_in_the_queue_is_a_status_in_time(narrow: Server) -> None:
    with h2c(narrow.url) as client, client.stream("POST", "/v1/completions", json=ENDLESS) as running:
        lines = running.iter_lines()
        next(lines)
        began_s = time.monotonic()
        answer = client.post("/v1/completions", json=completion(5), headers={"x-request-timeout-ms": "300"})
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        assert 0.25 < time.monotonic() - began_s < 5
        assert narrow.metric("aruntime_sequences_running") == 1
        client.close()
    assert_everything_is_free(narrow)


def test_a_full_queue_says_at_once_when_to_come_again(narrow: Server) -> None:
    with RawClient(narrow.url) as client:
        client.first_data(client.post("/v1/completions", ENDLESS))
        client.post("/v1/completions", ENDLESS)
        until(lambda: narrow.metric("aruntime_sequences_in_flight") == 2)
        began_s = time.monotonic()
        answer = httpx.post(f"{narrow.url}/v1/completions", json=completion(5))
        assert time.monotonic() - began_s < 2
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1
    assert_everything_is_free(narrow)


@pytest.mark.parametrize("http2", [False, True])
def test_the_openai_sdk_comes_again_to_a_full_queue_when_it_was_told_to(narrow: Server, http2: bool) -> None:
    transport = openai.DefaultHttpxClient(http1=not http2, http2=http2)
    with (
        RawClient(narrow.url) as client,
        openai.OpenAI(base_url=f"{narrow.url}/v1", api_key="none", max_retries=3, http_client=transport) as sdk,
    ):
        client.first_data(runs := client.post("/v1/completions", ENDLESS))
        waits = client.post("/v1/completions", ENDLESS)
        until(lambda: narrow.metric("aruntime_sequences_in_flight") == 2)
        with pytest.raises(openai.InternalServerError) as refused:
            sdk.with_options(max_retries=0).completions.create(model="tiny", prompt="hello", max_tokens=5)
        assert refused.value.code == "overloaded"
        leave = threading.Timer(0.3, lambda: [client.reset(stream) for stream in (waits, runs)])
        leave.start()
        answer = sdk.completions.with_raw_response.create(model="tiny", prompt="hello", max_tokens=5)
        leave.join()
        assert answer.retries_taken >= 1
        assert answer.parse().usage
    assert_everything_is_free(narrow)


def test_a_model_that_is_not_there_is_not_found(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/completions", json=completion(5, model="nobody"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
