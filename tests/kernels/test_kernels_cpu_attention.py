"""Paged attention and the cache on a CPU: against the references, decode bit for bit as prefill, no hostile id read."""

import pytest
import torch
from aruntime_kernels.decode_attention import decode_attention
from aruntime_kernels.prefill_attention import prefill_attention, prefill_attention_reference
from aruntime_kernels.store_kv import store_kv, store_kv_reference
from torch import Tensor

DTYPES = [torch.float32, torch.bfloat16]
BLOCK_TOKENS = 16
# Sequences: all of a prompt, the last 37 of 130 tokens, one token, one token over several chunks of 64 keys.
CONTEXT_LEN = torch.tensor([5, 130, 1, 200], dtype=torch.int32)
QUERY_START = torch.tensor([0, 5, 42, 43, 44], dtype=torch.int32)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


class Case:
    """Random caches, and tables that name their blocks in no order."""

    def __init__(self, heads: int, kv_heads: int, size: int, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(size)
        self.key_cache, self.value_cache = torch.randn(2, 60 * BLOCK_TOKENS, kv_heads, size).to(dtype).unbind()
        self.block_tables = torch.randperm(60)[:52].reshape(4, 13).int()
        fused = torch.randn(44, heads + 2, size)
        self.query = fused[:, :heads]  # a view of a fused projection, as the model has it
        self.options = {"scale": size**-0.5, "block_tokens": BLOCK_TOKENS}

    def prefill(self, window: int = 0) -> Tensor:
        out = torch.full(self.query.shape, float("nan"))
        caches = (self.key_cache, self.value_cache)
        prefill_attention(
            self.query, *caches, self.block_tables, QUERY_START, CONTEXT_LEN, out, **self.options, window=window
        )
        return out

    def decode(self, rows: list[int], sequence: int, contexts: list[int], window: int = 0) -> Tensor:
        out = torch.full((len(rows), *self.query.shape[1:]), float("nan"))
        tables = self.block_tables[sequence].expand(len(rows), -1).contiguous()
        caches = (self.key_cache, self.value_cache)
        decode_attention(self.query[rows], *caches, tables, ints(*contexts), out, **self.options, window=window)
        return out


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("window", [0, 1, 70])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "size"), [(12, 4, 64), (4, 4, 80), (7, 1, 63), (2, 2, 5), (8, 2, 128), (70, 1, 16)]
)
def test_prefill_is_the_reference(heads: int, kv_heads: int, size: int, dtype: torch.dtype, window: int) -> None:
    case = Case(heads, kv_heads, size, dtype)
    want = torch.empty(case.query.shape)
    caches = (case.key_cache.float(), case.value_cache.float())
    prefill_attention_reference(
        case.query, *caches, case.block_tables, QUERY_START, CONTEXT_LEN, want, **case.options, window=window
    )
    torch.testing.assert_close(case.prefill(window), want, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("instruction_set", "threads")
@pytest.mark.parametrize("window", [0, 33])
@pytest.mark.parametrize(("heads", "kv_heads", "size", "dtype"), [(12, 4, 64, DTYPES[1]), (7, 1, 63, DTYPES[0])])
def test_a_query_has_the_same_bits_in_prefill_and_decode_alone_and_among_others(
    heads: int, kv_heads: int, size: int, dtype: torch.dtype, window: int
) -> None:
    case = Case(heads, kv_heads, size, dtype)
    prefill = case.prefill(window)[5:42].view(torch.int32)
    together = case.decode(list(range(5, 42)), 1, list(range(94, 131)), window).view(torch.int32)
    assert torch.equal(together, prefill)
    for row in (5, 20, 41):
        alone = case.decode([row], 1, [row + 89], window).view(torch.int32)
        assert torch.equal(alone[0], prefill[row - 5])


def test_what_lies_beyond_a_sequence_cannot_reach_it() -> None:
    case = Case(4, 2, 32)
    before = case.prefill()
    used = torch.cat([case.block_tables[s].long().repeat_interleave(16)[: CONTEXT_LEN[s]] * 16 for s in range(4)])
    offsets = torch.cat([torch.arange(n) % 16 for n in CONTEXT_LEN.tolist()])
    other = torch.ones(len(case.key_cache), dtype=torch.bool)
    other[used + offsets] = False
    case.key_cache[other] = float("nan")
    case.value_cache[other] = float("inf")
    assert torch.equal(case.prefill(), before)


def test_sequences_may_begin_behind_the_first_query() -> None:
    case = Case(4, 2, 32)
    out = torch.full(case.query.shape, 7.0)
    tables, caches = case.block_tables[1:], (case.key_cache, case.value_cache)
    prefill_attention(case.query, *caches, tables, QUERY_START[1:], CONTEXT_LEN[1:], out, **case.options)
    assert torch.equal(out[5:], case.prefill()[5:])
    assert (out[:5] == 7).all()


def test_hostile_tables_and_lengths_are_refused_and_not_followed() -> None:
    case = Case(4, 2, 32)
    out = torch.empty(case.query.shape)

    def attend(tables: Tensor = case.block_tables, start: Tensor = QUERY_START, context: Tensor = CONTEXT_LEN) -> None:
        prefill_attention(case.query, case.key_cache, case.value_cache, tables, start, context, out, **case.options)

    for block in (-1, 60, 2**31 - 1):
        tables = case.block_tables.clone()
        tables[1, 8] = block
        with pytest.raises(ValueError, match=rf"^block_tables\[1, 8\]: want 0 to 59, got {block}$"):
            attend(tables=tables)
        tables[1] = case.block_tables[1]
        tables[1, 9] = block  # beyond its 130 tokens: padding, which nobody reads
        attend(tables=tables)
    for context in (ints(4, 130, 1, 200), ints(5, 13 * 16 + 1, 1, 200), ints(5, 130, -1, 200)):
        with pytest.raises(ValueError, match=r"^context_len\[\d\]: "):
            attend(context=context)
    for start in (ints(0, 5, 4, 43, 44), ints(-1, 5, 42, 43, 44), ints(0, 5, 42, 43, 45)):
        with pytest.raises(ValueError, match=r"^query_start\["):
            attend(start=start)
    with pytest.raises(ValueError, match=r"^context_len: want \[4\], got torch.int32 \[3\]"):
        attend(context=CONTEXT_LEN[:3])
    with pytest.raises(ValueError, match=r"^block_tables: want int32"):
        attend(tables=case.block_tables.long())


def test_wrong_caches_are_refused_by_name() -> None:
    case = Case(4, 2, 32)
    out = torch.empty(case.query.shape)
    for key_cache, value_cache, name in (
        (case.key_cache[:, :, :31], case.value_cache, "key_cache"),
        (case.key_cache.repeat(1, 2, 1)[:, :3], case.value_cache, "key_cache"),
        (case.key_cache, case.value_cache[1:], "value_cache"),
        (case.key_cache, case.value_cache.bfloat16(), "value_cache"),
        (case.key_cache.half(), case.value_cache, "key_cache"),
    ):
        with pytest.raises(ValueError, match=rf"^{name}: want"):
            prefill_attention(
                case.query, key_cache, value_cache, case.block_tables, QUERY_START, CONTEXT_LEN, out, **case.options
            )


@pytest.mark.usefixtures("instruction_set", "threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kv_heads", "size"), [(4, 64), (1, 63), (3, 5)])
def test_store_kv_writes_rows_and_skips_padding(kv_heads: int, size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    key, value = torch.randn(40, 3 * kv_heads, size)[:, kv_heads:].split(kv_heads, 1)
    slots = torch.randperm(200)[:40].int()
    slots[::7] = -1
    caches = [torch.zeros(200, kv_heads, size, dtype=dtype) for _ in range(4)]
    store_kv(key, value, caches[0], caches[1], slots)
    store_kv_reference(key, value, caches[2], caches[3], slots)
    assert torch.equal(caches[0], caches[2])
    assert torch.equal(caches[1], caches[3])


def test_bfloat16_is_rounded_as_torch_rounds() -> None:
    odd = [0.0, -0.0, 1.0, 1.00390625, 1.01171875, 3.4e38, -3.4e38, float("inf"), -float("inf"), float("nan"), 1e-40]
    key = torch.tensor(odd).reshape(1, 1, -1)
    cache = torch.zeros(1, 1, len(odd), dtype=torch.bfloat16)
    store_kv(key, key, cache, cache.clone(), ints(0))
    torch.testing.assert_close(cache, key.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("slot", [-2, 200, 2**31 - 1])
def test_a_slot_outside_the_cache_is_refused_and_not_followed(slot: int) -> None:
    key, cache = torch.randn(2, 1, 8), torch.zeros(200, 1, 8)
    with pytest.raises(ValueError, match=rf"^slot_mapping\[1\]: want -1 to 199, got {slot}$"):
        store_kv(key, key, cache, cache.clone(), ints(0, slot))
    assert (cache == 0).all()
