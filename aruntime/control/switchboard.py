"""Joins front ends and replicas: every pair that is up has one channel, of which nobody else holds a descriptor.

A front end that joins is told of every model and replica, a replica that becomes ready of every front end; each pair
gets a new memory file with a new epoch, and the two ends get its descriptor and each other's bell. One ledger is all
front ends'. Before a replica leaves, every front end says that nothing of its own is left there.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aruntime.base import log
from aruntime.control.certificate import Certificate
from aruntime.control.line import Line
from aruntime.control.replica import Replica
from aruntime.control.tenants import Tenants
from aruntime.queue.channel import create_channel
from aruntime.queue.columns import (
    BUCKETS_ROW,
    COLUMNS,
    DEPARTED_ROW,
    FRONT_ENDS_MAX,
    LEDGER_COLUMNS,
    LEDGER_ROWS,
    PASSING,
    REFUSALS,
)
from aruntime.queue.post import enclose
from aruntime.queue.records import submit_cells
from aruntime.queue.table import Table, create_table
from aruntime.wire.control import (
    AttachFrontEnd,
    AttachReplica,
    Dependencies,
    DetachFrontEnd,
    DetachReplica,
    Drain,
    Introduced,
    ModelState,
    ReplicaState,
    RetireReplica,
    SetCertificate,
    SetTenants,
    Welcome,
    encode_tenants,
)
from aruntime.wire.fields import N_MAX

_SUBMIT_CELLS_MIN = 1 << 14  # 1 MiB, of which memory is taken only as far as it is used
_VECTOR_CELLS = 1 << 12  # 256 KiB: some sixteen vectors of 4,096 numbers
_TENSOR_CELLS = 1 << 17  # 8 MiB each way: twice what a request's body may have

# A front end that takes longer is dying, or its machine is at its end: whoever loads does not wait for it.
_TAKE_UP_S = 10.0

# What a front end counts up in its row and must not vanish with it.
_KEPT = [column for column in range(COLUMNS) if column not in PASSING]


@dataclass(slots=True, eq=False)
class FrontEnd:
    """One front end that has said hello."""

    number: int
    line: Line
    bell: int
    listening: bool = False
    epochs: dict[int, int] = field(default_factory=dict)  # replica -> epoch of their channel
    attached: dict[int, int] = field(default_factory=dict)  # replica -> epoch that the front end has taken up
    retiring: set[int] = field(default_factory=set)  # replicas on which something of it may be left

    def close(self) -> None:
        """Let go of its line and its bell."""
        self.line.close()
        os.close(self.bell)


class Switchboard:
    """Which front ends and replicas there are. `on_change` is called after each change of a pair."""

    def __init__(
        self, repository: str, tenants: Tenants, certificate: Certificate, on_change: Callable[[], None]
    ) -> None:
        self.replicas: dict[int, Replica] = {}
        self.front_ends: dict[int, FrontEnd] = {}
        self._repository = repository
        self._tenants, self._certificate = tenants, certificate
        self._models: dict[str, ModelState] = {}
        self._dependencies = Dependencies(journal="")
        self._on_change = on_change
        self._news = asyncio.Event()  # a pair has changed
        self._ledger_fd = create_table(LEDGER_ROWS, LEDGER_COLUMNS)
        self._ledger = Table(self._ledger_fd)
        self._epoch = itertools.count(1)
        self._number = itertools.cycle(range(1, FRONT_ENDS_MAX + 1))

    def add(self, replica: Replica) -> None:
        """There is one more replica."""
        self.replicas[replica.number] = replica
        self.changed(replica)

    def remove(self, replica: Replica) -> None:
        """A replica has left for good."""
        del self.replicas[replica.number]
        self._has_changed()

    def model_is(self, model: ModelState) -> None:
        """A model is another than it was: the front ends are told."""
        if model == self._models.get(model.model):
            return
        self._models[model.model] = model
        if not model.versions:
            del self._models[model.model]
        for front_end in self.front_ends.values():
            front_end.line.send(model)
        self._has_changed()

    def dependencies_are(self, dependencies: Dependencies) -> None:
        """What the supervisor leans on is otherwise than it was: the front ends are told."""
        if dependencies != self._dependencies:
            self._dependencies = dependencies
            for front_end in self.front_ends.values():
                front_end.line.send(dependencies)

    def retire(self, replica: Replica) -> None:
        """Have the front ends send nothing new to a replica; `is_left` says when the last of theirs has ended."""
        for front_end in self.front_ends.values():
            if (epoch := front_end.epochs.get(replica.number)) is not None:
                front_end.retiring.add(replica.number)
                front_end.line.send(RetireReplica(replica=replica.number, epoch=epoch))

    def retired(self, front_end: FrontEnd, replica: int, epoch: int) -> None:
        """Nothing of a front end is left on a replica."""
        if front_end.epochs.get(replica) == epoch:
            front_end.retiring.discard(replica)
            self._has_changed()

    def is_left(self, replica: Replica) -> bool:
        """Whether no front end has anything on a replica that was retired."""
        return not any(replica.number in front_end.retiring for front_end in self.front_ends.values())

    def join(self, line: Line, bell: int) -> FrontEnd:
        """Welcome a front end. ValueError when there is no row left for it."""
        if len(self.front_ends) == FRONT_ENDS_MAX:
            raise ValueError(f"there are {FRONT_ENDS_MAX} front ends already")
        # The number that was free for the longest: a late word of a dead front end finds nobody under it.
        number = next(number for number in self._number if number not in self.front_ends)
        front_end = self.front_ends[number] = FrontEnd(number, line, bell)
        self._introduce([front_end])  # before its welcome, so before it answers anybody
        self._certify([front_end])
        line.send(Welcome(front_end=number, repository=self._repository), (self._ledger_fd,))
        line.send(self._dependencies)
        for model in self._models.values():
            line.send(model)
        for replica in self.replicas.values():
            line.send(_state(replica))
            if replica.life == "ready":
                self._connect(front_end, replica)
        line.send(Introduced())
        log.info("front_end.joined", front_end=number)
        return front_end

    def leave(self, front_end: FrontEnd) -> None:
        """A front end is gone: its sequences vanish from the engines, its counts from the tables."""
        del self.front_ends[front_end.number]
        self._news.set()
        front_end.close()
        for replica in self._ready():
            replica.send(DetachFrontEnd(front_end=front_end.number))
            assert replica.engine is not None
            _retire(replica.engine.table, front_end.number, DEPARTED_ROW, _KEPT)
        _retire(self._ledger, front_end.number, BUCKETS_ROW, range(REFUSALS, LEDGER_COLUMNS))
        log.info("front_end.left", front_end=front_end.number)

    def changed(self, replica: Replica) -> None:
        """A replica's life has changed: tell the front ends, and make or break its channels."""
        if replica.life == "ready":
            replica.send(self._tenants.terms)
        for front_end in self.front_ends.values():
            front_end.line.send(_state(replica))
            if replica.life == "ready":
                self._connect(front_end, replica)
            elif front_end.epochs.pop(replica.number, None) is not None:
                front_end.attached.pop(replica.number, None)
                front_end.retiring.discard(replica.number)
                front_end.line.send(DetachReplica(replica=replica.number))
        self._has_changed()

    def listens(self, front_end: FrontEnd) -> None:
        """A front end takes connections."""
        front_end.listening = True
        self._has_changed()

    def serves(self, front_end: FrontEnd) -> bool:
        """Whether a front end takes connections and sends to every ready replica."""
        return front_end.listening and set(front_end.attached) >= {replica.number for replica in self._ready()}

    def attached(self, front_end: FrontEnd, replica: int, epoch: int) -> None:
        """A front end has taken up its channel to a replica."""
        if front_end.epochs.get(replica) == epoch:
            front_end.attached[replica] = epoch
            self._has_changed()

    async def taken_up(self, replicas: Iterable[Replica]) -> None:
        """Wait until every front end sends to those of the replicas that are ready; not longer than _TAKE_UP_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TAKE_UP_S):
                while not self._sends_to(replica.number for replica in replicas if replica.life == "ready"):
                    self._news.clear()
                    await self._news.wait()

    def _sends_to(self, replicas: Iterable[int]) -> bool:
        wanted = set(replicas)
        return all(set(front_end.attached) >= wanted for front_end in self.front_ends.values())

    def tenants_changed(self) -> None:
        """There are other tenants, or other terms: everybody is told."""
        for replica in self._ready():
            replica.send(self._tenants.terms)
        self._introduce(self.front_ends.values())

    def certificate_changed(self) -> None:
        """There is another certificate: the front ends are told."""
        self._certify(self.front_ends.values())

    def rebound(self, replica: Replica) -> None:
        """A replica has other bounds: the front ends are told."""
        for front_end in self.front_ends.values():
            front_end.line.send(_state(replica))

    def drain(self, deadline_s: float) -> None:
        """Tell every front end to take nothing new and finish what runs."""
        for front_end in self.front_ends.values():
            front_end.line.send(Drain(deadline_s=deadline_s))

    def _has_changed(self) -> None:
        self._news.set()
        self._on_change()

    def close(self) -> None:
        """Let go of the ledger."""
        os.close(self._ledger_fd)

    def is_settled(self, front_ends: int) -> bool:
        """Whether nothing is pending and so many front ends send to every ready replica."""
        return (
            not any(model.pending for model in self._models.values())
            and len(self.front_ends) >= front_ends
            and self._sends_to(replica.number for replica in self._ready())
        )

    def _introduce(self, front_ends: Iterable[FrontEnd]) -> None:
        """Say who may ask."""
        _send_all(front_ends, SetTenants(), encode_tenants(self._tenants.listed))

    def _certify(self, front_ends: Iterable[FrontEnd]) -> None:
        """Say who this server is, if it has a certificate."""
        if self._certificate.given:
            _send_all(front_ends, SetCertificate(), self._certificate.pem)

    def _ready(self) -> Iterable[Replica]:
        return (replica for replica in self.replicas.values() if replica.life == "ready")

    def _connect(self, front_end: FrontEnd, replica: Replica) -> None:
        engine, order = replica.engine, replica.order
        assert engine is not None
        assert engine.loaded is not None
        assert order is not None
        epoch = front_end.epochs[replica.number] = next(self._epoch)
        channel = (
            create_channel(epoch, _TENSOR_CELLS, result_cells=_TENSOR_CELLS)
            if order.engine == "onnx"
            else create_channel(epoch, _submit_cells(engine.loaded.context_max), result_cells=_VECTOR_CELLS)
        )
        try:
            replica.send(AttachFrontEnd(front_end=front_end.number, epoch=epoch), (channel, front_end.bell))
            message = AttachReplica(
                replica=replica.number,
                epoch=epoch,
                model=replica.model,
                version=replica.version,
                created_s=replica.created_s,
                folder=order.folder,
                engine=order.engine,
                inputs=engine.loaded.inputs,
                outputs=engine.loaded.outputs,
                key=engine.loaded.key,
                context_max=engine.loaded.context_max,
                vocab=engine.loaded.vocab,
                blocks=engine.loaded.blocks,
                block_tokens=order.block_tokens,
                sequences_max=order.sequences_max,
            )
            front_end.line.send(message, (channel, engine.bell, engine.table_fd))
        finally:
            os.close(channel)


def _send_all(front_ends: Iterable[FrontEnd], message: SetTenants | SetCertificate, data: bytes) -> None:
    """Tell them something that is too long for a message."""
    enclosure = enclose(data)
    try:
        for front_end in front_ends:
            front_end.line.send(message, (enclosure,))
    finally:
        os.close(enclosure)


def _retire(table: Table, row: int, to: int, kept: Iterable[int]) -> None:
    """Forget a row but for the columns `kept`, which are added to row `to`."""
    for column in kept:
        table.add(to, column, table.get(row, column))
    table.zero(row)


def _state(replica: Replica) -> ReplicaState:
    return ReplicaState(
        replica=replica.number,
        model=replica.model,
        version=replica.version,
        life=replica.life,
        reason=replica.reason,
        bounds=replica.order.bounds if replica.order is not None else None,
    )


def _submit_cells(context_max: int) -> int:
    """A ring for the largest chat request there can be: N_MAX choices of a full context."""
    largest = N_MAX * submit_cells(context_max)
    return max(_SUBMIT_CELLS_MIN, 1 << (largest - 1).bit_length())
