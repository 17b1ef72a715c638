"""OpenAI's SDK for Python, on a real server: over HTTP/1.1 and HTTP/2, in clear text and over TLS."""

from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from e2e_front import ENDLESS_TOKENS, Front
from pydantic import BaseModel

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 6}
ON: Any = {"temperature": 0, "extra_body": {"ignore_eos": True}}
ENDLESS: Any = {**ASK, "max_tokens": ENDLESS_TOKENS, "extra_body": {"ignore_eos": True}}
PROTOCOLS = ["HTTP/1.1", "HTTP/2"]


class Answer(BaseModel):
    city: Literal["Oslo", "Rome"]
    sunny: bool


WEATHER = openai.pydantic_function_tool(Answer, name="weather")


@pytest.fixture(params=PROTOCOLS)
def client(front: Front, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    transport = openai.DefaultHttpxClient(**front.httpx(http2=request.param == "HTTP/2"))
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0, http_client=transport) as made:
        answer = made.models.with_raw_response.list()
        assert answer.http_response.http_version == request.param
        yield made


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


def test_a_stream_that_is_left_is_computed_no_further(client: openai.OpenAI, front: Front) -> None:
    stream = client.chat.completions.create(**ENDLESS, stream=True)
    next(stream)
    stream.close()
    assert client.chat.completions.create(**ASK).choices[0].message.content  # the client serves on
    client.close()  # over HTTP/2 the SDK says only by leaving that it does not want the rest
    front.until_idle()


def test_an_answer_that_is_waited_for_no_longer_is_computed_no_further(client: openai.OpenAI, front: Front) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(**ENDLESS)
    assert client.chat.completions.create(**ASK).choices[0].message.content
    client.close()
    front.until_idle()


def test_an_answer_has_the_form_that_a_pydantic_class_describes(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(**{**ASK, "max_tokens": 600}, response_format=Answer)
    assert parsed.choices[0].message.parsed is not None
    with client.chat.completions.stream(**{**ASK, "max_tokens": 600}, response_format=Answer) as stream:
        ends = [event.parsed for event in stream if event.type == "content.done"]
    assert ends == [parsed.choices[0].message.parsed]


def test_a_function_that_must_be_called_is_called_with_valid_arguments(client: openai.OpenAI) -> None:
    ask = {**ASK, "max_tokens": 600, "tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}
    (call,) = client.chat.completions.parse(**ask).choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Answer)
    with client.chat.completions.stream(**ask) as stream:
        told = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls or []
    assert "".join(told) == streamed.function.arguments == call.function.arguments
    answer = client.chat.completions.create(**ask).choices[0].message
    (again,) = answer.tool_calls or []
    result = {"role": "tool", "tool_call_id": again.id, "content": "it rains"}
    spoken: Any = [*ASK["messages"], answer, result]
    assert client.chat.completions.create(**{**ASK, "messages": spoken}).choices[0].message.role == "assistant"


def test_token_logprobs_come_in_both_shapes(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
    assert chat.choices[0].logprobs is not None
    assert [len(one.top_logprobs) for one in chat.choices[0].logprobs.content or []] == [2] * 6
    echoed = client.completions.create(model="tiny", prompt=[64, 65], max_tokens=1, echo=True, logprobs=1, **ON)
    logprobs = echoed.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert [value is None for value in logprobs.token_logprobs] == [True, False, False]


def test_a_response_says_the_same_streamed_and_whole(client: openai.OpenAI) -> None:
    ask: Any = {"model": "tiny", "input": "hi", "max_output_tokens": 16, "temperature": 0}
    whole = client.responses.create(**ask)
    with client.responses.stream(**ask) as stream:
        told = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert told == whole.output_text
    assert client.responses.retrieve(whole.id).output_text == whole.output_text
    client.responses.delete(whole.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(whole.id)


def test_a_response_s_stream_is_resumed_where_it_broke(client: openai.OpenAI) -> None:
    ask: Any = {"model": "tiny", "input": "hi", "max_output_tokens": 16, "temperature": 0, "background": True}
    with client.responses.create(**ask, stream=True) as stream:
        first = [next(stream) for _ in range(4)]
    assert first[0].type == "response.created"
    with client.responses.retrieve(first[0].response.id, stream=True, starting_after=3) as stream:
        rest = list(stream)
    assert [event.sequence_number for event in rest] == list(range(4, 4 + len(rest)))
    assert rest[-1].type in ("response.completed", "response.incomplete")


def test_embeddings_are_the_same_in_base64_and_as_numbers(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="tiny", input=["ab", "cd"])  # the SDK asks for base64 and unpacks it
    plain = client.embeddings.create(model="tiny", input=["ab", "cd"], encoding_format="float")
    assert [one.embedding for one in packed.data] == [pytest.approx(one.embedding, abs=1e-6) for one in plain.data]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_many_asynchronous_chats_at_once(front: Front, protocol: str) -> None:
    transport = openai.DefaultAsyncHttpxClient(**front.httpx(http2=protocol == "HTTP/2"))
    options: Any = {"base_url": f"{front.url}/v1", "api_key": "none", "max_retries": 0, "http_client": transport}
    async with openai.AsyncOpenAI(**options) as client:
        streams = [await client.chat.completions.create(**ASK, stream=True) for _ in range(60)]
        texts = ["".join([chunk.choices[0].delta.content or "" async for chunk in stream]) for stream in streams]
        assert {stream.response.http_version for stream in streams} == {protocol}
    assert len(set(texts)) == 1
