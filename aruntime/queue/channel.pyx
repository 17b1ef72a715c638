# cython: language_level=3, embedsignature=True, boundscheck=False, wraparound=False
"""The two ends of a channel's memory file; csrc/queue/ends.hpp says how they talk."""

import os

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from aruntime.queue.records cimport (
    FinishReason, MessageKind, OutputRecord, Pooling, Priority, RecordKind, SubmitHead, kRequestIdBytes,
    kStopTokensMax,
)


def create_channel(uint64_t epoch, uint32_t submit_cells=16384, uint32_t output_records=16384, uint32_t result_cells=2):
    """Make a channel's memory file; the descriptor is the caller's. Sizes are powers of two, else ValueError.

    A request takes 5 cells and one more for every 16 prompt tokens and 64 bytes of payload, all at once; a result 1 and
    one more for every 64 bytes.
    """
    return create_channel_file(epoch, submit_cells, output_records, result_cells)


def create_bell():
    """Make an eventfd; the descriptor is the caller's."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


cdef class FrontEndChannel:
    """A front end's end: submits requests, takes their outputs. Keeps neither descriptor.

    ValueError says what is wrong with the file (size, seals, layout, epoch) or the bell.
    """

    def __cinit__(self, int fd, int engine_bell, uint64_t epoch):
        self._end.reset(new FrontEndEnd(fd, engine_bell, epoch))

    cdef FrontEndEnd* end(self) except NULL:
        if not self._end:
            raise ValueError("the channel is closed")
        return self._end.get()

    def close(self):
        """Unmap. Safe to call twice; any other call afterwards is a ValueError."""
        self._end.reset()

    def try_submit(self, *, uint32_t slot, uint32_t generation, double arrived_s, double deadline_s,
                   const int32_t[::1] prompt, uint32_t max_tokens, uint32_t min_tokens, uint32_t tenant,
                   uint32_t priority, uint32_t attempt, stop_token_ids, bytes request_id, float temperature,
                   float top_p, float min_p, float presence_penalty, float frequency_penalty,
                   float repetition_penalty, int32_t top_k, bint ignore_eos, uint64_t seed,
                   uint8_t top_logprobs=0, bint prompt_logprobs=False, uint16_t bias_pairs=0, uint16_t bad_words=0,
                   uint16_t bad_word_tokens=0, uint32_t grammar_bytes=0, uint8_t pooling=0,
                   bytes payload=b""):
        """Publish one request, and ring the engine if it sleeps. False when the ring has no room for it now.

        `prompt` is int32 [tokens]. Moments are of the monotonic clock. `payload` and what counts its parts are those of
        `aruntime.queue.steering`, or of a tensor model. ValueError when the ring never has room.
        """
        cdef FrontEndEnd* end = self.end()
        cdef SubmitHead head
        cdef uint32_t i
        cdef Py_ssize_t tokens = prompt.shape[0], payload_bytes = len(payload)
        if (tokens == 0 or max(tokens, payload_bytes) > 2**30
                or cells_of(<uint32_t> tokens, <uint32_t> payload_bytes) > end.submit_cells()):
            raise ValueError(f"{tokens} prompt tokens and {payload_bytes} bytes of payload do not go into a ring of "
                             f"{end.submit_cells()} cells")
        if len(stop_token_ids) > kStopTokensMax or len(request_id) > kRequestIdBytes:
            raise ValueError(f"want at most {kStopTokensMax} stop tokens and {kRequestIdBytes} bytes of request id, "
                             f"got {len(stop_token_ids)} and {len(request_id)}")
        head.slot = slot
        head.generation = generation
        head.arrived_s = arrived_s
        head.deadline_s = deadline_s
        head.prompt_tokens = <uint32_t> tokens
        head.payload_bytes = <uint32_t> payload_bytes
        head.max_tokens = max_tokens
        head.min_tokens = min_tokens
        head.tenant = tenant
        head.priority = <Priority> priority
        head.attempt = attempt
        head.stop_tokens = <uint32_t> len(stop_token_ids)
        for i in range(head.stop_tokens):
            head.stop_token_ids[i] = stop_token_ids[i]
        memcpy(head.request_id, <const char*> request_id, len(request_id))
        head.sampling.temperature = temperature
        head.sampling.top_p = top_p
        head.sampling.min_p = min_p
        head.sampling.presence_penalty = presence_penalty
        head.sampling.frequency_penalty = frequency_penalty
        head.sampling.repetition_penalty = repetition_penalty
        head.sampling.top_k = top_k
        head.sampling.ignore_eos = ignore_eos
        head.sampling.seed = seed
        head.steering.top_logprobs = top_logprobs
        head.steering.prompt_logprobs = prompt_logprobs
        head.steering.bias_pairs = bias_pairs
        head.steering.bad_words = bad_words
        head.steering.bad_word_tokens = bad_word_tokens
        head.steering.grammar_bytes = grammar_bytes
        head.pooling = <Pooling> pooling
        return end.try_submit(head, &prompt[0], <const byte*> (<const char*> payload))

    def try_cancel(self, uint32_t slot, uint32_t generation):
        """Ask for the end of a sequence. False when the ring has no room now."""
        return self.end().try_tell(MessageKind.kCancel, slot, generation)

    def try_pause(self, uint32_t slot, uint32_t generation):
        """Ask that a sequence compute nothing until it is resumed. False when the ring has no room now."""
        return self.end().try_tell(MessageKind.kPause, slot, generation)

    def try_resume(self, uint32_t slot, uint32_t generation):
        """Let a paused sequence go on. False when the ring has no room now."""
        return self.end().try_tell(MessageKind.kResume, slot, generation)

    def take(self, uint32_t limit=4096):
        """Up to `limit` records: (slot, generation, token, index, finish, cached_tokens, logprob, kind)."""
        if self._records.size() < limit:
            self._records.resize(limit)
        cdef uint32_t count = self.end().take(self._records.data(), limit)
        return [_as_tuple(self._records[i]) for i in range(count)]

    def take_results(self):
        """All results that are there: (slot, generation, bytes). That of a sequence is there before its end is."""
        cdef FrontEndEnd* end = self.end()
        cdef uint64_t cells = end.result_cells()
        cdef list found = []
        while cells > 0 and end.take_result(self._result):
            cells -= min(cells, <uint64_t> self._result.head.cells)
            found.append((self._result.head.slot, self._result.head.generation, _as_bytes(self._result.bytes)))
        if found:
            end.ring_bell()  # the engine may be waiting for room
        return found

    def prepare_sleep(self):
        """Ask for the bell. False: records are there already."""
        return self.end().prepare_sleep()

    def awake(self):
        """The bell need not ring."""
        self.end().awake()

    @property
    def submit_cells_free(self):
        """Cells that the submit ring has room for."""
        return self.end().submit_room()

    @property
    def refused(self):
        """Times that what the engine wrote could not be right."""
        return self.end().refused()


cdef class EngineChannel:
    """An engine's end: receives requests, sends their outputs. Keeps neither descriptor; ValueError as above."""

    def __cinit__(self, int fd, int front_end_bell, uint64_t epoch):
        self._end.reset(new EngineEnd(fd, front_end_bell, epoch))

    cdef EngineEnd* end(self) noexcept nogil:
        return self._end.get()

    def receive(self):
        """The next message, or None.

        ("submit", slot, generation, prompt, head) with the head's other numbers and the payload in a dict; ("cancel",
        slot, generation), and so for "pause" and "resume"; or ("refused",) when what was there was malformed and dropped.
        """
        cdef Received received = self.end().receive(self._message)
        if received == Received.kNothing:
            return None
        if received == Received.kRefused:
            return ("refused",)
        if received != Received.kSubmit:
            return (_ABOUT[<int> received], self._message.about.slot, self._message.about.generation)
        return ("submit", self._message.head.slot, self._message.head.generation, list(self._message.prompt),
                {**_head_as_dict(self._message.head), "payload": _as_bytes(self._message.payload)})

    def send(self, records):
        """Write records as `FrontEndChannel.take` gives them; returns how many there was room for.

        The kind may be left out of those of a token or an end.
        """
        cdef vector[OutputRecord] out
        cdef OutputRecord record
        for slot, generation, token, index, finish, cached_tokens, logprob, *kind in records:
            record.slot = slot
            record.generation = generation
            record.token = token
            record.index = index
            record.finish = <FinishReason> (<uint8_t> finish)
            record.cached_tokens = cached_tokens
            record.logprob = logprob
            record.kind = <RecordKind> (<uint8_t> (kind[0] if kind else 0))
            out.push_back(record)
        return self.end().send(out.data(), <uint32_t> out.size())

    @property
    def output_room(self):
        """Records that the output ring has room for."""
        return self.end().output_room()

    def try_result(self, uint32_t slot, uint32_t generation, bytes result not None):
        """Publish the result of a sequence, before its end. False when the ring has no room for it now.

        ValueError when it never has: `result_bytes_max`.
        """
        cdef Py_ssize_t size = len(result)
        if size > <Py_ssize_t> self.end().result_bytes_max():
            raise ValueError(f"{size} bytes of result do not go into a ring for {self.end().result_bytes_max()}")
        return self.end().try_result(slot, generation, <const byte*> (<const char*> result), <uint32_t> size)

    @property
    def result_bytes_max(self):
        """The largest result that the ring can hold."""
        return self.end().result_bytes_max()

    def prepare_sleep(self):
        """Ask for the bell. False: a message is there already."""
        return self.end().prepare_sleep()

    def awake(self):
        """The bell need not ring."""
        self.end().awake()

    def ring_bell(self):
        """Wake the front end if it sleeps."""
        self.end().ring_bell()

    @property
    def refused(self):
        """Malformed messages so far."""
        return self.end().refused()


