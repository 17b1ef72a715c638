from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from aruntime.queue.channel import Record
from aruntime.queue.table import Table

_Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
_Ints = np.ndarray[tuple[int, ...], np.dtype[np.int32]]
_Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
_Seeds = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]

class Stats(NamedTuple):
    waiting: int
    waiting_tokens: int
    running: int
    paused: int
    tokens_left: int
    undelivered: int
    blocks_free: int
    blocks_cached: int
    blocks_reserved: int
    blocks_total: int
    waiting_weight: float
    oldest_s: float
    step_s: float
    prefill_tokens_per_s: float
    take_up_s: float
    drain_s: float
    preemptions: int
    steps: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int

class TenantStats(NamedTuple):
    waiting: int
    running: int
    paused: int
    blocks: int
    served: int

class StepPlan:
    tokens: int
    sequences: int
    samples: int
    decodes: int
    token_ids: _Ints
    positions: _Ints
    slot_mapping: _Ints
    token_source: _Ints
    query_start: _Ints
    context_len: _Ints
    block_tables: _Ints
    sample_index: _Ints
    temperature: _Floats
    top_p: _Floats
    min_p: _Floats
    presence_penalty: _Floats
    frequency_penalty: _Floats
    repetition_penalty: _Floats
    top_k: _Ints
    seed: _Seeds
    position: _Ints
    banned_row: _Ints
    banned_token: _Ints
    bias_row: _Ints
    bias_token: _Ints
    bias: _Floats
    guided_row: _Ints
    guided_token: _Ints
    likely_row: _Ints
    scored_index: _Ints
    scored_token: _Ints
    top: int
    penalty_row: _Ints
    penalty_token: _Ints
    penalty_output_count: _Ints
    penalty_in_prompt: _Ints
    pool_start: _Ints
    pool_end: _Ints
    pool_place: _Ints
    pool_carry: _Ints
    pool_divisor: _Ints
    def owners(self) -> list[tuple[int, int, int]]: ...
    def guided_owners(self) -> list[tuple[int, int, int]]: ...
    def pool_owners(self) -> list[tuple[int, int, int]]: ...

class Scheduler:
    def __init__(
        self,
        *,
        sequences_max: int,
        step_tokens_max: int,
        waiting_max: int,
        context_max: int,
        block_tokens: int = 16,
        blocks: int,
        vocab: int,
        eos_token_ids: Iterable[int],
        itl_s: float = ...,
        whole_prompts: bool = ...,
        prefix_secret: int = 0,
    ) -> None: ...
    def submit(
        self,
        *,
        front_end: int,
        slot: int,
        generation: int,
        prompt: array[int] | _Ints,
        max_tokens: int,
        arrived_s: float = 0.0,
        deadline_s: float = ...,
        min_tokens: int = 0,
        tenant: int = 0,
        priority: int = 1,
        attempt: int = 1,
        stop_token_ids: Iterable[int] = (),
        temperature: float = 1.0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        top_k: int = 0,
        ignore_eos: bool = False,
        seed: int = 0,
        top_logprobs: int = 0,
        prompt_logprobs: bool = False,
        bias_pairs: int = 0,
        bad_words: int = 0,
        bad_word_tokens: int = 0,
        grammar_bytes: int = 0,
        payload: bytes = b"",
        pooling: int = 0,
    ) -> int: ...
    def release(self, front_end: int, slot: int, generation: int, good: bool = True) -> None: ...
    def take_guided_ended(self) -> list[tuple[int, int, int]]: ...
    def backlogged(self, front_end: int) -> bool: ...
    def cancel(self, front_end: int, slot: int, generation: int) -> None: ...
    def pause(self, front_end: int, slot: int, generation: int) -> None: ...
    def resume(self, front_end: int, slot: int, generation: int) -> None: ...
    def set_bounds(self, *, waiting_max: int, itl_s: float) -> None: ...
    def set_tenant(
        self,
        tenant: int,
        *,
        weight: float = ...,
        cache_max: float = ...,
        cache_reserved: float = ...,
        tokens_per_s_reserved: float = ...,
        prefix_group: int = ...,
    ) -> None: ...
    def drop_front_end(self, front_end: int) -> None: ...
    def drain(self) -> None: ...
    def plan(self, now_s: float) -> StepPlan: ...
    def commit(
        self,
        tokens: _Array,
        now_s: float,
        logprobs: _Array | None = None,
        likely: tuple[_Array, _Array] | None = None,
        scored: tuple[_Array, _Array, _Array] | None = None,
    ) -> None: ...
    def fail_step(self) -> None: ...
    def take_outputs(self, front_end: int, limit: int = 4096) -> list[Record]: ...
    def stats(self) -> Stats: ...
    def tenant(self, tenant: int) -> TenantStats: ...
    def publish_tenants(self, table: Table, row: int, first: int, stride: int) -> None: ...
    def next_deadline_s(self) -> float: ...
    def check_integrity(self) -> None: ...
