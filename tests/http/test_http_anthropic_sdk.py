"""The anthropic package, unmodified, against the application: what it sends is understood, what it gets it can read."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import anthropic
import httpx2
import pytest
from http_house import House

from aruntime.admission.tenants import Tenant
from aruntime.queue.records import FinishReason

SAID = "Grüße, 世界! END and more"
USER: anthropic.types.MessageParam = {"role": "user", "content": "hi"}


def client_of(house: House) -> anthropic.AsyncAnthropic:
    transport = httpx2.ASGITransport(house.app, raise_app_exceptions=True)
    http = httpx2.AsyncClient(transport=transport)
    return anthropic.AsyncAnthropic(api_key="art-1", base_url="http://localhost", max_retries=0, http_client=http)


@pytest.fixture
async def client(house: House) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """A client of a server whose every answer is SAID."""
    engine = asyncio.create_task(house.answer_all(SAID))
    async with client_of(house) as made:
        yield made
    engine.cancel()


async def test_a_message_and_the_answer_sent_back(client: anthropic.AsyncAnthropic) -> None:
    first = await client.messages.create(model="demo", max_tokens=60, messages=[USER], system="be short")
    assert [block.text for block in first.content if block.type == "text"] == [SAID]
    assert (first.stop_reason, first.usage.output_tokens) == ("end_turn", len(SAID.encode()))
    second = await client.messages.create(
        model="demo",
        max_tokens=60,
        messages=[USER, first.to_param(), {"role": "user", "content": "and?"}],
        stop_sequences=[" END"],
    )
    assert (second.stop_reason, second.stop_sequence) == ("stop_sequence", " END")
    assert second.usage.input_tokens > len(SAID)


async def test_a_stream_is_gathered_by_the_sdk_into_the_whole_message(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(model="demo", max_tokens=60, messages=[USER]) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(texts) == SAID
    whole = await client.messages.create(model="demo", max_tokens=60, messages=[USER])
    assert final.content[0].type == whole.content[0].type == "text"
    assert final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)


async def test_the_beta_path_of_the_sdk_is_the_same(client: anthropic.AsyncAnthropic) -> None:
    told = await client.beta.messages.create(model="demo", max_tokens=60, messages=[{"role": "user", "content": "hi"}])
    assert told.stop_reason == "end_turn"


async def test_tokens_are_counted_as_a_message_counts_them(client: anthropic.AsyncAnthropic) -> None:
    counted = await client.messages.count_tokens(model="demo", messages=[USER], system="be short")
    message = await client.messages.create(model="demo", max_tokens=60, messages=[USER], system="be short")
    assert counted.input_tokens == message.usage.input_tokens


async def test_each_error_is_the_sdk_s_own_class(client: anthropic.AsyncAnthropic, house: House) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        await client.messages.create(model="other", max_tokens=9, messages=[USER])
    assert (unknown.value.type, unknown.value.request_id is not None) == ("not_found_error", True)
    image = {"type": "image", "source": {"type": "url", "url": "http://localhost/a.png"}}
    with pytest.raises(anthropic.BadRequestError) as unserved:
        await client.messages.create(model="demo", max_tokens=9, messages=[{"role": "user", "content": [image]}])  # type: ignore[typeddict-item]
    assert "messages.0.content.0.type" in str(unserved.value)
    house.view.door.draining = True
    with pytest.raises(anthropic.ServiceUnavailableError) as draining:
        await client.messages.create(model="demo", max_tokens=9, messages=[USER])
    assert draining.value.type == "overloaded_error"


async def test_the_sdk_s_key_is_a_tenant_s(client: anthropic.AsyncAnthropic, house: House) -> None:
    house.view.registry.replace([(Tenant(7, "acme"), [hashlib.sha256(b"art-1").digest()])], [])
    assert (await client.messages.create(model="demo", max_tokens=9, messages=[USER])).content
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        await client.with_options(api_key="art-2").messages.create(model="demo", max_tokens=9, messages=[USER])
    assert unknown.value.type == "authentication_error"


async def test_an_error_in_a_stream_is_raised_by_the_sdk(house: House) -> None:
    async with client_of(house) as client:
        asked = asyncio.create_task(client.messages.create(model="demo", max_tokens=9, messages=[USER], stream=True))
        at = (await house.submitted())[:2]
        house.say(at, "ab")
        house.say(at, [], FinishReason.MODEL_ERROR)
        with pytest.raises(anthropic.APIStatusError) as failed:
            _ = [event async for event in await asked]
    assert failed.value.type == "api_error"