_ABOUT = {<int> Received.kCancel: "cancel", <int> Received.kPause: "pause", <int> Received.kResume: "resume"}


cdef bytes _as_bytes(const vector[byte]& data):
    return (<const char*> data.data())[:data.size()]


cdef tuple _as_tuple(const OutputRecord& record):
    return (record.slot, record.generation, record.token, record.index, <int> (<uint8_t> record.finish),
            record.cached_tokens, record.logprob, <int> (<uint8_t> record.kind))


cdef dict _head_as_dict(SubmitHead& head):
    return {
        "arrived_s": head.arrived_s,
        "deadline_s": head.deadline_s,
        "max_tokens": head.max_tokens,
        "min_tokens": head.min_tokens,
        "tenant": head.tenant,
        "priority": <int> (<uint32_t> head.priority),
        "attempt": head.attempt,
        "stop_token_ids": [head.stop_token_ids[i] for i in range(head.stop_tokens)],
        "request_id": (<bytes> head.request_id[:kRequestIdBytes]).rstrip(b"\0"),
        "temperature": head.sampling.temperature,
        "top_p": head.sampling.top_p,
        "min_p": head.sampling.min_p,
        "presence_penalty": head.sampling.presence_penalty,
        "frequency_penalty": head.sampling.frequency_penalty,
        "repetition_penalty": head.sampling.repetition_penalty,
        "top_k": head.sampling.top_k,
        "ignore_eos": head.sampling.ignore_eos != 0,
        "seed": head.sampling.seed,
        "top_logprobs": head.steering.top_logprobs,
        "prompt_logprobs": head.steering.prompt_logprobs != 0,
        "bias_pairs": head.steering.bias_pairs,
        "bad_words": head.steering.bad_words,
        "bad_word_tokens": head.steering.bad_word_tokens,
        "grammar_bytes": head.steering.grammar_bytes,
        "pooling": <int> (<uint8_t> head.pooling),
    }
