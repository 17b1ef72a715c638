"""One front end's way to one replica: its channel, its slots, its row of the replica's table.

A slot names a sequence in flight. It is free again only when the engine has said that the sequence ended, and its
generation grows with each use, so a late word can never name the request that has the slot now.
"""

from collections.abc import Callable
from dataclasses import dataclass

from aruntime.admission.ask import Ask
from aruntime.admission.ticket import Ticket
from aruntime.base.errors import InvalidRequest, Overloaded, ServingError
from aruntime.queue.channel import FrontEndChannel
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.queue.records import FinishReason, submit_cells
from aruntime.queue.table import Table


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """What the replica can take: sequences at once, sequences waiting, tokens of context, ids of vocabulary.

    `ttft_s` is the objective that the queue is kept short for.
    """

    sequences_max: int
    waiting_max: int
    context_max: int
    vocab: int
    ttft_s: float = 2.0

    @property
    def in_flight_max(self) -> int:
        """Sequences that may be submitted and not ended, over all front ends."""
        return self.sequences_max + self.waiting_max


class Route:
    """Submits sequences to one replica and hands its outputs to their tickets."""

    def __init__(
        self, replica: int, front_end: int, channel: FrontEndChannel, table: Table, limits: RouteLimits
    ) -> None:
        self.replica = replica
        self.limits = limits
        self.table = table
        self._channel = channel
        self.row = front_end
        self._free = list(range(limits.in_flight_max - 1, -1, -1))
        self._generation = [0] * limits.in_flight_max
        self._holder: list[tuple[Ticket, int] | None] = [None] * limits.in_flight_max
        self._cells_max = channel.submit_cells_free  # the whole ring: nothing was sent yet
        self._cancels: dict[int, int] = {}  # slot -> generation, while the submit ring is full
        self.on_owed: Callable[[], None] = lambda: None  # called when a cancel has to wait for room in the ring

    @property
    def in_flight(self) -> int:
        """Sequences in flight from all front ends."""
        return self.table.sum(Column.IN_FLIGHT)

    @property
    def in_flight_here(self) -> int:
        """Sequences in flight from this front end."""
        return len(self._holder) - len(self._free)

    def check_size(self, ask: Ask) -> None:
        """InvalidRequest when the replica could not take `ask` even if it had nothing else to do."""
        if ask.choices > self.limits.in_flight_max:
            raise InvalidRequest(
                f"{ask.choices} sequences in one request; this model takes at most {self.limits.in_flight_max}",
                param="n",
            )
        cells = ask.n * sum(submit_cells(len(prompt)) for prompt in ask.prompts)
        if cells > self._cells_max:
            tokens = ask.n * sum(map(len, ask.prompts))
            raise InvalidRequest(f"{tokens} prompt tokens over all choices are too many for one request", param="n")

    def submit(self, ask: Ask, seed: int) -> Ticket:
        """Send every sequence of `ask` to the engine, or none. Overloaded when the rings or slots are full."""
        if len(self._free) < ask.choices:
            raise Overloaded("too many requests are in flight", retry_after_s=1.0)
        slots = [self._free.pop() for _ in range(ask.choices)]
        ticket = Ticket(ask.choices, lambda choice: self._cancel(slots[choice]))
        for choice, slot in enumerate(slots):
            self._generation[slot] += 1
            if not self._try_submit(ask, choice, slot, seed):
                self._free.extend(slots[choice:])
                ticket.close()
                raise Overloaded("the replica's submit ring is full", retry_after_s=1.0)
            self._holder[slot] = (ticket, choice)
            self.table.add(self.row, Column.IN_FLIGHT, 1)
        return ticket

    def pump(self) -> None:
        """Hand over what the engine has written, and send the cancels that found the ring full."""
        for slot, generation, token, _index, finish, cached_tokens, _logprob in self._channel.take():
            holder = self._holder[slot] if slot < len(self._holder) and self._generation[slot] == generation else None
            if holder is None:
                self.table.add(self.row, Column.STALE, 1)
                continue
            if finish:
                self._release(slot)
            holder[0].feed(holder[1], token, FinishReason(finish) if finish else FinishReason.NONE, cached_tokens)
        for slot in list(self._cancels):
            self._try_cancel(slot)
        if self._cancels:
            self.on_owed()

    def prepare_sleep(self) -> bool:
        """Ask for the bell at the next output. False: there are outputs now, pump again."""
        return self._channel.prepare_sleep()

    def is_live(self, now_s: float, bound_s: float) -> bool:
        """Whether the engine's loop has turned within `bound_s`."""
        return now_s - self.table.get(ENGINE_ROW, Column.HEARTBEAT_US) / 1e6 < bound_s

    def close(self, error: ServingError) -> None:
        """The replica is gone: every request that it held ends with `error`."""
        holders = [holder for holder in self._holder if holder is not None]
        self._holder = [None] * len(self._holder)
        self._free.clear()
        self._cancels.clear()
        self._channel.close()
        for ticket, _choice in holders:
            ticket.fail(error)

    def _try_submit(self, ask: Ask, choice: int, slot: int, seed: int) -> bool:
        sampling = ask.sampling
        return self._channel.try_submit(
            slot=slot,
            generation=self._generation[slot],
            arrived_s=ask.arrived_s,
            deadline_s=ask.deadline_s,
            prompt=ask.prompts[choice // ask.n],
            max_tokens=ask.max_tokens,
            min_tokens=sampling.min_tokens,
            tenant=ask.tenant.index,
            priority=ask.priority,
            attempt=Ticket.attempt,
            stop_token_ids=sampling.stop_token_ids,
            request_id=ask.request_id.encode(),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
            top_k=sampling.top_k,
            ignore_eos=sampling.ignore_eos,
            seed=(seed + choice % ask.n) & (2**64 - 1),
        )

    def _cancel(self, slot: int) -> None:
        if self._holder[slot] is None:
            return  # never submitted, or gone with its replica
        self._cancels[slot] = self._generation[slot]
        self._try_cancel(slot)
        if self._cancels:
            self.on_owed()

    def _try_cancel(self, slot: int) -> None:
        generation = self._cancels[slot]
        if self._generation[slot] != generation or self._channel.try_cancel(slot, generation):
            del self._cancels[slot]

    def _release(self, slot: int) -> None:
        self._holder[slot] = None
        self._free.append(slot)
        self._cancels.pop(slot, None)
        self.table.add(self.row, Column.IN_FLIGHT, -1)
        self.table.add(self.row, Column.ENDED, 1)
