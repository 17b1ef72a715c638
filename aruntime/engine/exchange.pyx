# cython: language_level=3, embedsignature=True, boundscheck=False, wraparound=False
"""Moves requests from the submit rings into the scheduler, and its outputs into the output rings, without the GIL.

Vectors, which few ask for, go through an outbox into the result ring, with it. None of their front end's records overtakes
them.
"""

from libc.stdint cimport uint32_t, uint64_t
from libcpp.vector cimport vector

from aruntime.engine.outbox import HELD_BYTES_MAX, Outbox

from aruntime.queue.channel cimport EngineChannel, EngineEnd, Message, Received
from aruntime.queue.records cimport FinishReason, OutputRecord
from aruntime.scheduler.scheduler cimport Scheduler

cdef enum:
    BURST = 1024  # messages or records moved for one front end before the next has its turn
    BURSTS_MAX = 16  # of records for one front end in one turn of the loop: as many as its ring has by default


cdef struct Peer:
    uint32_t front_end
    bint full  # of results that it has not read: its submits wait in its ring
    bint owed  # results that its ring has no room for: no record may overtake them
    EngineEnd* end


cdef class Exchange:
    """One engine's channels to its front ends, on one side, and its scheduler on the other.

    A sequence with a grammar is held until `grammars` (`aruntime.engine.parts.Grammars`) has it ready; without any, it
    ends as one that cannot be followed.
    """

    cdef Scheduler _scheduler
    cdef object _grammars
    cdef dict _channels, _outboxes
    cdef vector[Peer] _peers
    cdef Message _message
    cdef vector[OutputRecord] _outputs

    def __cinit__(self, Scheduler scheduler not None, grammars=None):
        self._scheduler = scheduler
        self._grammars = grammars
        self._channels = {}
        self._outboxes = {}  # of front ends that results are on their way to
        self._outputs.resize(BURST)

    def attach(self, uint32_t front_end, EngineChannel channel not None):
        """Read from and answer to `front_end` through `channel`; what an earlier one of that number held vanishes."""
        self.detach(front_end)
        self._channels[front_end] = channel
        self._gather()

    def detach(self, uint32_t front_end):
        """Forget a front end: its sequences vanish, nobody is told."""
        if self._channels.pop(front_end, None) is not None:
            self._outboxes.pop(front_end, None)
            self._gather()
            self._scheduler.drop_front_end(front_end)

    def receive(self):
        """Take in what the front ends have submitted and cancelled. A malformed message is counted and dropped."""
        cdef size_t i
        with nogil:
            for i in range(self._peers.size()):
                self._receive_from(self._peers[i])
        if self._grammars is not None:
            self._end_grammars()
            for owner, good in self._grammars.ready():
                self._scheduler.release(*owner, good)

    def answer(self, tuple owner, bytes result):
        """Let the front end have a vector before the end. False: it is larger than the ring, or nobody is there."""
        front_end, slot, generation = owner
        channel = self._channels.get(front_end)
        if channel is None:
            return False
        if front_end not in self._outboxes:
            self._outboxes[front_end] = Outbox(channel)
        return self._outboxes[front_end].add(slot, generation, result)

    def deliver(self):
        """Write the scheduler's outputs into the rings, as far as there is room, and ring each bell at most once.

        Returns whether more is left to write: no bell rings for room.
        """
        cdef size_t i
        cdef bint left = False
        if self._outboxes:
            self._flush()
        with nogil:
            for i in range(self._peers.size()):
                left |= self._deliver_to(self._peers[i])
        return left

    def prepare_sleep(self):
        """Ask every front end to ring the bell. False, and nothing asked: a message is there already."""
        cdef size_t i
        for i in range(self._peers.size()):
            if not self._peers[i].end.prepare_sleep():
                self.awake()
                return False
        return True

    def awake(self):
        """The bell need not ring while the loop turns."""
        cdef size_t i
        for i in range(self._peers.size()):
            self._peers[i].end.awake()

    @property
    def refused(self):
        """Malformed messages of the front ends attached now."""
        cdef uint64_t count = 0
        cdef size_t i
        for i in range(self._peers.size()):
            count += self._peers[i].end.refused()
        return count

    cdef void _receive_from(self, Peer peer) noexcept nogil:
        cdef uint32_t turn
        cdef Received received
        for turn in range(<uint32_t> BURST):
            if peer.full or self._scheduler.impl().backlogged(peer.front_end):
                return  # it does not read its results, or its refusals: its submits wait in its ring
            received = peer.end.receive(self._message)
            if received == Received.kNothing:
                return
            if received == Received.kSubmit:
                self._submit(peer.front_end)
            elif received == Received.kCancel:
                self._scheduler.impl().cancel(
                    peer.front_end, self._message.about.slot, self._message.about.generation
                )
            elif received == Received.kPause:
                self._scheduler.impl().pause(
                    peer.front_end, self._message.about.slot, self._message.about.generation
                )
            elif received == Received.kResume:
                self._scheduler.impl().resume(
                    peer.front_end, self._message.about.slot, self._message.about.generation
                )

    cdef void _submit(self, uint32_t front_end) noexcept nogil:
        cdef FinishReason refused = self._scheduler.impl().submit(
            front_end, self._message.head, self._message.prompt.data(), self._message.payload.data()
        )
        if refused == FinishReason.kNone and self._message.head.steering.grammar_bytes > 0:
            with gil:
                self._begin_grammar((front_end, self._message.head.slot, self._message.head.generation))

    cdef _begin_grammar(self, tuple owner):
        """Let the grammar of a sequence, which ends the message's payload, be made ready."""
        cdef size_t start = self._message.payload.size() - self._message.head.steering.grammar_bytes
        cdef const char* text = <const char*> self._message.payload.data() + start
        cdef bytes grammar = text[:self._message.head.steering.grammar_bytes]
        if self._grammars is None:
            return self._scheduler.release(*owner, False)
        self._end_grammars()  # one of the same name may have ended in this turn
        try:
            self._grammars.begin(owner, grammar.decode())
        except UnicodeDecodeError:
            self._scheduler.release(*owner, False)

    cdef _end_grammars(self):
        for owner in self._scheduler.take_guided_ended():
            self._grammars.end(owner)

    cdef bint _deliver_to(self, Peer peer) noexcept nogil:
        cdef uint32_t room, count
        cdef int turn
        cdef bint wrote = False
        if peer.owed:
            return False  # it rings when it has taken results
        for turn in range(BURSTS_MAX):
            room = min(<uint32_t> BURST, peer.end.output_room())
            count = self._scheduler.impl().take_outputs(peer.front_end, self._outputs.data(), room)
            if count > 0:
                peer.end.send(self._outputs.data(), count)
                wrote = True
            if count < room or room == 0:
                break
        if wrote:
            peer.end.ring_bell()
        return self._scheduler.impl().has_outputs(peer.front_end)

    cdef _flush(self):
        """Write results as far as there is room."""
        cdef size_t i
        for i in range(self._peers.size()):
            outbox = self._outboxes.get(self._peers[i].front_end)
            if outbox is None:
                continue
            outbox.flush()
            self._peers[i].end.ring_bell()
            self._peers[i].owed, self._peers[i].full = bool(outbox), outbox.bytes >= HELD_BYTES_MAX
            if not outbox:
                del self._outboxes[self._peers[i].front_end]

    cdef _gather(self):
        cdef Peer peer
        peer.full = peer.owed = False  # what is owed is found out when it is flushed next
        self._peers.clear()
        for front_end, channel in self._channels.items():
            peer.front_end = front_end
            peer.end = (<EngineChannel> channel).end()
            self._peers.push_back(peer)
