# cython: language_level=3, embedsignature=True
"""What a replica holds, as this front end and its neighbours count it, and the verdict on one request more.

The rule is csrc/admission/verdict.hpp. Counts lie in the replica's table: this front end adds to its own row and judges by
the sums, so two front ends that both see one free place are both let in; the engine has the last word.
"""

from libc.stdint cimport int64_t, uint32_t
from libcpp.vector cimport vector

from aruntime.admission.rule cimport (
    Bounds, Calibration, CppVerdict, Pace, Request, Standing, Turns, could_hold, judge,
)
from aruntime.queue.records cimport Priority
from aruntime.queue.table cimport SharedTable, Table

from aruntime.queue.columns import ENGINE_ROW, TENANT_COLUMNS, TENANTS_MAX, Column, TenantColumn, tenant_column

cdef uint32_t ENGINE = ENGINE_ROW
cdef uint32_t IN_FLIGHT = Column.IN_FLIGHT, QUEUED = Column.QUEUED, QUEUED_TOKENS = Column.QUEUED_TOKENS
cdef uint32_t ENDED = Column.ENDED
cdef uint32_t STEP = Column.STEP_US, PREFILL = Column.PREFILL_TOKENS_PER_S, TAKE_UP = Column.TAKE_UP_US
cdef uint32_t WEIGHT = Column.WAITING_WEIGHT, DRAIN = Column.DRAIN_US
cdef uint32_t TENANTS = TENANTS_MAX
cdef uint32_t TENANT = tenant_column(0, TenantColumn.IN_FLIGHT)
cdef uint32_t STRIDE = TENANT_COLUMNS
cdef uint32_t TENANT_QUEUED = TenantColumn.QUEUED, TENANT_QUEUED_TOKENS = TenantColumn.QUEUED_TOKENS
cdef uint32_t TENANT_WAITING = TenantColumn.WAITING, TENANT_LEAD = TenantColumn.LEAD
cdef uint32_t CLASSES = TenantColumn.QUEUED_TOKENS - TenantColumn.QUEUED


cdef class Verdict:
    """`refusal` is a Refusal, 0 to let in; `shared` as it was told; seconds; counts, of all and of the tenant."""

    cdef readonly int refusal
    cdef readonly bint shared
    cdef readonly double retry_after_s, wait_s, first_s, queue_s, whole_s
    cdef readonly int64_t in_flight, tenant_in_flight, queued_tokens


