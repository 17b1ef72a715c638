"""The application for plain hypercorn: `hypercorn 'aruntime.asgi:app'`, with one worker or more.

Each worker is a front end. The first finds no supervisor and starts one, which starts the engines; the others join it,
and it ends with the last of them. ARUNTIME_REPOSITORY names the model repository, ARUNTIME_TENANTS the tenants' file;
ARUNTIME_DEVICE, _THREADS, _CACHE_BYTES, _MEMORY and _JOURNAL are as for `aruntime serve`, ARUNTIME_KEEP_ANSWERS=no is
its --no-keep-answers. There is no admin listener: hypercorn binds what it is told to. Without tenants it answers this
machine only, whatever is bound.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aruntime.base import log
from aruntime.control import meeting
from aruntime.control.agent import Agent
from aruntime.control.journal import default_path
from aruntime.control.kept import answers_beside
from aruntime.control.repository import default_root
from aruntime.h2.server import install
from aruntime.http.app import build_app
from aruntime.http.keeper import Keeper, open_keeper

# Hypercorn gives a lifespan 60 s to start; a model that takes longer shows as not ready meanwhile.
_READY_S = 50.0
_AGAIN_S = 1.0
# Answers that are kept go on without a client; hypercorn gives a lifespan 60 s to end.
_DRAIN_S = 30.0
_LAST_WORDS_S = 1.0


class Application:
    """Joins a supervisor when the server starts and leaves it when the server ends."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._app is None:
            raise RuntimeError("aruntime.asgi needs a server that runs the lifespan protocol")
        else:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        log.configure()
        agent = Agent()
        place = _place()
        try:
            await _join(agent, place)
            await agent.settled(_READY_S)
            failed = _all_failed(agent)
        except OSError as error:
            failed = f"there is no supervisor: {error}"
        if failed:
            agent.leave()
            await send({"type": "lifespan.startup.failed", "message": failed})
            return
        kept = _keeper()
        if kept is not None:
            await kept.sweep()
        self._app = build_app(agent.view, keeper=kept)
        keeper = asyncio.create_task(_stay_joined(agent, place))
        await send({"type": "lifespan.startup.complete"})
        await _shutdown(receive)
        if kept is not None:
            await kept.until_none(_DRAIN_S)
        keeper.cancel()
        agent.leave()
        if kept is not None:
            await kept.until_none(_LAST_WORDS_S)
        await send({"type": "lifespan.shutdown.complete"})


def _keeper() -> Keeper | None:
    if os.environ.get("ARUNTIME_KEEP_ANSWERS") == "no":
        return None
    journal = os.environ.get("ARUNTIME_JOURNAL")
    return open_keeper(answers_beside(Path(journal) if journal else default_path(default_root())))


def _place() -> Path:
    names = ("TENANTS", "DEVICE", "THREADS", "CACHE_BYTES", "MEMORY", "JOURNAL")
    marks = [os.environ.get(f"ARUNTIME_{name}", "") for name in names]
    return meeting.place(str(default_root().resolve()), *marks)


async def _join(agent: Agent, place: Path) -> None:
    await agent.join(await asyncio.to_thread(meeting.find_or_start, place, "aruntime.cli.supervisor"))


async def _stay_joined(agent: Agent, place: Path) -> None:
    """Join again when the supervisor is lost: its engines have ended with it."""
    while True:
        await agent.lost.wait()
        log.error("supervisor.lost")
        await asyncio.sleep(_AGAIN_S)
        with contextlib.suppress(OSError):
            await _join(agent, place)


def _all_failed(agent: Agent) -> str:
    """Why nothing can ever be served, or nothing."""
    if agent.lost.is_set():
        return "the supervisor could not serve the repository; its log says why"
    health = agent.view.health()
    served = any(entry.ready for entry in agent.view.models())
    return "" if served or not agent.view.settled else "; ".join(health.reasons)


async def _shutdown(receive: Receive) -> Message:
    while (message := await receive())["type"] != "lifespan.shutdown":
        pass
    return message


install()
app = Application()
"""What the server loads."""
