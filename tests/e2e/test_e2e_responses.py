"""Kept responses on a real server, with the openai package: a connection breaks, a front end is killed."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from e2e_server import Server, until

LONG = {"ignore_eos": True}


@pytest.fixture(scope="module")
def server(own_server: Server) -> Server:
    """Its processes are killed here."""
    return own_server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_stream_that_breaks_is_resumed_from_the_last_event(server: Server, client: openai.OpenAI) -> None:
    seen = []
    with client.responses.create(
        model="tiny", input="once", stream=True, max_output_tokens=200, extra_body=LONG
    ) as stream:
        for event in stream:
            seen.append(event)
            if len(seen) == 12:
                break
    first = seen[0]
    assert first.type == "response.created"
    rest = list(client.responses.retrieve(first.response.id, stream=True, starting_after=seen[-1].sequence_number))
    numbers = [event.sequence_number for event in seen + rest]
    assert numbers == list(range(len(numbers)))
    whole = client.responses.retrieve(first.response.id)
    said = [event.delta for event in seen + rest if event.type == "response.output_text.delta"]
    assert "".join(said) == whole.output_text
    assert whole.usage is not None
    assert whole.usage.output_tokens == 200


def test_a_response_whose_front_end_is_killed_has_failed(server: Server, client: openai.OpenAI) -> None:
    begun = client.responses.create(
        model="tiny", input="once", background=True, max_output_tokens=30_000, extra_body=LONG
    )
    assert client.responses.retrieve(begun.id).status == "in_progress"
    (front_end,) = server.front_ends()
    os.kill(front_end, signal.SIGKILL)
    until(lambda: server.front_ends() not in ([], [front_end]) and server.is_ready())
    told = client.responses.retrieve(begun.id)
    assert told.error is not None
    assert (told.status, told.error.code) == ("failed", "server_error")
    assert [event.type for event in client.responses.retrieve(begun.id, stream=True)][-1] == "response.failed"


def test_what_runs_in_the_background_is_cancelled(client: openai.OpenAI) -> None:
    begun = client.responses.create(
        model="tiny", input="once", background=True, max_output_tokens=30_000, extra_body=LONG
    )
    assert client.responses.cancel(begun.id).status == "cancelled"


def test_the_answers_are_this_user_s_alone(server: Server) -> None:
    files = list(Path(server.log.parent).glob("*-answers.sqlite*"))
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_any_front_end_tells_the_rest_of_a_stream(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "log", "--workers", "2") as server:
        with _fresh(server) as first:
            stream = first.responses.create(
                model="tiny", input="once", stream=True, background=True, max_output_tokens=300, extra_body=LONG
            )
            seen = [next(stream) for _ in range(12)]
        begun = seen[0]
        assert begun.type == "response.created"
        rests = []
        for _ in range(6):
            with _fresh(server) as other:
                rests.append(list(other.responses.retrieve(begun.response.id, stream=True, starting_after=11)))
    assert all(rest == rests[0] for rest in rests)
    numbers = [event.sequence_number for event in seen + rests[0]]
    assert numbers == list(range(len(numbers)))
    assert rests[0][-1].type == "response.incomplete"


def test_a_server_that_ends_ends_what_runs_in_the_background_first_and_keeps_it(
    repository: Path, tmp_path: Path
) -> None:
    with Server(repository, tmp_path / "log") as server:
        with _fresh(server) as client:
            begun = client.responses.create(
                model="tiny", input="once", background=True, max_output_tokens=500, extra_body=LONG
            )
        server.terminate()
        server.process.wait(60)
    with Server(repository, tmp_path / "log") as server, _fresh(server) as client:
        told = client.responses.retrieve(begun.id)
    assert told.usage is not None
    assert (told.status, told.usage.output_tokens) == ("incomplete", 500)


def _fresh(server: Server) -> openai.OpenAI:
    """A client with connections of its own."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_a_server_that_keeps_no_answers_says_so_and_writes_none(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "keeps.log", "--no-keep-answers") as forgets:
        with openai.OpenAI(base_url=f"{forgets.url}/v1", api_key="none", max_retries=0) as client:
            told = client.responses.create(model="tiny", input="once", max_output_tokens=4)
            assert told.store is False
            with pytest.raises(openai.BadRequestError) as refused:
                client.responses.create(model="tiny", input="once", max_output_tokens=4, store=True)
        assert refused.value.param == "store"
    assert not list(tmp_path.glob("*answers*"))
