"""A real server under more than it can take: who is refused, how, and that whoever is let in is served.

Bounds are wide, for a machine that is busy with other things; bench/overload.py has the figures.
"""

import asyncio
import hashlib
import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from e2e_http2 import RawClient
from e2e_server import Server, completion, events, h2c, until

from aruntime.control.repository import publish

SLOW = 800  # tokens that take the tiny model a good part of a second
SMALL = "[limits]\nsequences_max = {}\nwaiting_max = {}\n\n[objectives]\nttft_s = {}\n"
TERMS = {
    "light": "weight = 1.0",
    "heavy": "weight = 3.0",
    "flood": "",
    "spender": "tokens_per_minute = 600",
    "patient": "tokens_per_minute = 600",
}

Asked = asyncio.Future[httpx.Response]


@pytest.fixture(scope="module")
def small(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two sequences run, eight wait, for a second at most."""
    root = tmp_path_factory.mktemp("e2e") / "small"
    publish(checkpoint, root, "tiny")
    (root / "tiny/model.toml").write_text(SMALL.format(2, 8, 1.0))
    with Server(root, tmp_path_factory.mktemp("e2e") / "small.log") as running:
        yield running


@pytest.fixture(scope="module")
def shared(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Four sequences run, sixteen wait, from tenants whose keys are their names."""
    root = tmp_path_factory.mktemp("e2e") / "shared"
    publish(checkpoint, root, "tiny")
    (root / "tiny/model.toml").write_text(SMALL.format(4, 16, 10.0))
    file = root.with_suffix(".toml")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in TERMS}
    tables = [f'[tenants.{name}]\nkeys = ["sha256:{digests[name]}"]\n{terms}\n' for name, terms in TERMS.items()]
    file.write_text("".join(tables))
    file.chmod(0o600)
    with Server(root, tmp_path_factory.mktemp("e2e") / "shared.log", "--tenants", str(file)) as running:
        yield running


