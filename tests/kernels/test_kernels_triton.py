"""Every Triton kernel against its reference: in the interpreter without a GPU, compiled on one."""

import pytest
import torch
from aruntime_kernels.decode_attention import CHUNK, decode_attention_reference
from aruntime_kernels.likely import likely_reference, likely_triton
from aruntime_kernels.logits import (
    ban_reference,
    ban_triton,
    bias_reference,
    bias_triton,
    penalize_reference,
    penalize_triton,
)
from aruntime_kernels.pool import pool_reference, pool_triton
from aruntime_kernels.prefill_attention import prefill_attention_reference, prefill_attention_triton
from aruntime_kernels.rms_norm import rms_norm_reference, rms_norm_triton
from aruntime_kernels.rotary import rotary_reference, rotary_triton
from aruntime_kernels.sample import sample_reference, sample_triton
from aruntime_kernels.silu_mul import silu_mul_reference, silu_mul_triton
from aruntime_kernels.store_kv import PAD_SLOT, store_kv_reference, store_kv_triton
from kernels_house import DEVICE, DTYPES, Paged, close, draws, ints, nan, normal


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 63, 100, 2000])
@pytest.mark.parametrize("with_residual", [False, True])
def test_rms_norm_is_its_reference(dtype: torch.dtype, size: int, with_residual: bool) -> None:
    x, weight = normal(3, size, dtype=dtype), normal(size, dtype=dtype)
    residual = normal(3, size, dtype=dtype) if with_residual else None
    twin = None if residual is None else residual.clone()
    got, want = nan(3, size, dtype=dtype), nan(3, size, dtype=dtype)
    rms_norm_triton(x, weight, got, eps=1e-5, residual=residual)
    rms_norm_reference(x, weight, want, eps=1e-5, residual=twin)
    close(got, want, dtype)
    if residual is not None and twin is not None:
        close(residual, twin, dtype)


def test_rms_norm_of_heads_works_in_place_on_a_strided_view() -> None:
    fused = normal(5, 6, 40)
    got, want = fused.clone(), fused.clone()
    weight = normal(40)
    rms_norm_triton(got[:, 1:4], weight, got[:, 1:4], eps=1e-6)
    rms_norm_reference(want[:, 1:4], weight, want[:, 1:4], eps=1e-6)
    close(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 100, 2050])
def test_silu_mul_is_its_reference(dtype: torch.dtype, size: int) -> None:
    gate_up = normal(3, 2 * size, dtype=dtype)
    got, want = nan(3, size, dtype=dtype), nan(3, size, dtype=dtype)
    silu_mul_triton(gate_up, got)
    silu_mul_reference(gate_up, want)
    close(got, want, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 100, 300])
def test_pool_is_its_reference_and_writes_nothing_else(dtype: torch.dtype, size: int) -> None:
    x = normal(20, size, dtype=dtype)
    # A text whole, the last state of one, a first chunk, one that goes on, the last chunk of a third.
    chunks = (
        ints(0, 6, 7, 9, 12),
        ints(6, 7, 9, 12, 20),
        ints(0, 1, 2, 3, 4),
        ints(0, 0, 0, 1, 1),
        ints(6, 1, 0, 0, 30),
    )
    sums = normal(6, size)
    sums[[0, 1, 2]] = float("nan")  # of others, before
    got, want = (sums.clone(), nan(5, size)), (sums.clone(), nan(5, size))
    pool_triton(x, *chunks, *got)
    pool_reference(x, *chunks, *want)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, equal_nan=True)
    close(want[1][0], x[:6].float().mean(dim=0))
    assert torch.equal(want[1][1], x[6].float())
    assert torch.isnan(want[1][2:4]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [2, 48, 64])
def test_rotary_is_its_reference(dtype: torch.dtype, size: int) -> None:
    fused = normal(5, 7, size, dtype=dtype)
    got, want = fused.clone(), fused.clone()
    positions, table = ints(0, 3, 99, 1, 50), normal(100, size)
    rotary_triton(got[:, :4], got[:, 4:6], positions, table)
    rotary_reference(want[:, :4], want[:, 4:6], positions, table)
    close(got, want, dtype)
    assert torch.equal(got[:, 6], fused[:, 6])


@pytest.mark.parametrize("dtype", DTYPES)
def test_store_kv_writes_its_rows_and_no_other(dtype: torch.dtype) -> None:
    fused = normal(4, 6, 20, dtype=dtype)
    slots = ints(7, PAD_SLOT, 0, 30)
    got, want = [nan(32, 3, 20, dtype=dtype) for _ in range(2)], [nan(32, 3, 20, dtype=dtype) for _ in range(2)]
    store_kv_triton(fused[:, :3], fused[:, 3:], *got, slots)
    store_kv_reference(fused[:, :3], fused[:, 3:], *want, slots)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 64), (6, 2, 48), (5, 1, 80)])
@pytest.mark.parametrize("window", [0, 100])
def test_decode_attention_is_its_reference(
    dtype: torch.dtype, heads: int, kv_heads: int, size: int, window: int
) -> None:
    paged = Paged([1, 63, CHUNK, CHUNK + 1, 600], kv_heads, size, dtype)
    query = normal(5, heads + 2, size, dtype=dtype)[:, :heads]
    want = nan(5, heads, size, dtype=dtype)
    decode_attention_reference(
        query, paged.key, paged.value, paged.tables, paged.context, want, window=window, **paged.options
    )
    close(paged.decode(query, window), want, dtype)


