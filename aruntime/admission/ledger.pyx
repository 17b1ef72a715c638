# cython: language_level=3, embedsignature=True
"""The ledger: what each tenant may still spend, over all models and all front ends.

A table of the supervisor's. Row 0 holds the buckets (csrc/admission/bucket.hpp), spent from without a lock by whoever
asks; every other row is one front end's count of sequences in flight, which goes with it, and of requests refused before
their model was known, which does not.
"""

from libc.stdint cimport int64_t, uint32_t

from aruntime.admission.rule cimport (
    atomic_thread_fence, cost_ns, level, memory_order_seq_cst, refund, try_spend,
)
from aruntime.queue.table cimport SharedTable, Table

from aruntime.queue.columns import BUCKETS_ROW, REFUSALS, RESULT_CODES, TENANTS_MAX, LedgerColumn

cdef uint32_t BUCKETS = BUCKETS_ROW
cdef uint32_t COLUMNS = len(LedgerColumn)
cdef uint32_t TENANTS = TENANTS_MAX
cdef uint32_t SEQUENCES = LedgerColumn.SEQUENCES
REQUESTS, TOKENS = int(LedgerColumn.REQUESTS_EMPTY_NS), int(LedgerColumn.TOKENS_EMPTY_NS)


cdef class Ledger:
    """`row` is this front end's. A `budget` is REQUESTS or TOKENS; moments are of the monotonic clock of the host."""

    cdef Table _table
    cdef uint32_t _row

    def __cinit__(self, Table table not None, uint32_t row):
        table.at(row, SEQUENCES)
        self._table = table
        self._row = row

    def try_hold(self, uint32_t tenant, int64_t sequences, most=None):
        """Count `sequences` more in flight, unless they would be more than `most` over all front ends.

        Two who ask at once may both be refused; they are never both let in beyond it.
        """
        cdef uint32_t column = place(tenant, SEQUENCES)
        cdef SharedTable* table = self._table.at(self._row, column)
        table.add(self._row, column, sequences)
        atomic_thread_fence(memory_order_seq_cst)  # of two who ask at once, one at least sees the other
        if most is None or table.sum(column) <= <int64_t> most:
            return True
        table.add(self._row, column, -sequences)
        return False

    def release(self, uint32_t tenant, int64_t sequences):
        """They have ended."""
        cdef uint32_t column = place(tenant, SEQUENCES)
        self._table.at(self._row, column).add(self._row, column, -sequences)

    def held(self, uint32_t tenant):
        """Sequences in flight, over all front ends."""
        return self._table.sum(place(tenant, SEQUENCES))

    def refused(self, str code not None):
        """A request was refused with this code, one of RESULT_CODES, before its model was known."""
        cdef uint32_t column = REFUSALS + RESULT_CODES.index(code)
        self._table.at(self._row, column).add(self._row, column, 1)

    def refusals(self, str code not None):
        """How many were, at all front ends there ever were."""
        return self._table.sum(REFUSALS + RESULT_CODES.index(code))

    def try_spend(self, uint32_t tenant, uint32_t budget, int64_t amount, int64_t per_minute, double now_s):
        """Take `amount` of a budget: 0.0. Or take nothing, and return the seconds until there is enough."""
        cdef uint32_t column = place(tenant, budget)
        cdef SharedTable* table = self._table.at(BUCKETS, column)
        return try_spend(table.cell(BUCKETS, column), <int64_t> (now_s * 1e9), cost_ns(amount, per_minute)) / 1e9

    def refund(self, uint32_t tenant, uint32_t budget, int64_t charged, int64_t used, int64_t per_minute):
        """Give back what of `charged` was not used."""
        cdef uint32_t column = place(tenant, budget)
        cdef SharedTable* table = self._table.at(BUCKETS, column)
        refund(table.cell(BUCKETS, column), cost_ns(charged, per_minute) - cost_ns(used, per_minute))

    def level(self, uint32_t tenant, uint32_t budget, double now_s):
        """How full a bucket is, 0 to 1."""
        cdef uint32_t column = place(tenant, budget)
        return level(self._table.at(BUCKETS, column).get(BUCKETS, column), <int64_t> (now_s * 1e9))


cdef uint32_t place(uint32_t tenant, uint32_t column) except? 0:
    """The column of the table that holds `column` of `tenant`."""
    if tenant >= TENANTS:
        raise IndexError(f"tenants are 0 to {TENANTS - 1}, got {tenant}")
    return tenant * COLUMNS + column
