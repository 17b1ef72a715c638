"""A public application over a real door, channel and table; the test plays the engine, and the network."""

import asyncio
import json
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import tokenizers

from aruntime.admission.door import Door
from aruntime.admission.limits import RouteLimits
from aruntime.admission.route import Route
from aruntime.control.commands import Commands
from aruntime.control.view import ServedVersion, View
from aruntime.h2.stream import EXTENSION
from aruntime.http.app import build_app
from aruntime.http.keeper import Keeper
from aruntime.http.limits import HttpLimits
from aruntime.model.embedding import Embedding
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, TABLE_ROWS
from aruntime.queue.records import FinishReason, Pooling, RecordKind
from aruntime.queue.table import Table, create_table
from aruntime.wire.control import ModelState, ReplicaState, VersionEntry

TEMPLATE = (
    "{% for m in messages %}{% if m.name == 'refuse' %}{{ raise_exception('no such role here') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

COMMANDS = Commands(lambda _message, _fds: None)
"""There is no supervisor behind them."""


def byte_tokenizer() -> tokenizers.Tokenizer:
    """A token for each byte: any text, cut anywhere."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


def demo(callers: list[str] | None = None, **more: Any) -> ModelState:
    """The model `demo`, whose stable version is 3."""
    entry = VersionEntry(version=3, state="serving", created_s=5)
    return ModelState(model="demo", callers=callers, labels={"stable": 3}, versions=[entry], **more)


class House:
    """`ids(text)` are the tokens of a text, `say` what the engine puts out, `post` what a client sends."""

    def __init__(
        self,
        folder: Any,
        limits: HttpLimits | None = None,
        template: str = TEMPLATE,
        context: int = 200,
        keeper: Keeper | None = None,
    ) -> None:
        byte_tokenizer().save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text("{}")
        (folder / "chat_template.jinja").write_text(template)
        self.tokenizer = Tokenizer.from_folder(folder)
        self._fds = [create_channel(1, 1024, 1024, 64), create_bell(), create_bell(), create_table(TABLE_ROWS, COLUMNS)]
        channel, engine_bell, bell, table = self._fds
        self.table = Table(table)
        self.engine = EngineChannel(channel, bell, 1)
        self.view = View(Door(bell, time.monotonic, random.Random(1)), time.monotonic)
        self.view.registry.replace(None)
        route = Route(0, 1, FrontEndChannel(channel, engine_bell, 1), self.table, RouteLimits(2, 2, context, 256))
        self.view.model_is(demo())
        self.view.state_is(ReplicaState(replica=0, model="demo", version=3, life="ready", reason=""))
        embedding = Embedding(Pooling.LAST, 4)
        self.view.serve(ServedVersion("demo", 3, 5, self.tokenizer, route, embedding=embedding))
        self.view.door.open()
        self.app = build_app(self.view, limits=limits, keeper=keeper)
        self.cancelled: list[int] = []

    def close(self) -> None:
        self.view.door.close()
        for fd in self._fds:
            os.close(fd)

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    async def submitted(self) -> tuple[int, int, dict[str, Any]]:
        """Wait for the next request: its slot, its generation, its numbers (and its prompt)."""
        for _ in range(1000):
            message = self.engine.receive()
            if message is not None and message[0] == "submit":
                return message[1], message[2], {**message[4], "prompt": message[3]}  # type: ignore[dict-item]
            if message is not None:
                self.cancelled.append(message[1])  # type: ignore[arg-type]
            await asyncio.sleep(0.002)
        raise AssertionError("nothing was submitted")

    def say(self, at: tuple[int, int], said: str | list[int], finish: FinishReason = FinishReason.NONE) -> None:
        """Put out tokens, the last of them with `finish`; no tokens are an end alone."""
        tokens = self.ids(said) if isinstance(said, str) else said
        for i, token in enumerate(tokens):
            last = finish if i == len(tokens) - 1 else FinishReason.NONE
            self.engine.send([(*at, token, i, last, 0, 0.0)])
        if not tokens:
            self.engine.send([(*at, -1, 0, finish, 0, 0.0)])
        self.engine.ring_bell()

    def give(self, at: tuple[int, int], vector: bytes) -> None:
        """Let a vector come, and then the end of its sequence."""
        assert self.engine.try_result(*at, vector)
        self.say(at, "", FinishReason.LENGTH)

    def score(
        self, at: tuple[int, int], said: list[int], finish: FinishReason, prompt: Sequence[int] = (), top: int = 0
    ) -> None:
        """Put out tokens with logprobs and `top` alternatives each, the prompt's own tokens before them.

        The logprob at place i is -(i + 1) / 8. The first alternative is the token itself, each next one is less by 1.
        """
        tokens = [(RecordKind.PROMPT_TOKEN, i, token) for i, token in enumerate(prompt) if i]
        tokens += [(RecordKind.TOKEN, i, token) for i, token in enumerate(said)]
        for kind, index, token in tokens:
            logprob = -(index + 1) / 8
            told = [((token + k) % 256, logprob - k) for k in range(top)]
            self.engine.send([(*at, one, index, 0, 0, less, RecordKind.ALTERNATIVE) for one, less in told])
            ends = finish if kind is RecordKind.TOKEN and index == len(said) - 1 else FinishReason.NONE
            self.engine.send([(*at, token, index, ends, 0, logprob, kind)])
        if not said:
            self.engine.send([(*at, -1, 0, finish, 0, 0.0, RecordKind.TOKEN)])
        self.engine.ring_bell()

    async def answer_all(self, text: str, finish: FinishReason = FinishReason.STOP) -> None:
        """Play an engine that answers every request with `text`, until cancelled."""
        while True:
            message = self.engine.receive()
            if message is None:
                await asyncio.sleep(0.001)
            elif message[0] == "submit":
                at, wants_vector = (message[1], message[2]), message[4]["pooling"]  # type: ignore[index]
                if wants_vector:
                    self.give(at, b"abcd" * 4)  # type: ignore[arg-type]
                else:
                    self.say(at, text, finish)  # type: ignore[arg-type]

    def client(
        self, path: str, body: object, headers: dict[str, str] | None = None, method: str = "POST", **more: Any
    ) -> "Client":
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"host": "localhost", "content-type": "application/json", **(headers or {})}
        return Client(self.app, path, data, list(sent.items()), method, **more)

    def chat(self, headers: dict[str, str] | None = None, **changes: object) -> "Client":
        body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], **changes}
        return self.client("/v1/chat/completions", body, headers)

    def complete(self, headers: dict[str, str] | None = None, **changes: object) -> "Client":
        return self.client("/v1/completions", {"model": "demo", "prompt": "hi", **changes}, headers)


class Client:
    """One request through the ASGI application; `leave` disconnects. Over HTTP/2 its answer may be written to it."""

    def __init__(
        self,
        app: Any,
        path: str,
        body: bytes,
        headers: list[tuple[str, str]],
        method: str,
        server: tuple[str, int] | None = ("127.0.0.1", 80),
        query: str = "",
        version: str = "2",
    ) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[dict[str, Any]] = []
        self.awaited = 0  # of what was sent: the others were written
        scope = {
            "type": "http",
            "http_version": version,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
            "scheme": "http",
            "server": server,
            "client": ("c", 1),
            "extensions": {EXTENSION: self} if version == "2" else {},
        }
        self.stalled = False  # the server gives it up when it is next waited for
        self.network = asyncio.Event()  # cleared: the network takes one message more, and then no other
        self.network.set()
        self.task = asyncio.ensure_future(app(scope, self._incoming.get, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        self.awaited += 1
        self.sent.append(message)
        await self.network.wait()

    def write(self, data: bytes) -> bool:
        """Take a piece of the answer; False when its writer should wait."""
        if data:
            self.sent.append({"type": "http.response.body", "body": data, "more_body": True})
        return self.network.is_set()

    async def drained(self) -> None:
        """Wait for the network."""
        if self.stalled:
            raise TimeoutError("the client does not read")
        await self.network.wait()

    def send(self, body: bytes, *, more: bool) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def done(self) -> "Client":
        await asyncio.wait_for(self.task, 5)
        return self

    @property
    def unread(self) -> int:
        """How many pieces of the body nobody has asked for."""
        return self._incoming.qsize()

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        lines = self.body.decode().strip().split("\n\n")
        return [line if line == "data: [DONE]" else json.loads(line.removeprefix("data: ")) for line in lines]

    @property
    def text(self) -> str:
        """What a stream's first choice has said."""
        chunks = [event["choices"][0] for event in self.events[:-1] if event.get("choices")]
        return "".join(chunk.get("text") or chunk.get("delta", {}).get("content") or "" for chunk in chunks)
