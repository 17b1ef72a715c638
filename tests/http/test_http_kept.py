"""Responses that are kept: followed, gone on from, cancelled, resumed, by the openai package and by hand."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from http_house import House
from openai.types.responses import Response as Told
from test_http_responses import client_of

from aruntime.admission.tenants import Tenant
from aruntime.control.kept import AGE_S, ANSWERS_MAX, RUNNING, AnswerStore, Kept
from aruntime.http.app import build_app
from aruntime.http.keeper import Keeper, open_keeper
from aruntime.queue.records import FinishReason


async def submitted(house: House) -> tuple[int, int]:
    slot, generation, _ = await house.submitted()
    return slot, generation


async def test_a_response_is_kept_and_gone_on_from_and_forgotten(kept_house: House) -> None:
    engine = asyncio.create_task(kept_house.answer_all("blue"))
    async with client_of(kept_house) as client:
        first = await client.responses.create(model="demo", input="what colour?")
        assert (await client.responses.retrieve(first.id)).output_text == "blue"
        engine.cancel()
        second = asyncio.create_task(client.responses.create(model="demo", input="why?", previous_response_id=first.id))
        slot, generation, head = await kept_house.submitted()
        assert kept_house.tokenizer.decode(head["prompt"]) == (
            "<|user|>what colour?<|assistant|>blue<|user|>why?<|assistant|>"
        )
        kept_house.say((slot, generation), "so", FinishReason.STOP)
        told = await second
        items = [item async for item in client.responses.input_items.list(told.id, order="asc", limit=2)]
        assert [item.type for item in items] == ["message"] * 3
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
        assert (await client.responses.retrieve(told.id)).previous_response_id == first.id


async def test_a_broken_stream_is_resumed_with_nothing_missing_and_nothing_computed_twice(kept_house: House) -> None:
    whole = kept_house.client("/v1/responses", {"model": "demo", "input": "hi", "stream": True})
    at = await submitted(kept_house)
    kept_house.say(at, "one ")
    while b"one" not in whole.body:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    seen = whole.body.decode()
    whole.leave()
    kept_house.say(at, "two ")
    await asyncio.sleep(0.05)
    id_ = json.loads(seen.split("data: ")[1].split("\n")[0])["response"]["id"]
    last = seen.strip().split("\n\n")[-1].split("\n")[0].removeprefix("id: ")
    resumed = kept_house.client(f"/v1/responses/{id_}", b"", {"last-event-id": last}, method="GET")
    kept_house.say(at, "three", FinishReason.STOP)
    rest = (await resumed.done()).body.decode()
    async with client_of(kept_house) as client:
        again = [event async for event in await client.responses.retrieve(id_, stream=True, starting_after=0)]
        told = await client.responses.retrieve(id_)
    numbers = [int(line[4:]) for line in (seen + rest).split("\n") if line.startswith("id: ")]
    assert numbers == list(range(len(numbers)))
    deltas = [event.delta for event in again if event.type == "response.output_text.delta"]
    assert "".join(deltas) == told.output_text == "one two three"
    assert [event.sequence_number for event in again] == numbers[1:]
    assert kept_house.cancelled == []
    assert kept_house.engine.receive() is None


async def test_what_is_asked_in_the_background_goes_on_by_itself_and_can_be_cancelled(kept_house: House) -> None:
    async with client_of(kept_house) as client:
        begun = await client.responses.create(model="demo", input="hi", background=True)
        assert begun.status == "in_progress"
        at = await submitted(kept_house)
        kept_house.say(at, "some")
        await asyncio.sleep(0.2)
        ended = await client.responses.cancel(begun.id)
        assert (ended.status, ended.output_text) == ("cancelled", "some")
        other = await client.responses.create(model="demo", input="hi", background=True)
        kept_house.say(await submitted(kept_house), "done", FinishReason.STOP)
        while (told := await client.responses.retrieve(other.id)).status == RUNNING:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (told.status, told.output_text) == ("completed", "done")
        assert Told.model_validate(told.model_dump(by_alias=True), strict=True)
        plain = asyncio.create_task(client.responses.create(model="demo", input="hi"))
        kept_house.say(await submitted(kept_house), "x", FinishReason.STOP)
        with pytest.raises(openai.BadRequestError):
            await client.responses.cancel((await plain).id)


async def test_another_front_end_follows_and_cancels(kept_house: House, tmp_path: Path) -> None:
    other = Keeper(AnswerStore(tmp_path / "answers.sqlite"))
    async with client_of(kept_house) as client:
        begun = await client.responses.create(model="demo", input="hi", background=True)
        at = await submitted(kept_house)
        kept = await other.find("none", begun.id)
        assert kept is not None
        assert kept.status == RUNNING
        following = asyncio.create_task(_joined(other.follow(kept, -1)))
        kept_house.say(at, "far away", FinishReason.STOP)
        told = await asyncio.wait_for(following, 5)
        assert "far away" in told
        assert "response.completed" in told
        again = await client.responses.create(model="demo", input="hi", background=True)
        kept_house.say(await submitted(kept_house), "a")
        found = await other.find("none", again.id)
        assert found is not None
        assert (await other.end(found)).status == "cancelled"


async def _joined(events: AsyncIterator[bytes]) -> str:
    return b"".join([event async for event in events]).decode()


async def test_what_a_dead_front_end_left_has_failed(tmp_path: Path) -> None:
    dead, alive = (AnswerStore(tmp_path / "answers.sqlite") for _ in range(2))
    dead.begin(Kept("resp_1", "none", 7, RUNNING, b'{"id":"resp_1","status":"in_progress"}', b"[]"))
    keeper = Keeper(alive)
    kept = await keeper.find("none", "resp_1")
    assert kept is not None
    assert (kept.status, json.loads(kept.answer)["error"]["code"]) == ("failed", "server_error")
    assert "response.failed" in await _joined(keeper.follow(kept, 5))


async def test_a_tenant_sees_its_own_only(kept_house: House) -> None:
    engine = asyncio.create_task(kept_house.answer_all("x"))
    async with client_of(kept_house) as client:
        told = await client.responses.create(model="demo", input="hi")
    engine.cancel()
    store = AnswerStore(None)
    store.begin(Kept("resp_1", Tenant(1, "ann").name, 0, "completed", b"{}", b"[]"))
    assert store.find("bob", "resp_1") is None
    assert not store.forget("bob", "resp_1")
    for path in (f"/v1/responses/{told.id}x", f"/v1/responses/{told.id}x/input_items"):
        assert (await kept_house.client(path, b"", method="GET").done()).status == 404


def test_the_oldest_that_have_ended_leave_first() -> None:
    store = AnswerStore(None, iter(range(10_000_000)).__next__)
    store.begin(Kept("running", "ann", store.owner, RUNNING, b"{}", b"[]"))
    for i in range(ANSWERS_MAX + 1):
        store.begin(Kept(f"r{i}", "ann", store.owner, "completed", b"{}", b"[]"))
    assert store.find("ann", "running") is not None
    assert store.find("ann", "r0") is None
    assert store.find("ann", f"r{ANSWERS_MAX}") is not None


def test_what_is_too_old_is_not_there_and_leaves_with_anybody_s_next() -> None:
    now = [0.0]
    store = AnswerStore(None, lambda: now[0])
    store.begin(Kept("old", "ann", store.owner, "completed", b"{}", b"[]"))
    store.write([("old", 0, b"event")], [])
    now[0] = AGE_S + 1
    assert store.find("ann", "old") is None
    assert store.events("old", -1)
    store.begin(Kept("new", "bob", store.owner, "completed", b"{}", b"[]"))
    assert not store.events("old", -1)


async def test_where_nothing_is_kept_what_needs_it_is_refused_by_name(house: House) -> None:
    for field, value in (("store", True), ("background", True), ("previous_response_id", "resp_1")):
        told = await house.client("/v1/responses", {"model": "demo", "input": "hi", field: value}).done()
        assert (told.status, told.json["error"]["param"]) == (400, field)
    assert build_app(house.view) is not None


async def test_input_tokens_are_what_a_response_is_charged(kept_house: House) -> None:
    engine = asyncio.create_task(kept_house.answer_all("blue"))
    tools: list[Any] = [{"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}]
    async with client_of(kept_house) as client:
        first = await client.responses.create(model="demo", input="what colour?")
        more: Any = {"model": "demo", "input": "why?", "tools": tools, "previous_response_id": first.id}
        counted = await client.responses.input_tokens.count(**more)
        told = await client.responses.create(**more)
    engine.cancel()
    assert told.usage is not None
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", told.usage.input_tokens)


@pytest.mark.parametrize(
    ("query", "header", "param"),
    [
        ("stream=maybe", "", "stream"),
        ("stream=true&starting_after=-1", "", "starting_after"),
        ("stream=true&starting_after=2147483648", "", "starting_after"),
        ("stream=true", "x", "starting_after"),
        ("include[]=message.output_text.logprobs", "", "include"),
        ("include_obfuscation=true", "", "include_obfuscation"),
        ("fancy=1", "", "fancy"),
        ("stream=true", "", "stream"),
    ],
)
async def test_a_query_is_read_as_strictly_as_a_body(kept_house: House, query: str, header: str, param: str) -> None:
    engine = asyncio.create_task(kept_house.answer_all("x"))
    async with client_of(kept_house) as client:
        id_ = (await client.responses.create(model="demo", input="hi")).id
    engine.cancel()
    headers = {"last-event-id": header} if header else {}
    told = await kept_house.client(f"/v1/responses/{id_}", b"", headers, method="GET", query=query).done()
    assert (told.status, told.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=msg_1", "after")]
)
async def test_a_page_that_there_cannot_be_is_refused(kept_house: House, query: str, param: str) -> None:
    engine = asyncio.create_task(kept_house.answer_all("x"))
    async with client_of(kept_house) as client:
        id_ = (await client.responses.create(model="demo", input="hi")).id
    engine.cancel()
    told = await kept_house.client(f"/v1/responses/{id_}/input_items", b"", method="GET", query=query).done()
    assert (told.status, told.json["error"]["param"]) == (400, param)


def test_answers_of_a_newer_server_are_left_alone(tmp_path: Path) -> None:
    AnswerStore(tmp_path / "a").close()
    with sqlite3.connect(tmp_path / "a") as database:
        database.execute("PRAGMA user_version = 9")
    assert open_keeper(tmp_path / "a") is None


async def test_a_parsed_stream_in_the_background_is_resumed_by_the_sdk(kept_house: House) -> None:
    text = '{"name": "Ann", "age": 7}'
    engine = asyncio.create_task(kept_house.answer_all(text))
    async with client_of(kept_house) as client:
        asked: dict[str, Any] = {"model": "demo", "input": "who?", "text_format": Person}
        id_ = ""
        async with client.responses.stream(background=True, **asked) as stream:
            async for event in stream:
                if event.type == "response.created":
                    id_ = event.response.id
                if event.sequence_number == 10:
                    break
        async with client.responses.stream(response_id=id_, starting_after=10, text_format=Person) as stream:
            numbers = [event.sequence_number async for event in stream]
            final = await stream.get_final_response()
    engine.cancel()
    assert numbers == list(range(11, 11 + len(numbers)))
    assert final.output_parsed == Person(name="Ann", age=7)


def _breaks(*_: Any) -> None:
    raise sqlite3.OperationalError("disk full")


@pytest.mark.parametrize("more", [{"background": True}, {"stream": True}, {}, {"background": True, "stream": True}])
async def test_a_response_that_cannot_be_kept_is_503_and_computes_nothing(
    kept_house: House, monkeypatch: pytest.MonkeyPatch, more: dict[str, bool]
) -> None:
    monkeypatch.setattr(AnswerStore, "begin", _breaks)
    asked = kept_house.client("/v1/responses", {"model": "demo", "input": "hi", **more})
    at = await submitted(kept_house)
    kept_house.say(at, "x", FinishReason.STOP if not more else FinishReason.NONE)
    told = await asked.done()
    assert (told.status, told.json["error"]["code"]) == (503, "overloaded")
    if more:
        assert kept_house.engine.receive() == ("cancel", *at)


async def test_events_that_could_not_be_written_at_once_are_written_later(
    kept_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = AnswerStore.write
    monkeypatch.setattr(AnswerStore, "write", _breaks)
    asked = kept_house.client("/v1/responses", {"model": "demo", "input": "hi", "stream": True})
    at = await submitted(kept_house)
    kept_house.say(at, "some")
    await asyncio.sleep(0.25)
    monkeypatch.setattr(AnswerStore, "write", write)
    kept_house.say(at, "more", FinishReason.STOP)
    told = (await asked.done()).body
    id_ = json.loads(told.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    again = await kept_house.client(f"/v1/responses/{id_}", b"", method="GET", query="stream=true").done()
    assert again.body == told


async def test_there_are_so_many_followers_and_then_no_more(kept_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aruntime.http.keeper.FOLLOWERS_MAX", 1)
    async with client_of(kept_house) as client:
        begun = await client.responses.create(model="demo", input="hi", background=True)
    at = await submitted(kept_house)
    path = f"/v1/responses/{begun.id}"
    first = kept_house.client(path, b"", method="GET", query="stream=true")
    kept_house.say(at, "some")
    while b"some" not in first.body:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    refused = await kept_house.client(path, b"", method="GET", query="stream=true").done()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    first.leave()
    await first.done()
    second = kept_house.client(path, b"", method="GET", query="stream=true")
    kept_house.say(at, "more", FinishReason.STOP)
    assert (await second.done()).status == 200


async def test_a_long_stream_is_read_page_by_page(kept_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aruntime.control.kept.EVENTS_PAGE", 2)
    engine = asyncio.create_task(kept_house.answer_all("blue"))
    told = (await kept_house.client("/v1/responses", {"model": "demo", "input": "hi", "stream": True}).done()).body
    engine.cancel()
    id_ = json.loads(told.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
    again = await kept_house.client(f"/v1/responses/{id_}", b"", method="GET", query="stream=true").done()
    assert again.body == told


class Person(pydantic.BaseModel):
    """What an answer is parsed as."""

    name: str
    age: int
