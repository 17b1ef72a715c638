"""What a launcher refuses: the message names the tensor and the numbers, and nothing is launched."""

from collections.abc import Callable

import pytest
import torch
from aruntime_kernels.decode_attention import SEQUENCES_MAX, decode_attention_triton, decode_workspace
from aruntime_kernels.likely import likely_triton
from aruntime_kernels.logits import ban_triton, bias_triton, penalize_triton
from aruntime_kernels.prefill_attention import prefill_attention_triton
from aruntime_kernels.rms_norm import rms_norm_triton
from aruntime_kernels.rotary import rotary_triton
from aruntime_kernels.sample import sample_triton
from aruntime_kernels.silu_mul import silu_mul_triton
from aruntime_kernels.store_kv import store_kv_triton
from kernels_house import DEVICE, draws, ints, nan, normal


def decode(**wrong: object) -> None:
    query, cache = normal(2, 4, 16), normal(64, 2, 16)
    given = {"key_cache": cache, "value_cache": cache, "block_tables": ints(0, 1).view(2, 1), "context_len": ints(1, 1)}
    given |= {"query": query, "out": nan(2, 4, 16), "partial": decode_workspace(2, 4, 16, 64, DEVICE)}
    decode_attention_triton(**(given | {"scale": 0.2, "block_tokens": 16} | wrong))


def prefill(**wrong: object) -> None:
    query, cache = normal(3, 4, 16), normal(64, 2, 16)
    given = {"key_cache": cache, "value_cache": cache, "block_tables": ints(0, 1).view(2, 1), "context_len": ints(1, 2)}
    given |= {"query": query, "out": nan(3, 4, 16), "query_start": ints(0, 1, 3)}
    prefill_attention_triton(**(given | {"scale": 0.2, "block_tokens": 16} | wrong))


def test_what_is_right_is_taken() -> None:
    decode()
    prefill()


SHARED = [
    ({"out": normal(3, 4, 8)}, r"out: want \[\d, 4, 16\], got \[3, 4, 8\]"),
    ({"value_cache": normal(64, 2, 16).half()}, "value_cache: want float32, got float16"),
    ({"value_cache": normal(64, 1, 16)}, r"value_cache: want \[64, 2, 16\], got \[64, 1, 16\]"),
    ({"key_cache": normal(64, 4, 16)[:, ::2], "value_cache": normal(64, 2, 16)}, "key_cache: want a contiguous"),
    ({"key_cache": normal(64, 3, 16), "value_cache": normal(64, 3, 16)}, "query: want a multiple of 3 kv heads, got 4"),
    ({"context_len": ints(1, 1).long()}, "context_len: want int32, got int64"),
    ({"context_len": ints(1)}, r"context_len: want \[2\], got \[1\]"),
    ({"block_tokens": 0}, "block_tokens > 0, window >= 0, got 0.2, 0, 0"),
    ({"window": -1}, "got 0.2, 16, -1"),
    ({"scale": float("nan")}, "want scale > 0"),
]


@pytest.mark.parametrize("attention", [decode, prefill])
@pytest.mark.parametrize(("wrong", "message"), SHARED)
def test_attention_refuses(attention: Callable[..., None], wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attention(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"partial": None}, "partial: want a workspace, got None"),
        ({"partial": torch.empty(1, 4, 1, 20)}, r"partial: want at least \[2, 4, 1, 20\], got \[1, 4, 1, 20\]"),
        ({"partial": torch.empty(2, 4, 1, 18)}, r"partial: want \[2, 4, 1, 20\], got \[2, 4, 1, 18\]"),
    ],
)
def test_decode_attention_refuses_a_workspace(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(**wrong)


def test_decode_attention_refuses_more_sequences_than_a_program_counts() -> None:
    rows = SEQUENCES_MAX + 1
    tables, context = torch.zeros(rows, 1, dtype=torch.int32), torch.ones(rows, dtype=torch.int32)
    with pytest.raises(ValueError, match="at most 1024 sequences, got 1025"):
        decode(query=normal(rows, 4, 16), out=nan(rows, 4, 16), block_tables=tables, context_len=context)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rms_norm_triton(normal(2, 8), normal(9), nan(2, 8), eps=1e-5), r"weight: want \[8\], got \[9\]"),
        (
            lambda: rms_norm_triton(normal(2, 8), normal(8), nan(2, 8).half(), eps=1e-5),
            "out: want float32, got float16",
        ),
        (
            lambda: rms_norm_triton(normal(2, 3, 8), normal(8), nan(2, 3, 8), eps=1e-5, residual=normal(2, 8)),
            r"x: want \[2, 8\], got \[2, 3, 8\]",
        ),
        (lambda: silu_mul_triton(normal(2, 9), nan(2, 4)), r"gate_up: want \[2, 8\], got \[2, 9\]"),
        (
            lambda: rotary_triton(normal(2, 1, 8), normal(2, 1, 8), ints(0, 1), normal(4, 6)),
            r"cos_sin: want \[4, 8\], got \[4, 6\]",
        ),
        (lambda: rotary_triton(normal(2, 1, 7), normal(2, 1, 7), ints(0, 1), normal(4, 7)), "with an even D"),
        (
            lambda: store_kv_triton(normal(1, 1, 4), normal(1, 1, 4), nan(4, 1, 4), nan(4, 1, 4), ints(0).long()),
            "slot_mapping: want int32, got int64",
        ),
        (lambda: ban_triton(normal(2, 8).half(), ints(0), ints(1)), "logits: want float32, got float16"),
        (lambda: penalize_triton(normal(2, 8), *[ints(0)] * 4, *[normal(3)] * 3), r"presence: want \[2\], got \[3\]"),
        (lambda: bias_triton(normal(2, 8), ints(0), ints(1), normal(2)), r"bias: want \[1\], got \[2\]"),
        (
            lambda: likely_triton(normal(2, 8), ints(0), ints(1), normal(1), ints(1).view(1, 1), normal(1, 2)),
            r"top_logprob: want \[1, 1\], got \[1, 2\]",
        ),
        (lambda: draws(sample_triton, normal(2, 8).double(), [1, 2], [0, 0]), "logits: want float32, got float64"),
        (lambda: draws(sample_triton, normal(2, 8), [1], [0, 0]), r"seed: want \[2\], got \[1\]"),
    ],
)
def test_an_operation_refuses(call: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_slot_or_a_pair_past_the_end_touches_nothing() -> None:
    cache = normal(4, 1, 8)
    before = cache.clone()
    store_kv_triton(normal(2, 1, 8), normal(2, 1, 8), cache, cache, ints(4, 1 << 30))
    assert torch.equal(cache, before)
    logits = normal(2, 8)
    before = logits.clone()
    ban_triton(logits, ints(0, 2, -1, 1), ints(8, 0, 0, -1))
    assert torch.equal(logits, before)
    bias_triton(logits, ints(0, 2, -1, 1), ints(8, 0, 0, -1), normal(4))
    assert torch.equal(logits, before)
    pairs = (ints(0, 2, -1), ints(8, 0, 0), ints(1, 1, 1), ints(1, 1, 1))
    penalize_triton(logits, *pairs, *[torch.full((2,), 2.0, device=DEVICE)] * 3)
    assert torch.equal(logits, before)
