"""A front end's side of the control socket: does what the supervisor says, and keeps the view and the door in step."""

import asyncio
import contextlib
import os
import random
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from aruntime.admission.door import Door
from aruntime.admission.ledger import Ledger
from aruntime.admission.limits import RouteLimits
from aruntime.admission.route import Route
from aruntime.admission.tenants import Tenant
from aruntime.base import log
from aruntime.control.certificate import server_context
from aruntime.control.commands import Commands
from aruntime.control.line import Line
from aruntime.control.view import ServedVersion, View
from aruntime.model.embedding import Embedding
from aruntime.model.identity import tokenizer_of
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.channel import FrontEndChannel, create_bell
from aruntime.queue.post import Post, read_enclosure
from aruntime.queue.table import Table
from aruntime.wire.control import (
    Attached,
    AttachReplica,
    Dependencies,
    DetachReplica,
    Drain,
    Drained,
    Hello,
    Introduced,
    Listening,
    Message,
    ModelState,
    Outcome,
    Refused,
    ReplicaState,
    Retired,
    RetireReplica,
    SetCertificate,
    SetTenants,
    TenantEntry,
    Wanted,
    Welcome,
    decode_tenants,
)

# How often a front end looks whether a replica that it is to leave is free of it.
_LEAVE_S = 0.02


