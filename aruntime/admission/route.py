"""One front end's way to one replica: its channel, its slots, its row of the replica's table.

A slot names a sequence in flight. It is free again only when the engine has said that the sequence ended, and its
generation grows with each use, so a late word can never name the request that has the slot now.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from aruntime.admission.ask import Ask
from aruntime.admission.budgets import Settle
from aruntime.admission.gate import Gate, Verdict
from aruntime.admission.limits import RouteLimits, check_size
from aruntime.admission.ticket import Ticket
from aruntime.base.errors import InvalidRequest, Overloaded, ServingError
from aruntime.queue.channel import FrontEndChannel
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.queue.records import FinishReason, RecordKind
from aruntime.queue.table import Table

_NONE = FinishReason.NONE  # a name of its own: it is looked up for every token


@dataclass(slots=True, eq=False)
class _Sequence:
    """A sequence in flight: which choice of which ticket it is, and what it counts for until its end."""

    ticket: Ticket
    choice: int
    ask: Ask
    verdict: Verdict
    admitted_s: float
    begun: bool = False  # its first token has come
    result: bytes = b""  # of a tensor model, or a vector

    @property
    def counts(self) -> tuple[int, int, int]:
        """What the gate counts it by."""
        return self.ask.tenant.index, self.ask.priority, len(self.ask.prompts[self.choice // self.ask.n])


class _Sequences:
    """The slots of one ticket's sequences, by choice."""

    def __init__(self, route: "Route", channel: FrontEndChannel, slots: list[int]) -> None:
        self._route = route
        self._channel = channel
        self._slots = slots

    def cancel(self, choice: int) -> None:
        self._route.tell(self._slots[choice], self._channel.try_cancel)

    def pause(self, choice: int) -> None:
        self._route.tell(self._slots[choice], self._channel.try_pause)

    def resume(self, choice: int) -> None:
        self._route.tell(self._slots[choice], self._channel.try_resume)


