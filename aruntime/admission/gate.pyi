from aruntime.queue.table import Table

class Verdict:
    refusal: int
    shared: bool
    retry_after_s: float
    wait_s: float
    first_s: float
    queue_s: float
    whole_s: float
    in_flight: int
    tenant_in_flight: int
    queued_tokens: int

class Gate:
    def __init__(
        self, table: Table, row: int, *, sequences_max: int, waiting_max: int, waiting_tokens_max: int, ttft_s: float
    ) -> None: ...
    def set_bounds(self, waiting_max: int, waiting_tokens_max: int, ttft_s: float) -> None: ...
    def judge(
        self,
        tenant: int,
        weight: float,
        priority: int,
        sequences: int,
        prompt_tokens: int,
        tokens_min: int,
        arrived_s: float,
        deadline_s: float,
        now_s: float,
        shared: bool,
    ) -> Verdict: ...
    def could_hold(self, priority: int, sequences: int, shared: bool) -> bool: ...
    def enter(self, tenant: int, priority: int, prompt_tokens: int) -> None: ...
    def begin(self, tenant: int, priority: int, prompt_tokens: int, verdict: Verdict, actual_s: float) -> None: ...
    def leave(self, tenant: int, priority: int, prompt_tokens: int, begun: bool) -> None: ...
    def ratio(self, tenant: int) -> tuple[float, float]: ...