def key(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer {tenant}"}


def ask(client: httpx.AsyncClient, tokens: int, headers: dict[str, str] | None = None, **more: Any) -> Asked:
    """A request under way for so many tokens in one piece."""
    body = completion(tokens, stream=False, **more)
    return asyncio.ensure_future(client.post("/v1/completions", json=body, headers=headers))


def many(server: Server) -> httpx.AsyncClient:
    """A client for many requests at once."""
    return httpx.AsyncClient(base_url=server.url, http1=False, http2=True, timeout=60)


async def answers_per_s(client: httpx.AsyncClient, tokens: int) -> float:
    """What a server of two places answers when four callers always want something."""

    async def caller() -> None:
        for _ in range(4):
            (await ask(client, tokens)).raise_for_status()

    began_s = time.monotonic()
    await asyncio.gather(*(caller() for _ in range(4)))
    return 16 / (time.monotonic() - began_s)


async def open_loop(
    client: httpx.AsyncClient, per_s: float, seconds: float, headers: dict[str, str] | None = None
) -> list[httpx.Response]:
    """Requests that leave when they are due, whether or not earlier ones were answered."""
    chance = random.Random(1)
    end_s = (due_s := time.monotonic()) + seconds
    asked = []
    while (due_s := due_s + chance.expovariate(per_s)) < end_s:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        asked.append(ask(client, SLOW, headers))
    return await asyncio.gather(*asked)


def parted(answers: Sequence[httpx.Response]) -> tuple[list[httpx.Response], list[httpx.Response]]:
    """Those that were answered, and those that were refused; every refusal says when to come again."""
    refused = [one for one in answers if one.status_code != 200]
    for one in refused:
        assert (one.status_code, one.json()["error"]["code"]) == (503, "overloaded")
        assert 1 <= int(one.headers["retry-after"]) <= 60
    return [one for one in answers if one.status_code == 200], refused


def whole(server: Server, tokens: int) -> str:
    """The text of an answer in one piece."""
    answer = httpx.post(f"{server.url}/v1/completions", json=completion(tokens, stream=False), timeout=60)
    text: str = answer.raise_for_status().json()["choices"][0]["text"]
    return text


def deaf(url: str, body: object) -> socket.socket:
    """A request over HTTP/1.1 whose sender has little room for the answer, and does not read it."""
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((parts.hostname, parts.port))
    reader.sendall(f"{head}connection: close\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
    return reader


def usage(server: Server, prompt: str, tenant: str | None = None, **more: Any) -> tuple[int, int]:
    """Tokens of the prompt, and those of them that were cached."""
    body = completion(5, prompt=prompt, stream=False, **more)
    headers = key(tenant) if tenant else None
    said = httpx.post(f"{server.url}/v1/completions", json=body, headers=headers, timeout=30).raise_for_status().json()
    return said["usage"]["prompt_tokens"], said["usage"]["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.slow
async def test_at_twice_its_load_a_server_answers_as_much_in_time_and_refuses_the_rest_at_once(small: Server) -> None:
    async with many(small) as client:
        await answers_per_s(client, 100)  # warm
        peak = await answers_per_s(client, SLOW)
        answered, refused = parted(await open_loop(client, 2 * peak, 5.0))
    assert len(answered) > 0.5 * peak * 5.0
    assert len(refused) > 0.2 * peak * 5.0
    # Ten are in flight at most: without the bound the last ones would take as long as all that was sent.
    assert max(one.elapsed.total_seconds() for one in answered) < 3 * 10 / peak
    assert sorted(one.elapsed.total_seconds() for one in refused)[len(refused) // 2] < 0.5


async def test_a_tenant_that_floods_is_refused_and_its_neighbour_is_not(shared: Server) -> None:
    async with many(shared) as flooding, many(shared) as client:
        flood = asyncio.ensure_future(open_loop(flooding, 60.0, 5.0, key("flood")))
        await asyncio.sleep(1)
        modest = [await ask(client, 50, key("light")) for _ in range(10)]
        answered, refused = parted(await flood)
    assert [one.status_code for one in modest] == [200] * 10
    assert answered
    assert len(refused) > len(answered)


def test_a_spent_budget_says_when_to_come_again_and_then_there_is_room(shared: Server) -> None:
    def spend(tokens: int) -> httpx.Response:
        body = completion(tokens, stream=False)
        return httpx.post(f"{shared.url}/v1/completions", json=body, headers=key("spender"), timeout=30)

    assert spend(595).status_code == 200  # and five of the prompt: all of the minute's 600
    refused = spend(15)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    wait_s = int(refused.headers["retry-after"])
    assert 1 <= wait_s <= 2  # twenty tokens, at ten a second
    assert spend(15).status_code == 429
    time.sleep(wait_s)
    assert spend(15).status_code == 200


def test_the_openai_sdk_comes_again_when_its_budget_allows(shared: Server) -> None:
    transport = openai.DefaultHttpxClient(http1=False, http2=True)
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="patient", http_client=transport) as sdk:

        def spend(sdk: openai.OpenAI, tokens: int) -> int:
            ignore: Any = {"extra_body": {"ignore_eos": True}}
            asked = sdk.completions.with_raw_response
            return asked.create(model="tiny", prompt="hello", max_tokens=tokens, **ignore).retries_taken

        assert spend(sdk, 595) == 0
        with pytest.raises(openai.RateLimitError) as refused:
            spend(sdk.with_options(max_retries=0), 5)
        assert refused.value.code == "rate_limit_exceeded"
        assert spend(sdk, 5) == 1


def test_no_token_is_computed_of_a_prompt_whose_deadline_passes_in_the_queue(
    narrow_repository: Path, tmp_path: Path
) -> None:
    doomed = completion(5, prompt="too late " * 300, stream=False)
    with Server(narrow_repository, tmp_path / "log") as narrow, RawClient(narrow.url) as busy:
        warmed = narrow.metric("aruntime_tenant_served_tokens_total") - narrow.metric("aruntime_output_tokens_total")
        busy.post("/v1/completions", completion(30_000, stream=False))  # a stream that nobody reads would be paused
        until(lambda: narrow.metric("aruntime_sequences_running") == 1)
        began_s = time.monotonic()
        answer = httpx.post(f"{narrow.url}/v1/completions", json=doomed, headers={"x-request-timeout-ms": "500"})
        took_s = time.monotonic() - began_s
        computed = narrow.metric("aruntime_tenant_served_tokens_total")
        outputs = narrow.metric("aruntime_output_tokens_total")
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert 0.45 < took_s < 1.0
    assert computed - warmed <= outputs + len("hello") + 10  # of steps that were under way between the two


def test_a_deadline_in_the_stream_is_one_last_event(small: Server) -> None:
    with h2c(small.url) as client:
        # What may end by a stop string may end in time: the door lets it in.
        asked = completion(30_000, stop="never said")
        answer = client.post("/v1/completions", json=asked, headers={"x-request-timeout-ms": "500"})
    assert answer.status_code == 200
    *texts, last = map(json.loads, events(answer.text.splitlines()))
    assert last["error"]["code"] == "deadline_exceeded"
    assert texts
    assert all("error" not in text for text in texts)


async def test_interactive_overtakes_batch_where_every_place_is_taken(shared: Server) -> None:
    # On a connection of its own: on one, httpx hands answers over in the order in which they were asked for.
    async with many(shared) as client, many(shared) as other:
        batch = [ask(client, 4000, key("light") | {"x-request-priority": "batch"}) for _ in range(6)]
        await asyncio.to_thread(until, lambda: shared.metric("aruntime_sequences_waiting") == 2)
        overtaking = await ask(other, 50, key("light") | {"x-request-priority": "interactive"})
        assert overtaking.status_code == 200
        assert not any(one.done() for one in batch)
        assert [one.status_code for one in await asyncio.gather(*batch)] == [200] * 6


def test_who_reads_slowly_is_paused_and_loses_nothing(server: Server) -> None:
    tokens, n = 2_000, 16  # the kernel alone holds some megabytes for a reader that does not read
    said = whole(server, tokens)
    with deaf(server.url, completion(tokens, n=n)) as reader:
        until(lambda: server.metric("aruntime_sequences_in_flight") == n)
        until(lambda: server.metric("aruntime_sequences_running") == 0, 30)
        stood = server.metric("aruntime_output_tokens_total")
        assert whole(server, 20)  # others go on
        assert server.metric("aruntime_sequences_in_flight") > 0
        assert server.metric("aruntime_output_tokens_total") == stood + 20
        reader.settimeout(30)
        received = b"".join(iter(lambda: reader.recv(1 << 16), b""))
    *chunks, done = events(received.decode().splitlines())
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert done == "[DONE]"
    assert ["".join(one["text"] for one in choices if one["index"] == number) for number in range(n)] == [said] * n


def test_a_prompt_is_cached_for_its_tenant_and_for_nobody_else(shared: Server) -> None:
    prompt = "once upon a time " * 10
    assert usage(shared, prompt, "light") == (170, 0)
    assert usage(shared, prompt, "light") == (170, 160)
    assert usage(shared, prompt, "heavy") == (170, 0)


def test_four_choices_compute_their_prompt_once(small: Server) -> None:
    names = ("aruntime_prompt_tokens_total", "aruntime_cached_tokens_total", "aruntime_tenant_served_tokens_total")
    before = [small.metric(name) for name in names]
    tokens, _ = usage(small, "four of a kind " * 20, n=4)
    prompts, cached, computed = (small.metric(name) - was for name, was in zip(names, before, strict=True))
    assert tokens == 300
    assert prompts == 4 * tokens
    assert cached == 3 * 288  # whole blocks of 16
    assert computed <= tokens + 3 * (tokens - 288) + 4 * 5


async def test_weights_of_one_and_three_share_the_server_so(shared: Server) -> None:
    def served() -> list[float]:
        name = "aruntime_tenant_served_tokens_total"
        return [shared.metric(name, tenant=tenant) for tenant in ("light", "heavy")]

    async with many(shared) as client:
        asked = [ask(client, 20_000, key(tenant)) for _ in range(4) for tenant in ("light", "heavy")]
        await asyncio.to_thread(until, lambda: shared.metric("aruntime_sequences_running") == 4)
        await asyncio.sleep(3)  # whoever wanted less before this test has caught up
        before = await asyncio.to_thread(served)
        await asyncio.sleep(3)
        light, heavy = (now - was for now, was in zip(await asyncio.to_thread(served), before, strict=True))
        for one in asked:
            one.cancel()
    assert light > 0
    assert 2 < heavy / light < 4.5
