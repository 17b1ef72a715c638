# cython: language_level=3, embedsignature=True, boundscheck=False, wraparound=False
"""The scheduler's face to Python: plain arrays in, plain arrays out, no GIL in between."""

from collections import namedtuple

import numpy

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp.memory cimport make_shared
from libcpp.vector cimport vector

from aruntime.queue.channel cimport byte
from aruntime.queue.records cimport (
    FinishReason, OutputRecord, Pooling, Priority, SubmitHead, kStopTokensMax, kTenantsMax,
)
from aruntime.queue.table cimport SharedTable, Table

Stats = namedtuple(
    "Stats",
    "waiting waiting_tokens running paused tokens_left undelivered blocks_free blocks_cached blocks_reserved"
    " blocks_total waiting_weight oldest_s step_s prefill_tokens_per_s take_up_s drain_s"
    " preemptions steps prompt_tokens cached_tokens output_tokens",
)
TenantStats = namedtuple("TenantStats", "waiting running paused blocks served")


cdef class Memory:
    """A piece of a C++ scheduler's memory, which it keeps alive."""

    cdef shared_ptr[CppScheduler] owner
    cdef void* data
    cdef Py_ssize_t bytes

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.bytes, 0, flags)


cdef object array_of(shared_ptr[CppScheduler] owner, const void* data, size_t items, object dtype):
    """A numpy array over `items` numbers at `data`."""
    cdef Memory memory = Memory.__new__(Memory)
    memory.owner = owner
    memory.data = <void*> data
    memory.bytes = items * dtype().itemsize
    return numpy.frombuffer(memory, dtype) if items else numpy.empty(0, dtype)