cdef class Gate:
    """One front end's row of a replica's table. `row` is the front end's; the limits are the replica's."""

    cdef Table _table
    cdef uint32_t _row
    cdef Bounds _bounds
    # By tenant: one that floods waits longer than is forecast, which says nothing of the others.
    cdef vector[Calibration] _calibrations
    cdef vector[Turns] _turns

    def __cinit__(self, Table table not None, uint32_t row, *, int64_t sequences_max, int64_t waiting_max,
                  int64_t waiting_tokens_max, double ttft_s):
        table.at(row, TENANT + TENANTS * STRIDE - 1)
        self._table = table
        self._row = row
        self._bounds.sequences_max = sequences_max
        self._calibrations.resize(TENANTS)
        self._turns.resize(TENANTS)
        self.set_bounds(waiting_max, waiting_tokens_max, ttft_s)

    def set_bounds(self, int64_t waiting_max, int64_t waiting_tokens_max, double ttft_s):
        """Set what the replica takes, from the next request on."""
        self._bounds.waiting_max = waiting_max
        self._bounds.waiting_tokens_max = waiting_tokens_max
        self._bounds.ttft_s = ttft_s

    def judge(self, uint32_t tenant, double weight, uint32_t priority, int64_t sequences, int64_t prompt_tokens,
              int64_t tokens_min, double arrived_s, double deadline_s, double now_s, bint shared):
        """The verdict on a request of `sequences`, with `prompt_tokens` over all of them and `tokens_min` of answer each.

        Moments are of the monotonic clock. `shared`: more tenants than one are known. Whoever is refused is told a turn
        of its own at which to come again.
        """
        cdef SharedTable* table = self._table.at(0, 0)
        cdef Standing now
        cdef Pace pace
        cdef Request request
        cdef uint32_t place, own = own_columns(tenant)
        now.all.in_flight = total(table, IN_FLIGHT)
        now.all.queued = total(table, QUEUED)
        now.all.queued_tokens = total(table, QUEUED_TOKENS)
        now.tenant.in_flight = total(table, own)
        for place in range(CLASSES):
            now.classes[place].sequences = total(table, own + TENANT_QUEUED + place)
            now.classes[place].tokens = total(table, own + TENANT_QUEUED_TOKENS + place)
            now.tenant.queued += now.classes[place].sequences
            now.tenant.queued_tokens += now.classes[place].tokens
        now.rivals_weight = table.get(ENGINE, WEIGHT) / 1e3
        if table.get(ENGINE, own + TENANT_WAITING) > 0:
            now.rivals_weight -= weight
        now.rivals_weight = max(0.0, now.rivals_weight)
        now.lead_tokens = table.get(ENGINE, own + TENANT_LEAD)
        now.shared = shared
        now.drain_s = table.get(ENGINE, DRAIN) / 1e6
        pace.step_s = table.get(ENGINE, STEP) / 1e6
        pace.prefill_tokens_per_s = table.get(ENGINE, PREFILL)
        pace.take_up_s = table.get(ENGINE, TAKE_UP) / 1e6
        request.sequences = sequences
        request.prompt_tokens = prompt_tokens
        request.priority = <Priority> priority
        request.weight = weight
        request.tokens_min = tokens_min
        request.left_s = deadline_s - now_s
        request.spent_s = now_s - arrived_s
        cdef CppVerdict found = judge(self._bounds, now, pace, self._calibrations[tenant].ratio(), request)
        cdef Verdict verdict = Verdict.__new__(Verdict)
        verdict.refusal = <int> found.refusal
        verdict.shared = shared
        verdict.retry_after_s = self._turns[tenant].next_s(found, now_s)
        verdict.queue_s = found.queue_s
        verdict.whole_s = found.whole_s
        verdict.wait_s = found.forecast.wait_s
        verdict.first_s = found.forecast.first_s
        verdict.in_flight = now.all.in_flight
        verdict.tenant_in_flight = now.tenant.in_flight
        verdict.queued_tokens = now.all.queued_tokens
        return verdict

    def could_hold(self, uint32_t priority, int64_t sequences, bint shared):
        """Whether so many sequences of one request would be let in if the replica held nothing."""
        cdef Request request
        request.priority = <Priority> priority
        request.sequences = sequences
        return could_hold(self._bounds, shared, request)

    def enter(self, uint32_t tenant, uint32_t priority, int64_t prompt_tokens):
        """A sequence was submitted."""
        self._add(IN_FLIGHT, own_columns(tenant), 1)
        self._queue(tenant, priority, 1, prompt_tokens)

    def begin(self, uint32_t tenant, uint32_t priority, int64_t prompt_tokens, Verdict verdict not None,
              double actual_s):
        """Its first token has come, `actual_s` after it was let in by `verdict`."""
        self._queue(tenant, priority, -1, -prompt_tokens)
        self._calibrations[tenant].note(verdict.first_s, actual_s, verdict.wait_s)

    def leave(self, uint32_t tenant, uint32_t priority, int64_t prompt_tokens, bint begun):
        """Its end has come back."""
        self._add(IN_FLIGHT, own_columns(tenant), -1)
        if not begun:
            self._queue(tenant, priority, -1, -prompt_tokens)
        self._table.at(0, 0).add(self._row, ENDED, 1)

    def ratio(self, uint32_t tenant):
        """(certain, enough): what a forecast for `tenant` is to be multiplied by, as its first tokens have taught."""
        own_columns(tenant)
        return self._calibrations[tenant].ratio().certain, self._calibrations[tenant].ratio().enough

    cdef _add(self, uint32_t column, uint32_t tenant_column, int64_t delta):
        cdef SharedTable* table = self._table.at(0, 0)
        table.add(self._row, column, delta)
        table.add(self._row, tenant_column, delta)

    cdef _queue(self, uint32_t tenant, uint32_t priority, int64_t sequences, int64_t prompt_tokens):
        if priority >= CLASSES:
            raise IndexError(f"priorities are 0 to {CLASSES - 1}, got {priority}")
        cdef uint32_t own = own_columns(tenant) + priority
        self._add(QUEUED, own + TENANT_QUEUED, sequences)
        self._add(QUEUED_TOKENS, own + TENANT_QUEUED_TOKENS, prompt_tokens)


cdef uint32_t own_columns(uint32_t tenant) except 0:
    """Where the columns of `tenant` begin, with those in flight."""
    if tenant >= TENANTS:
        raise IndexError(f"tenants are 0 to {TENANTS - 1}, got {tenant}")
    return TENANT + tenant * STRIDE


cdef int64_t total(SharedTable* table, uint32_t column) noexcept nogil:
    """A column over all rows. Whoever was killed between two counts leaves no negative sum."""
    return max(<int64_t> 0, table.sum(column))
