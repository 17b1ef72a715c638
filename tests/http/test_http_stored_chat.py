"""Chats that are kept: told whole, resumed, forgotten, by the openai package and by hand."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from http_house import House
from test_http_kept import submitted
from test_http_responses import client_of

from aruntime.control.kept import RUNNING, AnswerStore, Kept
from aruntime.http.keeper import Keeper
from aruntime.queue.records import FinishReason

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stored_chat_is_told_again_and_forgotten(kept_house: House, stream: bool) -> None:
    engine = asyncio.create_task(kept_house.answer_all("blue"))
    asked: dict[str, Any] = {"model": "demo", "messages": HI, "store": True, "n": 2}
    async with client_of(kept_house) as client:
        if stream:
            chunks = [chunk async for chunk in await client.chat.completions.create(stream=True, **asked)]
            id_ = chunks[0].id
        else:
            id_ = (await client.chat.completions.create(**asked)).id
        told = await client.chat.completions.retrieve(id_)
        assert [choice.message.content for choice in told.choices] == ["blue", "blue"]
        assert told.usage is not None
        assert told.usage.completion_tokens == 8
        assert type(told).model_validate(told.model_dump(by_alias=True), strict=True)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(id_)
        assert (await client.chat.completions.delete(id_)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.retrieve(id_)
    engine.cancel()


async def test_a_broken_stream_of_a_chat_goes_on_from_the_last_event(kept_house: House) -> None:
    broken = kept_house.chat(stream=True, store=True)
    at = await submitted(kept_house)
    kept_house.say(at, "one ")
    while b"one" not in broken.body:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    seen = broken.body.decode()
    broken.leave()
    kept_house.say(at, "two ")
    id_ = json.loads(seen.split("data: ")[1].split("\n")[0])["id"]
    last = seen.strip().split("\n\n")[-1].split("\n")[0].removeprefix("id: ")
    path = f"/v1/chat/completions/{id_}"
    assert (await kept_house.client(path, b"", method="GET").done()).status == 404
    resumed = kept_house.client(path, b"", {"last-event-id": last}, method="GET")
    kept_house.say(at, "three", FinishReason.STOP)
    rest = (await resumed.done()).body.decode()
    events = [event.split("\n") for event in (seen + rest).strip().split("\n\n")]
    assert [event[0] for event in events] == [f"id: {number}" for number in range(len(events))]
    assert events[-1][1] == "data: [DONE]"
    chunks = [json.loads(event[1].removeprefix("data: ")) for event in events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert said == "one two three"
    whole = await kept_house.client(path, b"", method="GET").done()
    assert whole.json["choices"][0]["message"]["content"] == said
    assert kept_house.cancelled == []


async def test_a_stream_of_a_dead_front_end_ends_with_an_error(tmp_path: Path) -> None:
    dead, alive = (AnswerStore(tmp_path / "answers.sqlite") for _ in range(2))
    dead.begin(Kept("chatcmpl-1", "none", 7, RUNNING, b'{"id":"chatcmpl-1"}', b"[]"))
    keeper = Keeper(alive)
    kept = await keeper.find("none", "chatcmpl-1")
    assert kept is not None
    assert kept.status == "failed"
    (event,) = [event async for event in keeper.follow(kept, 5)]
    assert json.loads(event.split(b"data: ")[1])["error"]["code"] == "model_error"


async def test_where_nothing_is_kept_a_chat_to_be_stored_is_refused(house: House) -> None:
    told = await house.chat(store=True).done()
    assert (told.status, told.json["error"]["param"]) == (400, "store")
