"""What a front end spends on one token of a stream, and on reading one small request.

    python -m pytest bench/bench_stream.py --benchmark-enable

A token: detokenize, look for stop strings, JSON, SSE. Goal <= 4 us (vLLM 24-30 us). The whole way adds what stands
between a ticket and the server: the wake-up, the meter, the layers of the application; no server, no network.
"""

import asyncio
import contextlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tokenizers

from aruntime.admission.limits import RouteLimits
from aruntime.admission.registry import Registry
from aruntime.admission.ticket import Output, Ticket
from aruntime.control.view import ServedVersion, View
from aruntime.http.app import build_app
from aruntime.http.choices import Choice
from aruntime.http.stops import StopText
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.columns import COLUMNS
from aruntime.queue.records import FinishReason
from aruntime.queue.table import Table, create_table
from aruntime.wire.answers import Answer
from aruntime.wire.openai import parse_chat

WORDS = "what is a canary rollout and how does the server batch decode steps under load with a deadline".split()
TOKENS = 1000


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Byte-level BPE, with a token for each of some words."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [WORDS] * 9, tokenizers.trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False)
    )
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    return Tokenizer.from_folder(folder)


@pytest.mark.parametrize("stops", [(), ("END", "\n\n", "</answer>", "User:")], ids=["no_stops", "four_stops"])
def test_a_token_becomes_an_event(benchmark: Any, tokenizer: Tokenizer, stops: tuple[str, ...]) -> None:
    choice = Choice(tokenizer.detokenizer(), StopText(stops))
    answer = Answer(chat=True, request_id="r", model="demo", fingerprint="demo@1", created_s=1, wants_usage=True)
    output = Output(0, tokenizer.encode("rollout")[:1])

    def event() -> bytes:
        return answer.add(0, choice.take(output))

    assert b'"content":"' in benchmark(event)


def test_a_small_chat_request_is_parsed(benchmark: Any) -> None:
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    assert benchmark(parse_chat, body).model == "demo"


def test_a_stream_of_1000_tokens_goes_through_the_application(benchmark: Any, tokenizer: Tokenizer) -> None:
    app, feed = _application(tokenizer)
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()

    def stream() -> int:
        return asyncio.run(_stream(app, feed, body))

    assert benchmark(stream) > TOKENS


def _application(tokenizer: Tokenizer) -> tuple[Any, Any]:
    """An application over one fake model, and what lets one token into its last ticket."""
    tickets: list[Ticket] = []
    route = SimpleNamespace(limits=RouteLimits(8, 8, 4096, 1 << 20), table=Table(create_table(2, COLUMNS)), row=1)
    served = ServedVersion("demo", 1, 0, tokenizer, cast(Any, route))
    sequences = SimpleNamespace(cancel=lambda _: None, pause=lambda _: None, resume=lambda _: None)
    door = SimpleNamespace(
        admit=lambda _route, ask: tickets.append(Ticket(ask.choices, sequences)) or tickets[-1],
        glance=lambda _route, _ask: None,
        ledger=SimpleNamespace(refused=lambda _code: None),
    )
    token = tokenizer.encode("rollout")[0]

    def feed(last: bool) -> None:
        tickets[-1].feed(0, token, FinishReason.LENGTH if last else FinishReason.NONE, 0)

    registry = Registry()
    registry.replace(None)
    view = SimpleNamespace(
        find=lambda _ref, _caller: served,
        arriving=lambda _served: contextlib.nullcontext(),
        shadow=lambda _served, _caller: None,
        door=door,
        registry=registry,
    )
    return build_app(cast(View, view), clock=time.monotonic), feed


async def _stream(app: Any, feed: Any, body: bytes) -> int:
    """Run one stream, a token for each turn of the loop; returns how many messages the server was given."""
    sent = []
    request = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return request.pop() if request else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "server": ("127.0.0.1", 8000),
    }
    answering = asyncio.ensure_future(app(scope, receive, send))
    await asyncio.sleep(0.001)
    for left in range(TOKENS - 1, -1, -1):
        feed(last=left == 0)
        await asyncio.sleep(0)
    await answering
    return len(sent)
