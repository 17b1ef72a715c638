"""Why the door says no, in the client's words. The rule itself is csrc/admission/verdict.hpp."""

from enum import IntEnum

from aruntime.admission.ask import Ask
from aruntime.admission.gate import Verdict
from aruntime.base.errors import DeadlineExceeded, Overloaded, ServingError


class Refusal(IntEnum):
    """The enumeration of csrc/admission/verdict.hpp. A test holds the two together."""

    NONE = 0
    DEADLINE = 1
    FULL = 2
    TOKENS = 3
    SLOW = 4
    SHARE = 5


def refusal(verdict: Verdict, ask: Ask, left_s: float, ttft_s: float) -> ServingError:
    """The error of a verdict that is not yes. `left_s` is what is left before the deadline, `ttft_s` the objective."""
    match Refusal(verdict.refusal):
        case Refusal.DEADLINE if left_s <= 0:
            return DeadlineExceeded("the deadline passed before the request was admitted")
        case Refusal.DEADLINE:
            return DeadlineExceeded(
                f"the answer is forecast to take {verdict.whole_s:.3g} s; {left_s:.3g} s are left before the deadline"
            )
        case Refusal.FULL:
            words = f"{verdict.in_flight} sequences are in flight: no room for {ask.choices} more of this priority"
        case Refusal.TOKENS:
            words = f"{verdict.queued_tokens} prompt tokens are queued: no room for {ask.prompt_tokens * ask.n} more"
        case Refusal.SHARE:
            words = f"{verdict.tenant_in_flight} of {verdict.in_flight} sequences in flight are yours: others have room"
        case _:
            words = f"the queue takes {verdict.queue_s:.3g} s; the objective is {ttft_s:g} s"
    return Overloaded(words, retry_after_s=verdict.retry_after_s)