class Agent:
    """Joins a supervisor over `post` and follows it. `on_drain(deadline_s)` is called when the server is to end.

    `on_certificate(context)` is called when there is a certificate, before the welcome, and for each that follows it;
    `on_replaced(deadline_s)` when another front end has taken this one's place: it is to drain itself in time.
    `lost` is set when the supervisor is gone; `join` may then be called again with another one.
    """

    def __init__(
        self,
        on_drain: Callable[[float], None] = lambda _: None,
        on_certificate: Callable[[ssl.SSLContext], None] = lambda _: None,
        on_replaced: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._bell = create_bell()
        self.view = View(Door(self._bell, time.monotonic, random.SystemRandom()), time.monotonic)
        self.view.want = lambda model, version: self._say(Wanted(model=model, version=version))
        self.commands = Commands(self._say)
        self.lost = asyncio.Event()
        self._on_drain, self._on_certificate, self._on_replaced = on_drain, on_certificate, on_replaced
        self._line: Line | None = None
        self._front_end = 0
        self._introduced = False
        self._limit: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._joining: dict[int, asyncio.Task[None]] = {}
        self._tokenizers: dict[str, Tokenizer] = {}

    async def join(self, post: Post) -> None:
        """Say hello; returns when introduced to all there is. ConnectionError when the supervisor hangs up instead."""
        self.lost.clear()
        self._introduced = False
        self.commands.found()
        self.view.door.open()
        self._line = Line(post, self._on_message, self._on_end)
        self._line.send(Hello(pid=os.getpid()), (self._bell,))
        while not self._introduced:
            self._changed.clear()
            await self._changed.wait()
            if self.lost.is_set():
                raise ConnectionError("the supervisor hung up")

    async def taken_up(self) -> None:
        """Wait until the channels that were offered so far are taken up, or refused."""
        await asyncio.gather(*self._joining.values(), return_exceptions=True)

    def listens(self) -> None:
        """Say that connections are taken."""
        self._say(Listening())

    async def settled(self, timeout_s: float) -> bool:
        """Wait until every model that must be is served or has failed. False: the supervisor is gone, or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.view.settled and not self.lost.is_set():
                    self._changed.clear()
                    await self._changed.wait()
        return self.view.settled

    def drain(self, deadline_s: float) -> None:
        """Let nothing new in; at `deadline_s` of the monotonic clock end what is still in flight."""
        self.view.door.draining = True
        loop = asyncio.get_running_loop()
        if self._limit is not None:
            self._limit.cancel()
        self._limit = loop.call_later(deadline_s - time.monotonic(), self.view.door.close)
        self._on_drain(deadline_s)

    def leave(self) -> None:
        """Say goodbye, and end what is still in flight."""
        self.view.door.close()
        if self._line is not None:
            self._line.send(Drained())
            self._line.close()
        self._drop()
        os.close(self._bell)

    def _on_message(self, message: Message, fds: list[int]) -> None:
        match message:
            case Welcome(front_end=front_end, repository=repository):
                self._front_end = front_end
                self.view.door.ledger = Ledger(Table(fds[0]), front_end)
                _close(fds)
                self.view.repository = repository
                self.view.supervised = True
            case Introduced():
                self._introduced = True
            case SetTenants():
                self._set_tenants(*fds)
            case SetCertificate():
                try:
                    self._on_certificate(server_context(fds[0]))
                finally:
                    _close(fds)
            case Dependencies(journal=journal, certificate=certificate):
                self.view.journal = journal or "ok"
                self.view.certificate = None if certificate is None else certificate or "ok"
            case ModelState():
                self.view.model_is(message)
            case ReplicaState():
                self.view.state_is(message)
            case AttachReplica(replica=replica):
                task = self._joining[replica] = asyncio.create_task(self._attach(message, fds))
                task.add_done_callback(lambda _: _close(fds))  # also when it is cancelled before it began
            case RetireReplica(replica=replica, epoch=epoch):
                self.view.retire(replica)
                self._leave(replica, epoch)
            case Outcome():
                try:
                    self.commands.ended(message, fds[0])
                finally:
                    _close(fds)
            case DetachReplica(replica=replica):
                if replica in self._joining:
                    self._joining.pop(replica).cancel()
                self.view.withdraw(replica)
            case Drain(deadline_s=deadline_s, replaced=replaced):
                if replaced:
                    self._on_replaced(deadline_s)
                else:
                    self.drain(deadline_s)
            case _:
                _close(fds)
                raise ValueError(f"a supervisor does not say {message.kind} to a front end")
        self._changed.set()

    def _set_tenants(self, enclosure: int) -> None:
        """The next request is asked for its key by this list."""
        try:
            known = decode_tenants(read_enclosure(enclosure))
        finally:
            os.close(enclosure)
        entries = None if known.tenants is None else [(_tenant(entry), _digests(entry.keys)) for entry in known.tenants]
        self.view.registry.replace(entries, _digests(known.admin_keys))
        self.view.door.tenants = self.view.registry.tenants

    async def _attach(self, order: AttachReplica, fds: list[int]) -> None:
        """Take up a channel. The tokenizer is read in a thread: it may be large, and the event loop must turn."""
        try:
            if order.engine == "decoder" and order.key.tokenizer not in self._tokenizers:
                self._tokenizers[order.key.tokenizer] = await asyncio.to_thread(_read_tokenizer, order)
            embedding = await asyncio.to_thread(_read_embedding, order)
            self.view.serve(self._served(order, embedding, *fds))
            self._say(Attached(replica=order.replica, epoch=order.epoch))
        except (ValueError, OSError) as error:
            log.error("replica.refused", model=order.model, version=order.version, reason=str(error))
            self._say(Refused(replica=order.replica, epoch=order.epoch, reason=str(error)[:2000]))
        self._changed.set()

    def _leave(self, replica: int, epoch: int) -> None:
        """Say so when nothing of this front end is left on a replica."""
        if self.view.is_left(replica):
            self._say(Retired(replica=replica, epoch=epoch))
        else:
            asyncio.get_running_loop().call_later(_LEAVE_S, self._leave, replica, epoch)

    def _served(
        self, order: AttachReplica, embedding: Embedding | None, channel: int, engine_bell: int, table: int
    ) -> ServedVersion:
        bounds = self.view.bounds(order.replica)
        limits = RouteLimits(
            sequences_max=order.sequences_max,
            waiting_max=bounds.waiting_max,
            waiting_tokens_max=bounds.waiting_tokens_max,
            blocks=order.blocks,
            block_tokens=order.block_tokens,
            context_max=order.context_max,
            vocab=order.vocab,
            ttft_s=bounds.ttft_s,
            timeout_s=bounds.timeout_s,
        )
        ring = FrontEndChannel(channel, engine_bell, order.epoch)
        route = Route(order.replica, self._front_end, ring, Table(table), limits)
        return ServedVersion(
            order.model,
            order.version,
            order.created_s,
            self._tokenizers.get(order.key.tokenizer),
            route,
            order.engine,
            order.inputs,
            order.outputs,
            embedding,
        )

    def _say(self, message: Message, fds: Sequence[int] = ()) -> None:
        if self._line is not None:
            self._line.send(message, fds)

    def _on_end(self) -> None:
        self._drop()
        self.commands.lost()
        self.view.lose_supervisor()
        self.lost.set()
        self._changed.set()

    def _drop(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        for task in self._joining.values():
            task.cancel()
        self._joining.clear()


def _read_tokenizer(order: AttachReplica) -> Tokenizer:
    """The tokenizer of a version; ValueError when it is not the one that the engine was loaded with."""
    folder = Path(order.folder)
    tokenizer = Tokenizer.from_folder(folder)
    if words := order.key.mismatch(order.key.model_copy(update={"tokenizer": tokenizer_of(folder)})):
        raise ValueError(f"the files have changed since they were verified: {words}")
    return tokenizer


def _read_embedding(order: AttachReplica) -> Embedding | None:
    """How a language model's vectors are made; ValueError when the files do not say."""
    return Embedding.from_folder(Path(order.folder)) if order.engine == "decoder" else None


def _tenant(entry: TenantEntry) -> Tenant:
    return Tenant(**entry.model_dump(exclude={"keys"}))


def _digests(keys: list[str]) -> list[bytes]:
    return [bytes.fromhex(key) for key in keys]


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