cdef class StepPlan:
    """The tokens of one step, as arrays over the scheduler's memory: valid until it is committed and another planned.

    T `tokens` of S `sequences`, decodes first; R `samples` of the sequences, in the same order, are sampled.
    The first `decodes` sequences have one token each. int32 where nothing else is said. The memory of what
    stands last, from the bans on, moves when it grows.

    token_ids, positions, slot_mapping [T]; token_source [D], for each decode the row of the step before whose sample is
    its token, -1 when the token is known; query_start [S + 1]; context_len [S], this step included;
    block_tables [S, widest], padded with 0, rows apart by more than they are wide; sample_index [R], rows of T;
    temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty [R] float32; top_k [R];
    seed [R] uint64; position [R], the ordinal of the sampled token in its output;
    banned_row, banned_token [Q]: row of R, token that it must not give;
    bias_row, bias_token, bias [B]: row of R, token, what is added to its logit (float32), each pair once;
    guided_row, guided_token [G]: rows of R that a grammar leads, what each of these said last or -1; `guided_owners`;
    likely_row [L]: rows of R whose `top` likeliest tokens are wanted; scored_index, scored_token [N]: rows of T, the token
    whose logprob is wanted, and the `top` likeliest there;
    penalty_row, penalty_token, penalty_output_count, penalty_in_prompt [P]: one a row with penalties and token seen;
    pool_start, pool_end, pool_place, pool_carry, pool_divisor [E]: what aruntime_kernels.pool reads; `pool_owners`.
    """

    cdef shared_ptr[CppScheduler] _owner
    cdef const CppStepPlan* _plan
    cdef list _by_token, _by_sample
    cdef bint _rare  # whether the arrays of what few ask for show anything
    cdef object _query_start, _context_len, _block_tables, _token_source
    cdef readonly int tokens, sequences, samples, decodes
    cdef readonly object token_ids, positions, slot_mapping, token_source, query_start, context_len, block_tables, sample_index
    cdef readonly object temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty
    cdef readonly object top_k, seed, position, banned_row, banned_token
    cdef readonly object bias_row, bias_token, bias, guided_row, guided_token
    cdef readonly object likely_row, scored_index, scored_token
    cdef readonly int top
    cdef readonly object pool_start, pool_end, pool_place, pool_carry, pool_divisor
    cdef readonly object penalty_row, penalty_token, penalty_output_count, penalty_in_prompt

    cdef object _ints(self, const vector[int32_t]& column):
        return array_of(self._owner, column.data(), column.size(), numpy.int32)

    cdef object _floats(self, const vector[float]& column):
        return array_of(self._owner, column.data(), column.size(), numpy.float32)

    cdef _attach(self, shared_ptr[CppScheduler] owner, const CppStepPlan* plan):
        """Makes the arrays over the whole columns, which `_show` cuts to each step's size."""
        self._owner = owner
        self._plan = plan
        self._by_token = [self._ints(plan.token_ids), self._ints(plan.positions), self._ints(plan.slot_mapping)]
        self._token_source = self._ints(plan.token_source)
        self._query_start = self._ints(plan.query_start)
        self._context_len = self._ints(plan.context_len)
        self._block_tables = self._ints(plan.block_tables).reshape(-1, plan.table_stride)
        self._by_sample = [
            self._ints(plan.sample_index), self._ints(plan.position), self._ints(plan.top_k),
            array_of(owner, plan.seed.data(), plan.seed.size(), numpy.uint64),
            self._floats(plan.temperature), self._floats(plan.top_p), self._floats(plan.min_p),
            self._floats(plan.presence_penalty), self._floats(plan.frequency_penalty),
            self._floats(plan.repetition_penalty),
        ]
        self._show_rare()

    cdef _show(self):
        cdef const CppStepPlan* plan = self._plan
        self.tokens, self.sequences = plan.tokens, plan.sequences
        self.samples, self.decodes = plan.samples, plan.decodes
        rows = slice(plan.tokens)
        self.token_ids, self.positions, self.slot_mapping = [column[rows] for column in self._by_token]
        self.token_source = self._token_source[:plan.decodes]
        self.query_start = self._query_start[:plan.sequences + 1]
        rows = slice(plan.sequences)
        self.context_len = self._context_len[rows]
        self.block_tables = self._block_tables[rows, :plan.table_blocks]
        rows = slice(plan.samples)
        (
            self.sample_index, self.position, self.top_k, self.seed, self.temperature, self.top_p, self.min_p,
            self.presence_penalty, self.frequency_penalty, self.repetition_penalty,
        ) = [column[rows] for column in self._by_sample]
        if plan.rare or self._rare:
            self._show_rare()

    cdef _show_rare(self):
        """What few ask for: made anew in a step that has some, and after one that had."""
        cdef const CppStepPlan* plan = self._plan
        self._rare = plan.rare
        self.banned_row, self.banned_token = self._ints(plan.banned_row), self._ints(plan.banned_token)
        self.bias_row, self.bias_token = self._ints(plan.bias_row), self._ints(plan.bias_token)
        self.bias = self._floats(plan.bias)
        self.guided_row, self.guided_token = self._ints(plan.guided_row), self._ints(plan.guided_token)
        self.likely_row, self.top = self._ints(plan.likely_row), plan.top
        self.scored_index, self.scored_token = self._ints(plan.scored_index), self._ints(plan.scored_token)
        self.penalty_row, self.penalty_token = self._ints(plan.penalty_row), self._ints(plan.penalty_token)
        self.penalty_output_count = self._ints(plan.penalty_output_count)
        self.penalty_in_prompt = self._ints(plan.penalty_in_prompt)
        self.pool_start, self.pool_end = self._ints(plan.pool_start), self._ints(plan.pool_end)
        self.pool_place, self.pool_carry = self._ints(plan.pool_place), self._ints(plan.pool_carry)
        self.pool_divisor = self._ints(plan.pool_divisor)

    def owners(self):
        """Whose the sequences are: (front_end, slot, generation) [S]. Until the step is committed."""
        return [owner_of(self._plan.planned[i].sequence) for i in range(self._plan.planned.size())]

    def guided_owners(self):
        """Whose the guided rows are: (front_end, slot, generation) [G]. Until the step is committed."""
        return [owner_of(self._plan.planned[i].sequence) for i in range(self._plan.planned.size())
                if self._plan.planned[i].sequence.guided and self._plan.planned[i].sample_row >= 0]

    def pool_owners(self):
        """Whose the pooled chunks are: (front_end, slot, generation) [E]. Until the step is committed."""
        return [owner_of(self._plan.planned[self._plan.pool_sequence[i]].sequence)
                for i in range(self._plan.pool_sequence.size())]


