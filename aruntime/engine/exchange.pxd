"""Rings on one side, the scheduler on the other."""

from libc.stdint cimport uint32_t
from libcpp.vector cimport vector

from aruntime.queue.channel cimport EngineEnd, Message
from aruntime.queue.records cimport OutputRecord
from aruntime.scheduler.scheduler cimport Scheduler


cdef struct Peer:
    uint32_t front_end
    EngineEnd* end


cdef class Exchange:
    cdef Scheduler _scheduler
    cdef dict _channels
    cdef vector[Peer] _peers
    cdef Message _message
    cdef vector[OutputRecord] _outputs