def test_a_row_of_decode_attention_has_the_same_bits_alone_and_among_others() -> None:
    paged = Paged([700, 20, 300], 2, 32, torch.float32)
    query = normal(3, 4, 32)
    together = paged.decode(query)
    for row in range(3):
        assert torch.equal(paged.decode(query[row : row + 1], rows=slice(row, row + 1))[0], together[row])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 64), (6, 2, 48)])
@pytest.mark.parametrize("window", [0, 50])
def test_prefill_attention_is_its_reference(
    dtype: torch.dtype, heads: int, kv_heads: int, size: int, window: int
) -> None:
    paged = Paged([100, 1, 129, 70], kv_heads, size, dtype)
    lengths = [100, 1, 65, 7]  # the last two are later chunks of their prompts
    start = ints(0, *torch.tensor(lengths).cumsum(0).tolist())
    query = normal(sum(lengths), heads + 1, size, dtype=dtype)[:, :heads]
    got, want = nan(*query.shape, dtype=dtype), nan(*query.shape, dtype=dtype)
    for operation, out in ((prefill_attention_triton, got), (prefill_attention_reference, want)):
        operation(
            query, paged.key, paged.value, paged.tables, start, paged.context, out, window=window, **paged.options
        )
    close(got, want, dtype)


def test_a_chunk_of_prefill_attention_has_the_bits_of_the_whole_prompt() -> None:
    paged = Paged([150], 2, 32, torch.float32)
    query = normal(150, 2, 32)
    whole, parts = nan(150, 2, 32), nan(150, 2, 32)
    tables = paged.tables
    prefill_attention_triton(query, paged.key, paged.value, tables, ints(0, 150), ints(150), whole, **paged.options)
    for begin, end in ((0, 37), (37, 101), (101, 150)):
        prefill_attention_triton(
            query[begin:end],
            paged.key,
            paged.value,
            tables,
            ints(0, end - begin),
            ints(end),
            parts[begin:end],
            **paged.options,
        )
    assert torch.equal(whole, parts)


def test_penalties_bans_and_biases_are_their_references() -> None:
    logits = normal(3, 150)
    pairs = (ints(0, 0, 2, 2), ints(3, 149, 7, 8), ints(2, 0, 1, 0), ints(0, 1, 1, 0))
    strengths = (normal(3), normal(3), normal(3).abs() + 0.5)
    got, want = logits.clone(), logits.clone()
    penalize_triton(got, *pairs, *strengths)
    penalize_reference(want, *pairs, *strengths)
    close(got, want)
    ban_triton(got, ints(1, 2), ints(0, 149))
    ban_reference(want, ints(1, 2), ints(0, 149))
    close(got, want)
    added = (ints(0, 2, 1), ints(149, 0, 0), normal(3))
    bias_triton(got, *added)
    bias_reference(want, *added)
    close(got, want)


@pytest.mark.parametrize(
    "filters",
    [
        {"temperature": 0.0},
        {},
        {"temperature": 0.6, "top_k": 5},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    ],
)
@pytest.mark.parametrize("vocab", [5, 100, 5000])
def test_sample_draws_what_its_reference_draws(filters: dict[str, float], vocab: int) -> None:
    logits = normal(4, vocab) * 2
    seeds, positions = [0, 1, -5, 2**62], [0, 1, 7, 1000]
    got, want = (draws(op, logits.clone(), seeds, positions, **filters) for op in (sample_triton, sample_reference))
    assert got[0].tolist() == want[0].tolist()
    close(got[1], want[1])


def test_a_draw_depends_on_seed_and_position_and_not_on_its_row() -> None:
    logits = normal(1, 400).repeat(3, 1)
    three, _ = draws(sample_triton, logits, [11, 12, 11], [4, 4, 5])
    alone, _ = draws(sample_triton, logits[:1], [12], [4])
    assert three[1] == alone[0]
    assert len({int(token) for token in three}) > 1


@pytest.mark.parametrize("top_k", [0, 3])
def test_greedy_takes_the_lowest_id_of_equals(top_k: int) -> None:
    logits = torch.zeros(1, 50, device=DEVICE)
    assert draws(sample_triton, logits, [1], [0], temperature=0.0, top_k=top_k)[0].item() == 0


@pytest.mark.parametrize("vocab", [1, 150, 5000])
def test_likely_is_its_reference(vocab: int) -> None:
    logits = normal(5, vocab) * 3
    logits[1] = logits[1].round()  # equals
    logits[2, ::2] = float("nan")
    logits[3] = float("-inf")
    logits[3, 0] = 1.0
    row, token = ints(0, 1, 2, 3, 3), ints(0, vocab - 1, 0, 0, 0)
    got, want = ([nan(5), torch.full_like(nan(5, 20), -7).int(), nan(5, 20)] for _ in range(2))
    likely_triton(logits, row, token, *got)
    likely_reference(logits, row, token, *want)
    assert torch.equal(got[1], want[1])
    for one, other in ((got[0], want[0]), (got[2], want[2])):
        close(*(torch.where(logprob.isfinite(), logprob, -9999) for logprob in (one, other)))
