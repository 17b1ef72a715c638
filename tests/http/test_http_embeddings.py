"""What a client sees of /v1/embeddings: both formats, the order of its inputs, and which of them is wrong."""

import asyncio
import base64
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from http_house import Client, House
from openai.types import CreateEmbeddingResponse

from aruntime.queue.records import FinishReason, Pooling

SIZE = 4


def vector(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def embed(house: House, **fields: object) -> Client:
    return house.client("/v1/embeddings", {"model": "demo", "input": "hi", **fields})


async def play(house: House) -> None:
    """Play an engine whose vectors hold the length of a prompt, its first token, and two numbers more."""
    while True:
        slot, generation, head = await house.submitted()
        assert (head["pooling"], head["max_tokens"]) == (Pooling.LAST, 1)
        house.give((slot, generation), vector(len(head["prompt"]), head["prompt"][0], 3, 4))
        await asyncio.sleep(0)


@pytest.fixture
async def playing(house: House) -> Any:
    engine = asyncio.create_task(play(house))
    yield house
    engine.cancel()


async def test_an_answer_is_openai_s_shape(playing: House) -> None:
    reply = (await embed(playing, input=["a", [7, 8]]).done()).json
    CreateEmbeddingResponse.model_validate(reply)
    assert reply["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for one, numbers in zip(reply["data"], [(1, playing.ids("a")[0], 3, 4), (2, 7, 3, 4)], strict=True):
        assert np.allclose(one["embedding"], np.array(numbers) / np.linalg.norm(numbers))


async def test_many_inputs_keep_their_order_though_they_come_to_the_door_a_few_at_a_time(playing: House) -> None:
    inputs = [[place + 1] for place in range(40)]  # the house holds four
    reply = (await embed(playing, input=inputs, dimensions=2).done()).json
    assert [one["index"] for one in reply["data"]] == list(range(40))
    for one, (token,) in zip(reply["data"], inputs, strict=True):
        assert np.allclose(one["embedding"], np.array([1, token]) / np.hypot(1, token))


async def test_base64_is_little_endian_float32(playing: House) -> None:
    reply = (await embed(playing, encoding_format="base64").done()).json
    numbers = np.frombuffer(base64.b64decode(reply["data"][0]["embedding"]), "<f4")
    assert len(numbers) == SIZE
    assert np.isclose(np.linalg.norm(numbers), 1)


async def test_the_openai_package_reads_it(playing: House) -> None:
    transport = httpx2.ASGITransport(playing.app, raise_app_exceptions=True)
    async with openai.AsyncOpenAI(
        api_key="none",
        base_url="http://localhost/v1",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
    ) as client:
        asked: list[dict[str, Any]] = [
            {}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": 3, "user": "u"}
        ]  # fmt: skip
        made = [await client.embeddings.create(model="demo", input=["one", "two"], **more) for more in asked]
        with pytest.raises(openai.BadRequestError) as error:
            await client.embeddings.create(model="demo", input=["one", "x" * 300])
    assert [len(one.data) for one in made] == [2] * 4
    assert made[0].data[0].embedding == pytest.approx(made[1].data[0].embedding)
    assert isinstance(made[2].data[0].embedding, str)
    assert len(made[3].data[1].embedding) == 3
    assert made[0].usage.prompt_tokens == len("onetwo")
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "input.1")


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": ["a", [256]]}, "input.1", "token 256 is not below 256"),
        ({"dimensions": SIZE + 1}, "dimensions", "more than the 4 of this model"),
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens", "not supported"),
        ({"model": "nobody"}, "model", ""),
    ],
)
async def test_what_is_wrong_is_named_before_anything_is_computed(
    house: House, fields: dict[str, object], param: str, words: str
) -> None:
    client = await embed(house, **fields).done()
    assert client.status in (400, 404)
    assert client.json["error"]["param"] == param
    assert words in client.json["error"]["message"]
    assert house.engine.receive() is None


@pytest.mark.parametrize("result", [b"", vector(0, 0, 0, 0), vector(1, float("nan"), 0, 0)])
async def test_a_vector_that_is_none_is_the_model_s_error(house: House, result: bytes) -> None:
    client = embed(house)
    slot, generation, _ = await house.submitted()
    if result:
        house.give((slot, generation), result)
    else:
        house.say((slot, generation), "", FinishReason.LENGTH)
    assert (await client.done()).status == 500
    assert client.json["error"]["code"] == "model_error"


async def test_a_client_that_leaves_has_its_inputs_cancelled(house: House) -> None:
    client = embed(house, input=["a", "b"])
    slots = {(await house.submitted())[0] for _ in range(2)}
    client.leave()
    await client.done()
    for _ in range(100):
        while (message := house.engine.receive()) is not None:
            house.cancelled.append(message[1])  # type: ignore[arg-type]
        if set(house.cancelled) == slots:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(house.cancelled)
