"""What the door's no looks like from outside, and that a client which reads slowly is waited for."""

import asyncio
from dataclasses import replace

import pytest
from http_house import House
from test_http_endings import counted

from aruntime.admission.tenants import Tenant
from aruntime.http import completions
from aruntime.http.limits import HttpLimits
from aruntime.http.requests import Terms, read_terms
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.queue.records import FinishReason


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """Every request is this tenant's: 100 tokens a minute, two sequences at once."""
    one = Tenant(1, "one", tokens_per_minute=100, sequences_max=2)

    def terms(request: completions.Request, limits: HttpLimits) -> Terms:
        return replace(read_terms(request, limits), tenant=one)

    monkeypatch.setattr(completions, "read_terms", terms)
    return one


async def test_over_budget_is_429_with_the_bucket_s_time(house: House, tenant: Tenant) -> None:
    first = house.complete(max_tokens=90)
    at = (await house.submitted())[:2]
    refused = await house.complete(max_tokens=30).done()
    assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.json["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) in (14, 15)  # 92 of 100 are gone, 32 are wanted
    house.say(at, "abc", FinishReason.STOP)
    assert (await first.done()).status == 200
    second = house.complete(max_tokens=30)  # what was not generated is there again
    house.say((await house.submitted())[:2], "abc", FinishReason.STOP)
    assert (await second.done()).status == 200
    assert counted(house) == {"ok": 2, "rate_limit_exceeded": 1}


async def test_more_than_a_minute_holds_is_400_by_the_field(house: House, tenant: Tenant) -> None:
    for client, param in (
        (house.complete(max_tokens=99), "max_tokens"),
        (house.complete(prompt="x" * 101, max_tokens=1), "prompt"),
        (house.complete(n=3), "n"),
    ):
        reply = await client.done()
        assert (reply.status, reply.json["error"]["param"]) == (400, param)


async def test_a_chat_without_a_limit_may_use_what_its_budget_holds(house: House, tenant: Tenant) -> None:
    client = house.chat()
    slot, generation, head = await house.submitted()
    assert len(head["prompt"]) + head["max_tokens"] == 100
    house.say((slot, generation), "abc", FinishReason.STOP)
    assert (await client.done()).status == 200


async def test_a_queue_that_is_too_slow_is_503_with_an_honest_time(house: House) -> None:
    house.table.set(ENGINE_ROW, Column.PREFILL_TOKENS_PER_S, 10)
    first = house.complete(prompt="x" * 80)
    at = (await house.submitted())[:2]
    refused = await house.complete().done()
    assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "7"  # 8 s of prompts, 1.875 s may be waited
    house.say(at, "abc", FinishReason.STOP)
    await first.done()


async def test_a_deadline_out_of_reach_is_504_before_the_engine_hears_of_it(house: House) -> None:
    house.table.set(ENGINE_ROW, Column.PREFILL_TOKENS_PER_S, 10)
    refused = await house.complete({"x-request-timeout-ms": "900"}, prompt="x" * 80).done()
    assert (refused.status, refused.json["error"]["code"]) == (504, "deadline_exceeded")
    assert "retry-after" not in refused.headers
    assert house.engine.receive() is None


async def test_a_client_that_reads_slowly_has_its_choice_paused_and_loses_nothing(house: House) -> None:
    client = house.complete(stream=True, max_tokens=190)
    client.network.clear()
    slot, generation, _ = await house.submitted()
    told = []
    for _ in range(4):
        house.say((slot, generation), "x" * 150)  # more than was asked for: an engine that does not stop at once
        await asyncio.sleep(0.02)
        if (message := house.engine.receive()) is not None:
            told.append(message)
    assert told == [("pause", slot, generation)]
    client.network.set()
    await asyncio.sleep(0.02)
    assert house.engine.receive() == ("resume", slot, generation)
    house.say((slot, generation), "y", FinishReason.STOP)
    await client.done()
    text = "".join(event["choices"][0]["text"] for event in client.events[:-1])
    assert text == "x" * 600 + "y"
