"""The openai package, unmodified, against the application: what it sends is understood, what it gets it can read."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import openai
import pytest
from http_house import House

from aruntime.queue.records import FinishReason


@pytest.fixture
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of a server whose every answer is "Grüße, 世界! END and more"."""
    engine = asyncio.create_task(house.answer_all("Grüße, 世界! END and more", FinishReason.LENGTH))
    transport = httpx2.ASGITransport(house.app, raise_app_exceptions=True)
    async with openai.AsyncOpenAI(
        api_key="none",
        base_url="http://localhost/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    ) as made:
        yield made
    engine.cancel()


async def test_a_chat_and_the_answer_sent_back(client: openai.AsyncOpenAI) -> None:
    asked: list[object] = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    first = await client.chat.completions.create(model="demo", messages=asked, max_completion_tokens=50)  # type: ignore[arg-type]
    assert first.choices[0].message.content == "Grüße, 世界! END and more"
    asked += [first.choices[0].message, {"role": "user", "content": "and?"}]
    second = await client.chat.completions.create(model="demo", messages=asked, stop=[" END"])  # type: ignore[arg-type]
    assert second.choices[0].message.content == "Grüße, 世界!"
    assert second.choices[0].finish_reason == "stop"
    assert second.usage is not None
    assert second.usage.prompt_tokens > len(first.choices[0].message.content)


async def test_a_streamed_chat_with_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
        n=2,
    )
    chunks = [chunk async for chunk in stream]
    texts = ["", ""]
    for chunk in chunks[:-1]:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == ["Grüße, 世界! END and more"] * 2
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + 2 * len(texts[0].encode())


async def test_completions_of_several_prompts(client: openai.AsyncOpenAI) -> None:
    answer = await client.completions.create(model="demo", prompt=["a", "b"], max_tokens=30, seed=1, temperature=0)
    assert [choice.text for choice in answer.choices] == ["Grüße, 世界! END and more"] * 2
    assert [choice.index for choice in answer.choices] == [0, 1]


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo"]
    assert (await client.models.retrieve("demo")).owned_by == "aruntime"


async def test_each_error_is_the_sdk_s_own_class(client: openai.AsyncOpenAI, house: House) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="other", messages=[{"role": "user", "content": "hi"}])
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as unserved:
        await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "hi"}], web_search_options={}
        )
    assert unserved.value.param == "web_search_options"
    house.view.door.draining = True
    with pytest.raises(openai.InternalServerError) as draining:
        await client.completions.create(model="demo", prompt="a")
    assert (draining.value.status_code, draining.value.code) == (503, "draining")


async def test_an_error_in_a_stream_is_raised_by_the_sdk(house: House) -> None:
    engine = asyncio.create_task(house.answer_all("", FinishReason.MODEL_ERROR))
    transport = httpx2.ASGITransport(house.app)
    async with openai.AsyncOpenAI(
        api_key="none",
        base_url="http://localhost/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    ) as client:
        with pytest.raises(openai.InternalServerError):
            await client.completions.create(model="demo", prompt="a", stream=True)
    engine.cancel()