class Route:
    """Submits sequences to one replica and hands its outputs to their tickets."""

    def __init__(
        self, replica: int, front_end: int, channel: FrontEndChannel, table: Table, limits: RouteLimits
    ) -> None:
        self.replica = replica
        self.limits = limits
        self.table = table
        self.row = front_end
        self.gate = Gate(
            table,
            front_end,
            sequences_max=limits.sequences_max,
            waiting_max=limits.waiting_max,
            waiting_tokens_max=limits.waiting_tokens_max,
            ttft_s=limits.ttft_s,
        )
        self._channel = channel
        self._free: list[int] = []
        self._generation: list[int] = []
        self._holder: list[_Sequence | None] = []
        self._add_slots()
        self._cells_max = channel.submit_cells_free  # the whole ring: nothing was sent yet
        self._owed: dict[int, _Tell] = {}  # by slot: what the engine could not be told yet, the submit ring being full
        self.on_owed: Callable[[], None] = lambda: None  # called when a word has to wait for room in the ring

    @property
    def in_flight_here(self) -> int:
        """Sequences in flight from this front end."""
        return len(self._holder) - len(self._free)

    def set_bounds(
        self, waiting_max: int, waiting_tokens_max: int, ttft_s: float, timeout_s: float | None = None
    ) -> None:
        """Set what the replica takes, from the next request on. What is in flight beyond it goes on."""
        self.limits = replace(
            self.limits,
            waiting_max=waiting_max,
            waiting_tokens_max=waiting_tokens_max,
            ttft_s=ttft_s,
            timeout_s=timeout_s,
        )
        self.gate.set_bounds(waiting_max, waiting_tokens_max, ttft_s)
        self._add_slots()

    def check_size(self, ask: Ask, shared: bool) -> None:
        """InvalidRequest when the replica could not take `ask` even if it had nothing else to do."""
        if not self.gate.could_hold(ask.priority, ask.choices, shared):
            raise InvalidRequest(f"{ask.choices} sequences in one request are more than this model takes", param="n")
        check_size(ask, self.limits, self._cells_max)

    def judge(self, ask: Ask, now_s: float, shared: bool) -> Verdict:
        """Whether the replica has room for `ask` in time. `shared`: more tenants than one are known."""
        return self.gate.judge(
            ask.tenant.index,
            ask.tenant.weight,
            ask.priority,
            ask.choices,
            ask.n * ask.prompt_tokens,
            ask.tokens_min,
            ask.arrived_s,
            ask.deadline_s,
            now_s,
            shared,
        )

    def submit(self, ask: Ask, seed: int, settle: Settle, verdict: Verdict, now_s: float) -> Ticket:
        """Send every sequence of `ask` to the engine, or none. Overloaded when the rings or slots are full."""
        if len(self._free) < ask.choices:
            raise Overloaded("too many requests are in flight", retry_after_s=1.0)
        slots = [self._free.pop() for _ in range(ask.choices)]
        ticket = Ticket(ask.choices, _Sequences(self, self._channel, slots), settle)
        for choice, slot in enumerate(slots):
            self._generation[slot] += 1
            if not self._try_submit(ask, choice, slot, seed):
                self._free.extend(slots[choice:])
                error = Overloaded("the replica's submit ring is full", retry_after_s=1.0)
                ticket.fail(error)
                raise error
            holder = self._holder[slot] = _Sequence(ticket, choice, ask, verdict, now_s)
            self.gate.enter(*holder.counts)
        return ticket

    def pump(self, now_s: float) -> None:
        """Hand over what the engine has written, and tell it what found the ring full."""
        records = self._channel.take()
        self._keep_results()  # after the records were taken: those that belong to an end are there
        for slot, generation, token, index, finish, cached_tokens, logprob, kind in records:
            holder = self._holder[slot] if slot < len(self._holder) and self._generation[slot] == generation else None
            if holder is None:
                self.table.add(self.row, Column.STALE, 1)
                continue
            if kind:
                holder.ticket.tell(holder.choice, RecordKind(kind), token, logprob)
                continue
            if index == 0 and token >= 0 and not holder.begun:
                holder.begun = True
                self.gate.begin(*holder.counts, holder.verdict, now_s - holder.admitted_s)
            end, retry_after_s = _NONE, 1.0
            if finish:
                end = FinishReason(finish)
                self._release(slot, holder)
                if end is FinishReason.OVERLOADED:  # others took the last place too: when would the door say yes?
                    retry_after_s = self.judge(holder.ask, now_s, holder.verdict.shared).retry_after_s or retry_after_s
                if end is FinishReason.LENGTH and holder.ask.wants_result and not holder.result:
                    end = FinishReason.MODEL_ERROR  # it was malformed, and is counted; or too large for the ring
            holder.ticket.feed(holder.choice, token, end, cached_tokens, retry_after_s, logprob, holder.result)
        for slot, tell in list(self._owed.items()):
            self._try_tell(slot, tell)
        if self._owed:
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
        self._owed.clear()
        self._channel.close()
        for holder in holders:
            holder.ticket.fail(error)

    def tell(self, slot: int, tell: "_Tell") -> None:
        """Say something of a sequence to the engine, now or when its ring has room; the last word counts."""
        if self._holder[slot] is None:
            return  # never submitted, or gone with its replica
        self._try_tell(slot, tell)
        if self._owed:
            self.on_owed()

    def _add_slots(self) -> None:
        """Slots for all that may be in flight; there are never fewer than there were."""
        first, more = len(self._holder), max(0, self.limits.in_flight_max - len(self._holder))
        self._free[:0] = range(first + more - 1, first - 1, -1)
        self._generation += [0] * more
        self._holder += [None] * more

    def _keep_results(self) -> None:
        """Keep what a tensor model has answered, and vectors, until its sequence ends."""
        for slot, generation, result in self._channel.take_results():
            holder = self._holder[slot] if slot < len(self._holder) and self._generation[slot] == generation else None
            if holder is None:
                self.table.add(self.row, Column.STALE, 1)
            else:
                holder.result = result

    def _try_tell(self, slot: int, tell: "_Tell") -> None:
        if tell(slot, self._generation[slot]):
            self._owed.pop(slot, None)
        else:
            self._owed[slot] = tell

    def _try_submit(self, ask: Ask, choice: int, slot: int, seed: int) -> bool:
        sampling, steering = ask.sampling, ask.sampling.steering
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
            top_logprobs=ask.top_logprobs,
            prompt_logprobs=ask.prompt_logprobs,
            bias_pairs=steering.bias_pairs,
            bad_words=steering.bad_words,
            bad_word_tokens=steering.bad_word_tokens,
            grammar_bytes=steering.grammar_bytes,
            pooling=ask.pooling,
            payload=ask.payload or steering.payload,
        )

    def _release(self, slot: int, holder: _Sequence) -> None:
        self._holder[slot] = None
        self._free.append(slot)
        self._owed.pop(slot, None)
        self.gate.leave(*holder.counts, holder.begun)


# FrontEndChannel's try_cancel, try_pause or try_resume: False when the ring has no room.
_Tell = Callable[[int, int], bool]