cdef class Scheduler:
    """Continuous batching for one engine: `submit`, `cancel`, then `plan -> run -> commit`, then `take_outputs`.

    No clock, no randomness, no thread of its own. `waiting_max` bounds what waits, `step_tokens_max` a step's tokens,
    `blocks` of `block_tokens` tokens are what it hands out. While any sequence decodes, a step takes no more of prompts
    than keeps it within `itl_s` seconds. With `whole_prompts` no prompt is split over two steps. `prefix_secret` is what
    hashes of prefixes are keyed with. ValueError names the limit that cannot be.

    One more step may be planned before the first is committed: it is for a device that runs while the host plans.
    """

    def __cinit__(
        self,
        *,
        int32_t sequences_max,
        int32_t step_tokens_max,
        int32_t waiting_max,
        int32_t context_max,
        int32_t block_tokens=16,
        int32_t blocks,
        int32_t vocab,
        eos_token_ids,
        double itl_s=float("inf"),
        bint whole_prompts=False,
        uint64_t prefix_secret=0,
    ):
        cdef Limits limits
        limits.sequences_max = sequences_max
        limits.step_tokens_max = step_tokens_max
        limits.waiting_max = waiting_max
        limits.context_max = context_max
        limits.block_tokens = block_tokens
        limits.blocks = blocks
        limits.vocab = vocab
        limits.itl_s = itl_s
        limits.whole_prompts = whole_prompts
        limits.prefix_secret = prefix_secret
        cdef vector[int32_t] eos = eos_token_ids
        self._impl = make_shared[CppScheduler](limits, eos)
        cdef StepPlan plan
        cdef size_t place
        self._plans = []
        for place in range(kStepsUnderWay):
            plan = StepPlan.__new__(StepPlan)
            plan._attach(self._impl, &self.impl().step(place))
            self._plans.append(plan)

    cdef CppScheduler* impl(self) noexcept nogil:
        return self._impl.get()

    def submit(
        self,
        *,
        uint32_t front_end,
        uint32_t slot,
        uint32_t generation,
        const int32_t[::1] prompt not None,
        uint32_t max_tokens,
        double arrived_s=0.0,
        double deadline_s=float("inf"),
        uint32_t min_tokens=0,
        uint32_t tenant=0,
        uint32_t priority=1,
        uint32_t attempt=1,
        stop_token_ids=(),
        float temperature=1.0,
        float top_p=1.0,
        float min_p=0.0,
        float presence_penalty=0.0,
        float frequency_penalty=0.0,
        float repetition_penalty=1.0,
        int32_t top_k=0,
        bint ignore_eos=False,
        uint64_t seed=0,
        uint8_t top_logprobs=0,
        bint prompt_logprobs=False,
        uint16_t bias_pairs=0,
        uint16_t bad_words=0,
        uint16_t bad_word_tokens=0,
        uint32_t grammar_bytes=0,
        bytes payload=b"",
        uint8_t pooling=0,
    ) -> int:
        """Let a sequence wait for its turn. Returns a FinishReason: 0 (kNone) accepted, else why not.

        `payload` and what counts its parts are those of `aruntime.queue.steering`. A sequence with a grammar is held
        until `release` says that its grammar is ready.

        The reason is delivered as an output too, except that of a (slot, generation) that lives already.
        """
        cdef SubmitHead head
        cdef vector[int32_t] stops = stop_token_ids
        check_front_end(front_end)
        if stops.size() > kStopTokensMax:
            raise ValueError(f"at most {kStopTokensMax} stop_token_ids, got {stops.size()}")
        head.slot = slot
        head.generation = generation
        head.arrived_s = arrived_s
        head.deadline_s = deadline_s
        head.prompt_tokens = prompt.shape[0]
        head.max_tokens = max_tokens
        head.min_tokens = min_tokens
        head.tenant = tenant
        head.priority = <Priority> priority
        head.attempt = attempt
        head.stop_tokens = stops.size()
        memcpy(&head.stop_token_ids[0], stops.data(), stops.size() * sizeof(int32_t))
        head.sampling.temperature = temperature
        head.sampling.top_p = top_p
        head.sampling.min_p = min_p
        head.sampling.presence_penalty = presence_penalty
        head.sampling.frequency_penalty = frequency_penalty
        head.sampling.repetition_penalty = repetition_penalty
        head.sampling.top_k = top_k
        head.sampling.ignore_eos = ignore_eos
        head.sampling.seed = seed
        head.pooling = <Pooling> pooling
        head.steering.top_logprobs = top_logprobs
        head.steering.prompt_logprobs = prompt_logprobs
        head.steering.bias_pairs = bias_pairs
        head.steering.bad_words = bad_words
        head.steering.bad_word_tokens = bad_word_tokens
        head.steering.grammar_bytes = grammar_bytes
        head.payload_bytes = <uint32_t> len(payload)
        return <int> self.impl().submit(
            front_end, head, &prompt[0] if prompt.shape[0] else NULL, <const byte*> (<const char*> payload)
        )

    def release(self, uint32_t front_end, uint32_t slot, uint32_t generation, bint good=True) -> None:
        """Let a held sequence wait for its turn: its grammar is ready. Or end it with kGrammar: it is not `good`."""
        check_front_end(front_end)
        cdef Owner owner
        owner.front_end, owner.slot, owner.generation = front_end, slot, generation
        self.impl().release(owner, good)

    def take_guided_ended(self) -> list:
        """Sequences with a grammar that have ended since the last call: (front_end, slot, generation)."""
        cdef vector[Owner] ended = self.impl().take_guided_ended()
        return [(owner.front_end, owner.slot, owner.generation) for owner in ended]

    def backlogged(self, uint32_t front_end) -> bool:
        """Whether `front_end` has left so many refusals untaken that its submits must stay in its ring."""
        check_front_end(front_end)
        return self.impl().backlogged(front_end)

    def cancel(self, uint32_t front_end, uint32_t slot, uint32_t generation) -> None:
        """End a sequence with kCancelled. Nothing happens when it has ended or never was."""
        check_front_end(front_end)
        self.impl().cancel(front_end, slot, generation)

    def pause(self, uint32_t front_end, uint32_t slot, uint32_t generation) -> None:
        """Compute nothing more of a sequence until it is resumed; it keeps its blocks while nobody needs them."""
        check_front_end(front_end)
        self.impl().pause(front_end, slot, generation)

    def resume(self, uint32_t front_end, uint32_t slot, uint32_t generation) -> None:
        """Let a paused sequence go on."""
        check_front_end(front_end)
        self.impl().resume(front_end, slot, generation)

    def set_bounds(self, *, int32_t waiting_max, double itl_s) -> None:
        """Set these limits, from now on; what waits already stays. ValueError names the one that cannot be."""
        self.impl().set_bounds(waiting_max, itl_s)

    def set_tenant(
        self,
        uint32_t tenant,
        *,
        double weight=1.0,
        double cache_max=1.0,
        double cache_reserved=0.0,
        double tokens_per_s_reserved=0.0,
        uint32_t prefix_group=0,
    ) -> None:
        """Set a tenant's terms, from now on. ValueError names the term that is wrong."""
        cdef TenantTerms terms
        terms.weight = weight
        terms.cache_max = cache_max
        terms.cache_reserved = cache_reserved
        terms.tokens_per_s_reserved = tokens_per_s_reserved
        terms.prefix_group = prefix_group
        self.impl().set_tenant(tenant, terms)

    def drop_front_end(self, uint32_t front_end) -> None:
        """Forget a front end: its sequences vanish, nobody is told."""
        check_front_end(front_end)
        self.impl().drop_front_end(front_end)

    def drain(self) -> None:
        """Refuse every later submit with kDraining. What waits or runs goes on."""
        self.impl().drain()

    def plan(self, double now_s) -> StepPlan:
        """Choose the tokens of the next step. `tokens` is 0 when nothing can run. `now_s` is on the deadlines' clock.

        RuntimeError when two steps are under way already.
        """
        cdef const CppStepPlan* made
        with nogil:
            made = &self.impl().plan(now_s)
        cdef StepPlan plan = self._plans[self.impl().place(made[0])]
        plan._show()
        return plan

    def commit(self, const int32_t[::1] tokens not None, double now_s, const float[::1] logprobs=None, likely=None,
               scored=None) -> None:
        """Take in what the oldest step under way sampled: tokens [R] int32, and their logprobs [R] float32 if computed.

        `likely`: of the plan's likely rows, the likeliest tokens [L, top] int32, -1 where there are no more, and their
        logprobs [L, top] float32. `scored`: of its scored rows, the tokens' logprobs [N] float32, and the likeliest as
        before, [N, top]. Nothing is told of rows for which these are None. The token of a guided row is -1 when its
        grammar left nothing to sample: that sequence ends with kGrammar.
        """
        cdef const CppStepPlan* plan = &self.impl().oldest()
        cdef Py_ssize_t samples = plan.samples
        if tokens.shape[0] != samples or (logprobs is not None and logprobs.shape[0] != samples):
            raise ValueError(f"want [{samples}] tokens and logprobs, got [{tokens.shape[0]}]")
        cdef const float* values = &logprobs[0] if logprobs is not None and samples else NULL
        cdef const int32_t* ids = &tokens[0] if samples else NULL
        cdef Likelihoods of_sampled, of_scored
        if likely is not None:
            fill_top(&of_sampled, likely[0], likely[1], plan.likely_row.size(), plan.top)
        if scored is not None:
            fill_scored(&of_scored, scored[0], scored[1], scored[2], plan.scored_index.size(), plan.top)
        with nogil:
            self.impl().commit(ids, values, now_s, of_sampled, of_scored)

    def fail_step(self) -> None:
        """The oldest step under way broke: every sequence of it ends with kModelError."""
        self.impl().fail_step()

    def take_outputs(self, uint32_t front_end, uint32_t limit=4096) -> list:
        """At most `limit` records: (slot, generation, token, index, finish, cached_tokens, logprob, kind), in order."""
        check_front_end(front_end)
        cdef vector[OutputRecord] records = vector[OutputRecord](limit)
        cdef uint32_t taken = self.impl().take_outputs(front_end, records.data(), limit)
        return [
            (
                records[i].slot, records[i].generation, records[i].token, records[i].index,
                <int> records[i].finish, records[i].cached_tokens, records[i].logprob,
                <int> records[i].kind,
            )
            for i in range(taken)
        ]

    def stats(self) -> Stats:
        """Counts of now (waiting ... blocks_total) and since the start (preemptions ... output_tokens)."""
        cdef CppStats now = self.impl().stats()
        return Stats(
            now.waiting, now.waiting_tokens, now.running, now.paused, now.tokens_left, now.undelivered,
            now.blocks_free, now.blocks_cached, now.blocks_reserved, now.blocks_total, now.waiting_weight,
            now.oldest_s, now.step_s,
            now.prefill_tokens_per_s, now.take_up_s, now.drain_s, now.preemptions, now.steps, now.prompt_tokens,
            now.cached_tokens, now.output_tokens,
        )

    def tenant(self, uint32_t tenant) -> TenantStats:
        """Of one tenant: sequences now, blocks held now, tokens computed for it since the start."""
        if tenant >= kTenantsMax:
            raise ValueError(f"tenants are 0 to {kTenantsMax - 1}, got {tenant}")
        cdef const CppTenant* books = &self.impl().tenant(tenant)
        return TenantStats(books.waiting, books.running, books.paused, books.blocks, books.served)

    def publish_tenants(self, Table table not None, uint32_t row, uint32_t first, uint32_t stride) -> None:
        """Write waiting, running, blocks, served, lead of every tenant into `row`, from first + tenant * stride on."""
        cdef uint32_t tenant
        cdef uint32_t end = self.impl().tenants_end()
        cdef SharedTable* cells = table.at(row, first + (end - 1) * stride + 4)
        cdef const CppTenant* books
        for tenant in range(end):
            books = &self.impl().tenant(tenant)
            cells.set(row, first + tenant * stride, books.waiting)
            cells.set(row, first + tenant * stride + 1, books.running)
            cells.set(row, first + tenant * stride + 2, books.blocks)
            cells.set(row, first + tenant * stride + 3, books.served)
            cells.set(row, first + tenant * stride + 4, <int64_t> self.impl().lead_tokens(tenant))

    def next_deadline_s(self) -> float:
        """The earliest deadline of all that wait or run; infinity when there is none."""
        return self.impl().next_deadline_s()

    def check_integrity(self) -> None:
        """RuntimeError when two of the scheduler's books disagree. Slow: for tests and idle moments."""
        self.impl().check_integrity()


