"""A door over a real channel and table; the test plays the engine's end of the rings."""

import os
import random
import time
from array import array

from aruntime.admission.ask import Ask
from aruntime.admission.door import Door
from aruntime.admission.limits import RouteLimits
from aruntime.admission.route import Route
from aruntime.admission.tenants import Tenant
from aruntime.admission.ticket import Output, Ticket
from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, ENGINE_ROW, Column, TenantColumn, tenant_column
from aruntime.queue.records import FinishReason, Priority
from aruntime.queue.table import Table, create_table

FRONT_END = 3


class Engine:
    """The other end of the rings."""

    def __init__(self, channel: EngineChannel) -> None:
        self.channel = channel
        self.submitted: list[tuple[int, int]] = []  # (slot, generation) in the order of their coming
        self.cancelled: list[tuple[int, int]] = []
        self.told: list[str] = []  # pause, resume
        self.seeds: list[int] = []

    def read(self) -> None:
        while (message := self.channel.receive()) is not None:
            kind, slot, generation = message[:3]
            if kind == "submit":
                self.seeds.append(message[4]["seed"])
                self.submitted.append((slot, generation))
            elif kind == "cancel":
                self.cancelled.append((slot, generation))
            else:
                self.told.append(kind)

    def say(
        self, slot: int, generation: int, token: int, finish: FinishReason = FinishReason.NONE, index: int = 0
    ) -> None:
        assert self.channel.send([(slot, generation, token, index, finish, 0, 0.0)]) == 1
        self.channel.ring_bell()


class House:
    """A door with one route, and the engine behind it."""

    def __init__(
        self, sequences_max: int = 2, waiting_max: int = 2, submit_cells: int = 256, context_max: int = 100
    ) -> None:
        self.fds = [create_channel(1, submit_cells, 256), create_bell(), create_bell(), create_table(64, COLUMNS)]
        channel, engine_bell, bell, table = self.fds
        self.table = Table(table)
        self.door = Door(bell, time.monotonic, random.Random(1))
        self.engine = Engine(EngineChannel(channel, bell, 1))
        limits = RouteLimits(sequences_max, waiting_max, context_max=context_max, vocab=50)
        self.route = Route(7, FRONT_END, FrontEndChannel(channel, engine_bell, 1), self.table, limits)
        self.door.attach(self.route)
        self.asked_s = 0.0  # the first time

    def pace(self, **columns: int) -> None:
        """What the engine says of itself."""
        for name, value in columns.items():
            self.table.set(ENGINE_ROW, Column[name.upper()], value)

    def queue(
        self, tenant: Tenant, sequences: int, tokens: int, priority: Priority = Priority.STANDARD, by: int = 4
    ) -> None:
        """Another front end has so much queued for `tenant`."""
        for name, count in {"IN_FLIGHT": sequences, "QUEUED": sequences, "QUEUED_TOKENS": tokens}.items():
            self.table.add(by, Column[name], count)
            self.table.add(by, _column(tenant, name, priority), count)

    def counts(self, tenant: Tenant, priority: Priority = Priority.STANDARD) -> list[int]:
        """What this door's front end counts: in flight, queued, prompt tokens queued; of all, then of a class."""
        names = ("IN_FLIGHT", "QUEUED", "QUEUED_TOKENS")
        own = [_column(tenant, name, priority) for name in names]
        return [self.table.get(FRONT_END, column) for column in [*(Column[name] for name in names), *own]]

    def close(self) -> None:
        self.door.close()
        for fd in self.fds:
            os.close(fd)

    def ask(self, **changes: object) -> Ask:
        """A request of three tokens, eight to come, with `changes`."""
        self.asked_s = self.asked_s or time.monotonic()
        words: dict[str, object] = {
            "request_id": "r1",
            "prompts": [array("i", [1, 2, 3])],
            "max_tokens": 8,
            "arrived_s": time.monotonic(),
        }
        return Ask(**{**words, **changes})  # type: ignore[arg-type]

    def admit(self, **changes: object) -> Ticket:
        """Ask the door; the engine hears of it."""
        ticket = self.door.admit(self.route, self.ask(**changes))
        self.engine.read()
        return ticket


def _column(tenant: Tenant, name: str, priority: Priority) -> int:
    return tenant_column(tenant.index, TenantColumn[name], 0 if name == "IN_FLIGHT" else priority)


async def rest(ticket: Ticket) -> list[Output]:
    """What a ticket still gives."""
    return [output async for output in ticket]
