"""Versions to roll out, clients that keep asking meanwhile, and an operator who watches."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import torch
from e2e_server import Server
from safetensors.torch import load_file, save_file

DEMO = Path(__file__).parents[2] / "examples" / "repository" / "demo" / "1"
QUESTIONS = ("What is a canary rollout?", "what is continuous batching", "Hello!")


def copy_demo(to: Path, *, golden: bool = True) -> Path:
    """The demo model as it was before it was published."""
    left_out = shutil.ignore_patterns("MANIFEST.json", "version.toml", *([] if golden else ["golden"]))
    shutil.copytree(DEMO, to, ignore=left_out)
    return to


def slow_demo(to: Path, more_layers: int = 40) -> Path:
    """The demo model with layers that add nothing to the stream and take their time: the same answers, but later."""
    config = json.loads((copy_demo(to) / "config.json").read_text())
    layers = config["num_hidden_layers"]
    weights = load_file(to / "model.safetensors")
    first = {name: tensor for name, tensor in weights.items() if name.startswith("model.layers.0.")}
    for layer in range(layers, layers + more_layers):
        for name, tensor in first.items():
            adds = "o_proj" in name or "down_proj" in name
            weights[name.replace(".0.", f".{layer}.", 1)] = torch.zeros_like(tensor) if adds else tensor.clone()
    (to / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers + more_layers}))
    save_file(weights, to / "model.safetensors")
    return to


def wrong_demo(to: Path) -> Path:
    """The demo model with other weights in its middle, and no golden question that would tell."""
    copy_demo(to, golden=False)
    weights = load_file(to / "model.safetensors")
    torch.manual_seed(1)
    for name in sorted(weights):
        if "mlp" in name:
            weights[name] = (0.05 * torch.randn(weights[name].shape)).to(weights[name].dtype)
    save_file(weights, to / "model.safetensors")
    return to


@dataclass(frozen=True, slots=True)
class Answered:
    """How one request ended: `complete` says that its stream came to its [DONE]."""

    session: int
    status: int
    version: str
    complete: bool


class Clients:
    """Clients with a session and a connection each, HTTP/1.1 and HTTP/2 by turns, that ask again and again."""

    def __init__(self, url: str, count: int, **body: object) -> None:
        self.answered: list[Answered] = []
        self._url = url
        self._count = count
        self._body = {"model": "demo", "stream": True, "max_tokens": 100, **body}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._ask_again(session)) for session in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def failed(self) -> list[Answered]:
        """What went wrong."""
        return [answer for answer in self.answered if answer.status != 200 or not answer.complete]

    def versions(self, session: int) -> list[str]:
        """Who answered a session, without repetitions."""
        seen = [answer.version for answer in self.answered if answer.session == session]
        return [version for i, version in enumerate(seen) if i == 0 or seen[i - 1] != version]

    async def _ask_again(self, session: int) -> None:
        speaks = {"http1": session % 2 == 0, "http2": session % 2 == 1}
        async with httpx.AsyncClient(base_url=self._url, timeout=60, **speaks) as client:
            for turn in range(1_000_000):
                question = QUESTIONS[(session + turn) % len(QUESTIONS)]
                body = self._body | {"messages": [{"role": "user", "content": question}]}
                self.answered.append(await ask(client, body, session))
                await asyncio.sleep(0.03)


async def ask(client: httpx.AsyncClient, body: dict[str, object], session: int) -> Answered:
    """Ask once, and read to the end."""
    complete, headers = False, {"x-session-id": f"s{session}"}
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
        async for line in reply.aiter_lines():
            complete = line == "data: [DONE]" or (complete and not line)
        return Answered(session, reply.status_code, reply.headers.get("x-model-version", ""), complete)


class Operator:
    """Somebody with the admin listener at hand."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def act(self, method: str, path: str, **fields: object) -> httpx.Response:
        """Do something to `demo`."""
        url = f"{self._server.admin_url}/admin/models/demo{path}"
        return httpx.request(method, url, json=fields, timeout=60)

    def model(self) -> dict[str, Any]:
        """How it is."""
        found: dict[str, Any] = self.act("GET", "").raise_for_status().json()["models"][0]
        return found

    def state(self, version: int) -> str:
        """Of one version."""
        return next((one["state"] for one in self.model()["versions"] if one["version"] == version), "unknown")

    def stage(self) -> str:
        """Of the rollout under way; empty when there is none."""
        rollout = self.model()["rollout"]
        return "" if rollout is None else str(rollout["stage"])

    def audit(self) -> list[dict[str, Any]]:
        """The trail, oldest first."""
        reply = httpx.get(f"{self._server.admin_url}/admin/audit?limit=1000").raise_for_status()
        return list(reversed(reply.json()["audit"]))

    def ends(self, version: int) -> list[str]:
        """Which stages a rollout of this version went through."""
        trail = [entry for entry in self.audit() if entry["action"] == "rollout"]
        return [entry["outcome"] for entry in trail if entry["subject"] == f"demo@{version}"]

    async def until(self, condition: Callable[[], object], timeout_s: float = 40.0) -> None:
        """Wait for something, while the clients go on."""
        deadline_s = time.monotonic() + timeout_s
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < deadline_s, (self.model(), self._server.log.read_text()[-3000:])
            await asyncio.sleep(0.1)


@contextmanager
def serving(repository: Path, log: Path, *arguments: str) -> Iterator[tuple[Server, Operator]]:
    """A server, and its operator."""
    with Server(repository, log, *arguments) as server:
        yield server, Operator(server)
