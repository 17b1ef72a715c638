"""Moves tensor requests from the submit rings into the scheduler, their results and ends into the rings of the answers.

    submit ring ──head──► scheduler ──its owner's turn──► runner: take(owner) ──► answer(owner, result)
               └─payload─► held here ─────────────────────────┘                        │
    result ring ◄── first the result ── output ring ◄── then the end ◄─────────────────┘

What is held of one front end, requests and results that it has not read, is bounded by HELD_BYTES_MAX: beyond it, what
it submits stays in its ring.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aruntime.engine.outbox import HELD_BYTES_MAX, Outbox
from aruntime.engine.parts import Owner
from aruntime.queue.channel import EngineChannel
from aruntime.scheduler.scheduler import Scheduler

_BURST = 256  # messages or records moved for one front end before the next has its turn


@dataclass(slots=True, eq=False)
class _Peer:
    channel: EngineChannel
    results: Outbox
    inputs_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """Of inputs, and of results that it has no room for yet."""
        return self.inputs_bytes + self.results.bytes


class TensorExchange:
    """One engine's channels to its front ends, on one side, and its scheduler on the other."""

    def __init__(self, scheduler: Scheduler, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._clock = clock
        self._peers: dict[int, _Peer] = {}
        self._payloads: dict[Owner, bytes] = {}  # of what waits in the scheduler

    def attach(self, front_end: int, channel: EngineChannel) -> None:
        """Read from and answer to `front_end` through `channel`; what an earlier one of that number held vanishes."""
        self.detach(front_end)
        self._peers[front_end] = _Peer(channel, Outbox(channel))

    def detach(self, front_end: int) -> None:
        """Forget a front end: its requests vanish, nobody is told."""
        if self._peers.pop(front_end, None) is not None:
            self._scheduler.drop_front_end(front_end)
            self._payloads = {owner: payload for owner, payload in self._payloads.items() if owner[0] != front_end}

    def hold(self, owner: Owner, payload: bytes) -> None:
        """Keep the inputs of a request that the scheduler has accepted."""
        self._payloads[owner] = payload
        self._count(owner[0], len(payload))

    def take(self, owner: Owner) -> bytes:
        """The inputs of a request, which are given up here; nothing when there are none."""
        payload = self._payloads.pop(owner, b"")
        self._count(owner[0], -len(payload))
        return payload

    def answer(self, owner: Owner, result: bytes) -> bool:
        """Let the front end have the result before the end. False: it is larger than the ring, or nobody is there."""
        front_end, slot, generation = owner
        peer = self._peers.get(front_end)
        return peer is not None and peer.results.add(slot, generation, result)

    def receive(self) -> None:
        """Take in what the front ends have submitted and cancelled. A malformed message is counted and dropped."""
        for front_end, peer in self._peers.items():
            for _ in range(_BURST):
                if peer.held_bytes >= HELD_BYTES_MAX or self._scheduler.backlogged(front_end):
                    break  # it does not read its answers, or asks too much: its submits wait in its ring
                message = peer.channel.receive()
                if message is None:
                    break
                self._obey(front_end, message)

    def deliver(self) -> bool:
        """Write results, then ends, as far as there is room, and ring each bell at most once.

        Returns whether more is left for which no bell will ring: no, a front end rings when it has taken results.
        """
        for front_end, peer in self._peers.items():
            wrote = peer.results.flush()
            while not peer.results and self._send(front_end, peer):
                wrote = True
            if wrote or peer.results:
                peer.channel.ring_bell()
        return False

    def prepare_sleep(self) -> bool:
        """Ask every front end to ring the bell. False, and nothing asked: a message is there already."""
        if all(peer.channel.prepare_sleep() for peer in self._peers.values()):
            return True
        self.awake()
        return False

    def awake(self) -> None:
        """The bell need not ring while the loop turns."""
        for peer in self._peers.values():
            peer.channel.awake()

    @property
    def refused(self) -> int:
        """Malformed messages of the front ends attached now."""
        return sum(peer.channel.refused for peer in self._peers.values())

    def _obey(self, front_end: int, message: tuple[Any, ...]) -> None:
        """Submit or cancel. Nothing is paused: the whole answer is one result."""
        match message:
            case ("submit", slot, generation, prompt, head):
                self._submit((front_end, slot, generation), len(prompt), head)
            case ("cancel", slot, generation):
                self._scheduler.cancel(front_end, slot, generation)

    def _submit(self, owner: Owner, rows: int, head: dict[str, Any]) -> None:
        front_end, slot, generation = owner
        refused = self._scheduler.submit(
            front_end=front_end,
            slot=slot,
            generation=generation,
            prompt=array("i", bytes(array("i").itemsize * rows)),
            max_tokens=1,
            arrived_s=min(head["arrived_s"], self._clock()),  # nobody is waited for longer by coming from the future
            deadline_s=head["deadline_s"],
            tenant=head["tenant"],
            priority=head["priority"],
        )
        if not refused:
            self.hold(owner, head["payload"])

    def _send(self, front_end: int, peer: _Peer) -> bool:
        """Write ends; False when there are none, or no room."""
        records = self._scheduler.take_outputs(front_end, min(_BURST, peer.channel.output_room))
        for slot, generation, _, _, finish, *_ in records:
            if finish:
                self.take((front_end, slot, generation))  # it ended before its turn came
        return bool(records) and peer.channel.send(records) > 0

    def _count(self, front_end: int, more_bytes: int) -> None:
        if front_end in self._peers:
            self._peers[front_end].inputs_bytes += more_bytes
