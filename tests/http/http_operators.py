"""The supervisor's end of `Commands`, played by the test: what arrives there, and what it answers."""

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

from aruntime.control.commands import Commands
from aruntime.queue.post import enclose, read_enclosure
from aruntime.wire.actions import Action, decode_action
from aruntime.wire.control import Act, Message, Outcome


class Operators:
    """`commands` is what an application acts through; an action waits until it is answered."""

    def __init__(self) -> None:
        self.commands = Commands(self._take)
        self.arrived: asyncio.Queue[tuple[Act, Action]] = asyncio.Queue()

    async def next(self) -> tuple[Act, Action]:
        """The next action, and the message that it came with."""
        return await asyncio.wait_for(self.arrived.get(), 5)

    def done(self, act: Act, result: dict[str, Any]) -> None:
        """It is done."""
        self._answer(Outcome(number=act.number, code="ok"), json.dumps(result).encode())

    def refuse(self, act: Act, code: str, message: str, param: str | None = None) -> None:
        """It is not."""
        self._answer(Outcome(number=act.number, code=code, message=message, param=param), b"{}")

    def _take(self, message: Message, fds: Sequence[int]) -> None:
        assert isinstance(message, Act)
        self.arrived.put_nowait((message, decode_action(read_enclosure(fds[0]))))

    def _answer(self, outcome: Outcome, data: bytes) -> None:
        enclosure = enclose(data)
        try:
            self.commands.ended(outcome, enclosure)
        finally:
            os.close(enclosure)
