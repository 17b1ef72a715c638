"""A supervisor in the test's event loop, with real processes and rings, a fake model, and its front ends' agents."""

import asyncio
import json
import os
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from aruntime.admission.ask import Ask
from aruntime.admission.ticket import Ticket
from aruntime.base.names import ModelRef
from aruntime.control.agent import Agent
from aruntime.control.host import Settings
from aruntime.control.launcher import LocalChild, LocalLauncher
from aruntime.control.supervisor import Supervisor
from aruntime.control.tenants import Tenants
from aruntime.control.view import Caller
from aruntime.queue.post import pair
from aruntime.wire.actions import Action

Build = Callable[..., "House"]
# What the supervisor reads of a checkpoint; the fake engine reads nothing.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1,
    "num_attention_heads": 1, "intermediate_size": 4, "vocab_size": 8, "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "eos_token_id": 1, "tie_word_embeddings": True,
}  # fmt: skip
ENDLESS, SHORT = array("i", [9]), array("i", [1])


class FakeEngines(LocalLauncher):
    """Starts the fake engine and prober where the real ones are asked for, and remembers what it started."""

    def __init__(self) -> None:
        self.started: list[LocalChild] = []
        self.probers: list[LocalChild] = []

    def start(
        self, module: str, arguments: Sequence[str], keep: Sequence[int], on_end: Callable[[int], None]
    ) -> LocalChild:
        fake = {
            "aruntime.engine.main": ("control_fake_engine", self.started),
            "aruntime.control.probe.probing": ("control_fake_prober", self.probers),
        }
        name, started = fake[module]
        started.append(super().start(name, arguments, keep, on_end))
        return started[-1]


class House:
    """A supervisor in this event loop, and the agents that joined it."""

    def __init__(self, root: Path, drain_timeout_s: float = 10.0, tenants: Path | None = None, **more: Any) -> None:
        self.engines = FakeEngines()
        settings = Settings(root, "cpu", threads=1, cache_bytes=1 << 20, drain_timeout_s=drain_timeout_s, **more)
        self.supervisor = Supervisor(settings, self.engines, Tenants(tenants))
        self.agents: list[Agent] = []
        self.running = asyncio.create_task(self.supervisor.run())

    async def front_end(self, *, settled: bool = True) -> Agent:
        mine, theirs = pair()
        self.supervisor.admit(mine, lambda: None)
        joined = Agent()
        self.agents.append(joined)
        await joined.join(theirs)
        if settled:
            assert await joined.settled(10)
        return joined

    def depart(self, agent: Agent) -> None:
        self.agents.remove(agent)
        agent.leave()

    async def close(self) -> None:
        for agent in list(self.agents):
            self.depart(agent)
        if not self.running.done():
            self.supervisor.stop()
            await asyncio.wait_for(self.running, 10)
        for child in [*self.engines.started, *self.engines.probers]:
            with pytest.raises(ProcessLookupError):
                os.kill(child.pid, 0)


def submit(agent: Agent, prompt: "array[int]", tokens: int = 3, model: str = "demo") -> Ticket:
    route = agent.view.resolve(ModelRef.parse(model)).route
    ask = Ask(request_id="r", prompts=[prompt], max_tokens=tokens, arrived_s=time.monotonic())
    return agent.view.door.admit(route, ask)


async def tokens_of(ticket: Ticket) -> list[int]:
    return [token async for output in ticket for token in output.token_ids]


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - it looks at other processes
            await asyncio.sleep(0.01)


async def act(agent: Agent, action: Action) -> dict[str, object]:
    return await asyncio.wait_for(agent.commands.act(action, actor="local"), 15)


def state_of(agent: Agent, version: int, model: str = "demo") -> str:
    states = {entry.version: entry.state for entry in agent.view.versions(model)}
    return states.get(version, "unknown")


def reason_of(agent: Agent, version: int, model: str = "demo") -> str:
    return next(entry.reason for entry in agent.view.versions(model) if entry.version == version)


async def ask(agent: Agent, model: str, caller: Caller | None = None) -> list[int]:
    """As http does: wait for the model if need be, then go to it."""
    ref, caller = ModelRef.parse(model), caller or Caller()
    while (served := agent.view.find(ref, caller)) is None:
        await agent.view.wait(ref, caller)
    with agent.view.arriving(served):
        ticket = submit(agent, SHORT, model=model)
    return await tokens_of(ticket)


def write_checkpoint(folder: Path) -> Path:
    """A folder that can be published."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({"model.embed_tokens.weight": np.zeros((8, 4), np.float32)}, folder / "model.safetensors")
    return folder
