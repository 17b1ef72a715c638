"""Both ends of a channel, for Cython that moves messages without the GIL."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport unique_ptr
from libcpp.vector cimport vector

from aruntime.queue.records cimport MessageKind, OutputRecord, ResultHead, SlotMessage, SubmitHead


cdef extern from "<cstddef>" namespace "std" nogil:
    cppclass byte:
        pass


cdef extern from "queue/ends.hpp" namespace "aruntime" nogil:
    uint32_t cells_of(uint32_t prompt_tokens, uint32_t payload_bytes)
    int create_channel_file "aruntime::create_channel"(uint64_t, uint32_t, uint32_t, uint32_t) except +

    enum class Received(int):
        kNothing
        kSubmit
        kCancel
        kPause
        kResume
        kRefused

    cppclass Message:
        SubmitHead head
        SlotMessage about
        vector[int32_t] prompt
        vector[byte] payload

    cppclass Result:
        ResultHead head
        vector[byte] bytes

    cppclass EngineEnd:
        EngineEnd(int fd, int front_end_bell, uint64_t epoch) except +
        Received receive(Message&)
        uint32_t send(const OutputRecord*, uint32_t)
        uint32_t output_room()
        cbool try_result(uint32_t slot, uint32_t generation, const byte* data, uint32_t bytes) except +
        uint64_t result_bytes_max()
        cbool prepare_sleep()
        void awake()
        void ring_bell()
        uint64_t refused()

    cppclass FrontEndEnd:
        FrontEndEnd(int fd, int engine_bell, uint64_t epoch) except +
        cbool try_submit(SubmitHead&, const int32_t*, const byte*) except +
        cbool try_tell(MessageKind kind, uint32_t slot, uint32_t generation)
        uint32_t take(OutputRecord*, uint32_t)
        uint64_t result_cells()
        cbool take_result(Result&) except +
        cbool prepare_sleep()
        void awake()
        void ring_bell()
        uint32_t submit_cells()
        uint64_t submit_room()
        uint64_t refused()


cdef class EngineChannel:
    # Never null; lives as long as this object.
    cdef unique_ptr[EngineEnd] _end
    cdef Message _message
    cdef EngineEnd* end(self) noexcept nogil


cdef class FrontEndChannel:
    cdef unique_ptr[FrontEndEnd] _end
    cdef vector[OutputRecord] _records
    cdef Result _result
    cdef FrontEndEnd* end(self) except NULL
