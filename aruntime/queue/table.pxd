"""A table of atomics, for Cython."""

from libc.stdint cimport int64_t, uint32_t
from libcpp.memory cimport unique_ptr


cdef extern from "queue/table.hpp" namespace "aruntime" nogil:
    cppclass Number "aruntime::Table::Number":
        pass

    cppclass SharedTable "aruntime::Table":
        @staticmethod
        int create(uint32_t rows, uint32_t columns) except +
        SharedTable(int fd) except +
        uint32_t rows()
        uint32_t columns()
        int64_t get(uint32_t row, uint32_t column)
        void set(uint32_t row, uint32_t column, int64_t value)
        void add(uint32_t row, uint32_t column, int64_t delta)
        Number& cell(uint32_t row, uint32_t column)
        int64_t sum(uint32_t column)


cdef class Table:
    cdef unique_ptr[SharedTable] _table
    cdef SharedTable* at(self, uint32_t row, uint32_t column) except NULL