cdef int fill_top(Likelihoods* to, const int32_t[:, ::1] tokens, const float[:, ::1] logprobs, Py_ssize_t rows,
                  Py_ssize_t top) except -1:
    """Point `to` at the likeliest tokens of `rows` rows; ValueError when they are not [rows, top]."""
    if (tokens.shape[0] != rows or tokens.shape[1] != top or logprobs.shape[0] != rows or logprobs.shape[1] != top):
        raise ValueError(f"want [{rows}, {top}] likely tokens, got [{tokens.shape[0]}, {tokens.shape[1]}]")
    if rows and top:
        to.top_token, to.top_logprob, to.top = &tokens[0, 0], &logprobs[0, 0], <int32_t> top
    return 0


cdef int fill_scored(Likelihoods* to, const float[::1] logprob, const int32_t[:, ::1] tokens,
                     const float[:, ::1] logprobs, Py_ssize_t rows, Py_ssize_t top) except -1:
    if logprob.shape[0] != rows:
        raise ValueError(f"want the logprobs of [{rows}] tokens, got [{logprob.shape[0]}]")
    if rows:
        to.logprob = &logprob[0]
    return fill_top(to, tokens, logprobs, rows, top)


cdef tuple owner_of(const CppSequence* sequence):
    return sequence.front_end, sequence.slot, sequence.generation


cdef int check_front_end(uint32_t front_end) except -1:
    if front_end >= kFrontEndsMax:
        raise ValueError(f"front ends are 0 to {kFrontEndsMax - 1}, got {front_end}")
    return 0
