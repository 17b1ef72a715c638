"""What operators ask of the server through a front end: handed to the supervisor, and answered when it is done."""

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from aruntime.base.errors import Overloaded, ServingError, Unavailable, error_of
from aruntime.queue.post import enclose, read_enclosure
from aruntime.wire.actions import Action, encode_action
from aruntime.wire.control import Act, Message, Outcome

# An operator's loads take minutes; nobody has hundreds of them under way.
ACTIONS_MAX = 64


class Commands:
    """One front end's way to act on the models. `send` is the line to the supervisor."""

    def __init__(self, send: Callable[[Message, Sequence[int]], None]) -> None:
        self._send = send
        self._number = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._is_lost = False

    async def act(self, action: Action, *, actor: str, request_id: str = "") -> dict[str, Any]:
        """Have it done; what comes of it, as the action's docstring says. A ServingError says why not."""
        if len(self._waiting) >= ACTIONS_MAX:
            raise Overloaded(f"{ACTIONS_MAX} actions are under way", retry_after_s=1.0)
        if self._is_lost:
            raise _gone()
        number, enclosure = next(self._number), enclose(encode_action(action))
        done = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(Act(number=number, actor=actor, request_id=request_id), (enclosure,))
            result: dict[str, Any] = await done
            return result
        finally:
            os.close(enclosure)
            del self._waiting[number]

    def ended(self, outcome: Outcome, enclosure: int) -> None:
        """The supervisor's answer."""
        done = self._waiting.get(outcome.number)
        if done is None or done.done():
            return
        if outcome.code == "ok":
            done.set_result(json.loads(read_enclosure(enclosure)))
        else:
            done.set_exception(error_of(outcome.code, outcome.message, outcome.param))

    def found(self) -> None:
        """There is a supervisor, perhaps another one."""
        self._is_lost = False

    def lost(self) -> None:
        """The supervisor is gone: nothing is done until there is one again."""
        self._is_lost = True
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(_gone())


def _gone() -> ServingError:
    return Unavailable("the server ended before it was done", retry_after_s=1.0)
