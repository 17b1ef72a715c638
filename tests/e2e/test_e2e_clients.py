"""The SDKs that OpenAI publishes, on a real server: for Python over HTTP/1.1 and HTTP/2, for Node over HTTP/1.1."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from e2e_node import node_home
from e2e_server import Server, until

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 6}
NODE = Path(__file__).with_name("client.mjs")
ENDLESS_TOKENS = 30_000


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    two = request.param == "HTTP/2"
    transport = openai.DefaultHttpxClient(http1=not two, http2=two)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, http_client=transport) as made:
        answer = made.models.with_raw_response.list()
        assert answer.http_response.http_version == request.param
        yield made


def is_idle(server: Server) -> bool:
    return server.metric("aruntime_sequences_in_flight") == 0


def test_a_chat_says_the_same_streamed_and_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASK)
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == whole.choices[0].message.content
    ends = [one.choices[0].finish_reason for one in chunks[:-1] if one.choices[0].finish_reason]
    assert ends == [whole.choices[0].finish_reason] == ["length"]
    assert chunks[-1].usage == whole.usage


def test_the_stream_helper_gathers_the_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(**ASK) as stream:
        told = [event.delta for event in stream if event.type == "content.delta"]
        assert "".join(told) == stream.current_completion_snapshot.choices[0].message.content


def test_completions_of_texts_and_token_ids(client: openai.OpenAI) -> None:
    texts = client.completions.create(model="tiny", prompt=["ab", "cd"], max_tokens=4, temperature=0)
    streamed = client.completions.create(model="tiny", prompt=["ab", "cd"], max_tokens=4, temperature=0, stream=True)
    said = ["", ""]
    for chunk in streamed:
        said[chunk.choices[0].index] += chunk.choices[0].text
    assert said == [choice.text for choice in texts.choices]
    ids = client.completions.create(model="tiny", prompt=[[64, 65], [66, 67]], max_tokens=4, temperature=0)
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 4


def test_refusals_are_the_sdk_s_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="nobody", prompt="a")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert unknown.value.request_id
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(**{**ASK, "temperature": 3})
    assert (wrong.value.type, wrong.value.param) == ("invalid_request_error", "temperature")
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt=[1] * 40_000)
    assert long.value.code == "context_length_exceeded"


def test_a_stream_that_is_left_is_computed_no_further(client: openai.OpenAI, server: Server) -> None:
    ask = {**ASK, "max_tokens": ENDLESS_TOKENS, "extra_body": {"ignore_eos": True}}
    stream = client.chat.completions.create(**ask, stream=True)
    next(stream)
    stream.close()
    client.close()  # over HTTP/2 the SDK says only by leaving that it does not want the rest
    until(lambda: is_idle(server))


def test_token_logprobs_come_in_both_shapes(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
    assert chat.choices[0].logprobs is not None
    assert [len(one.top_logprobs) for one in chat.choices[0].logprobs.content or []] == [2] * 6
    echoed = client.completions.create(model="tiny", prompt=[64, 65], max_tokens=1, echo=True, logprobs=1)
    logprobs = echoed.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert [value is None for value in logprobs.token_logprobs] == [True, False, False]


async def test_many_asynchronous_chats_at_once(server: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        streams = [await client.chat.completions.create(**ASK, stream=True) for _ in range(8)]
        texts = ["".join([chunk.choices[0].delta.content or "" async for chunk in stream]) for stream in streams]
    assert len(set(texts)) == 1


@pytest.fixture(scope="module")
def node(server: Server) -> dict[str, Any]:
    """What the Node SDK made of the server's answers, by what was asked."""
    home = node_home()
    (home / NODE.name).write_bytes(NODE.read_bytes())
    command = ["node", str(home / NODE.name), f"{server.url}/v1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


def test_node_chats_streamed_and_whole(node: dict[str, Any]) -> None:
    assert node["chat"]["streamed"] == node["chat"]["whole"] == node["chat"]["gathered"]
    assert node["chat"]["usage"]["completion_tokens"] == 6


def test_node_s_completions_of_several_prompts(node: dict[str, Any]) -> None:
    assert node["completions"]["indices"] == [0, 1]
    assert node["completions"]["streamed"] == node["completions"]["whole"]


def test_refusals_are_node_s_own_errors(node: dict[str, Any]) -> None:
    unknown, wrong = node["errors"]
    assert unknown == ["NotFoundError", "model_not_found", "model"]
    assert wrong == ["BadRequestError", "invalid_request_error", "temperature"]


def test_a_stream_that_node_aborts_is_computed_no_further(node: dict[str, Any], server: Server) -> None:
    assert node["aborted"] == {"chunks": 3}
    until(lambda: is_idle(server))
