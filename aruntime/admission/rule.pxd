"""The rule of the door and the bucket of a budget (csrc/admission), for Cython."""

from libc.stdint cimport int64_t
from libcpp cimport bool as cbool

from aruntime.queue.records cimport Priority
from aruntime.queue.table cimport Number


cdef extern from "<atomic>" namespace "std" nogil:
    cppclass memory_order:
        pass
    const memory_order memory_order_seq_cst
    void atomic_thread_fence(memory_order)


cdef extern from "admission/bucket.hpp" namespace "aruntime::admission" nogil:
    int64_t cost_ns(int64_t amount, int64_t per_minute)
    int64_t try_spend(Number& cell, int64_t now_ns, int64_t cost)
    void refund(Number& cell, int64_t cost)
    double level(int64_t cell, int64_t now_ns)


cdef extern from "admission/forecast.hpp" namespace "aruntime::admission" nogil:
    cppclass Pace:
        double step_s, prefill_tokens_per_s, take_up_s

    cppclass Held:
        int64_t in_flight, queued, queued_tokens

    cppclass Queued:
        int64_t sequences, tokens

    cppclass Forecast:
        double wait_s, first_s

    cppclass Ratio:
        double certain, enough

    cppclass Calibration:
        Ratio ratio()
        void note(double first_s, double actual_s, double wait_s)


cdef extern from "admission/verdict.hpp" namespace "aruntime::admission" nogil:
    enum class Refusal(int):
        kNone

    cppclass Bounds:
        int64_t sequences_max, waiting_max, waiting_tokens_max
        double ttft_s

    cppclass Standing:
        Held all, tenant
        Queued classes[3]
        double rivals_weight
        int64_t lead_tokens
        cbool shared
        double drain_s

    cppclass Request:
        int64_t sequences, prompt_tokens
        Priority priority
        double weight, left_s, spent_s
        int64_t tokens_min

    cppclass CppVerdict "aruntime::admission::Verdict":
        Refusal refusal
        double retry_after_s
        Forecast forecast
        double queue_s, whole_s

    cppclass Turns:
        double next_s(const CppVerdict& verdict, double now_s)

    bint could_hold(const Bounds& bounds, bint shared, const Request& request)
    CppVerdict judge(const Bounds& bounds, const Standing& now, const Pace& pace, const Ratio& ratio,
                     const Request& request)
