# cython: language_level=3, embedsignature=True
"""Counts that processes share: rows and columns of int64 atomics. A row has one writer; readers sum."""

from libc.stdint cimport int64_t, uint32_t


def create_table(uint32_t rows, uint32_t columns):
    """Make a table's memory file, all zeros; the descriptor is the caller's."""
    return SharedTable.create(rows, columns)


cdef class Table:
    def __cinit__(self, int fd):
        self._table.reset(new SharedTable(fd))

    cdef SharedTable* at(self, uint32_t row, uint32_t column) except NULL:
        if not self._table:
            raise ValueError("the table is closed")
        if row >= self._table.get().rows() or column >= self._table.get().columns():
            raise IndexError(f"no row {row}, column {column}")
        return self._table.get()

    def close(self):
        """Unmap; any other call afterwards is a ValueError."""
        self._table.reset()

    @property
    def rows(self):
        return self.at(0, 0).rows()

    @property
    def columns(self):
        return self.at(0, 0).columns()

    def get(self, uint32_t row, uint32_t column):
        return self.at(row, column).get(row, column)

    def set(self, uint32_t row, uint32_t column, int64_t value):
        self.at(row, column).set(row, column, value)

    def add(self, uint32_t row, uint32_t column, int64_t delta):
        self.at(row, column).add(row, column, delta)

    def sum(self, uint32_t column):
        """The column's total over all rows."""
        return self.at(0, column).sum(column)

    def row(self, uint32_t row):
        """A row's numbers."""
        self.at(row, 0)
        return [self.get(row, column) for column in range(self.columns)]

    def zero(self, uint32_t row):
        """Forget a row, whose writer is gone."""
        for column in range(self.columns):
            self.set(row, column, 0)
