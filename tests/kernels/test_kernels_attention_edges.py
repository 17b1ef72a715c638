"""What attention must not read, and what its bits must not depend on."""

import itertools

import pytest
import torch
from aruntime_kernels.decode_attention import (
    CHUNK,
    decode_attention_reference,
    decode_attention_triton,
    decode_workspace,
)
from aruntime_kernels.prefill_attention import prefill_attention_reference, prefill_attention_triton
from kernels_house import DEVICE, Paged, close, ints, nan, normal

CONTEXTS = [1, 15, 16, 17, 255, 256, 257, 511, 513, 700]


def poison(paged: Paged, contexts: list[int]) -> None:
    """Leave only the rows of the contexts; all others, in blocks half filled or not used, become NaN."""
    used = torch.zeros(len(paged.key), dtype=torch.bool, device=DEVICE)
    for table, context in zip(paged.tables.long(), contexts, strict=True):
        position = torch.arange(context, device=DEVICE)
        used[table[position // 16] * 16 + position % 16] = True
    paged.key[~used] = float("nan")
    paged.value[~used] = float("nan")


@pytest.mark.parametrize("window", [0, 1, 64, 300])
def test_decode_attention_reads_nothing_that_was_not_written(window: int) -> None:
    paged = Paged(CONTEXTS, 2, 32, torch.float32)
    poison(paged, CONTEXTS)
    query = normal(len(CONTEXTS), 6, 32)
    want = nan(*query.shape)
    decode_attention_reference(
        query, paged.key, paged.value, paged.tables, paged.context, want, window=window, **paged.options
    )
    close(paged.decode(query, window), want)


@pytest.mark.parametrize("window", [0, 40])
def test_prefill_attention_reads_nothing_that_was_not_written(window: int) -> None:
    contexts = [17, 130, 1]
    paged = Paged(contexts, 1, 32, torch.float32)
    poison(paged, contexts)
    start = ints(0, 17, 50, 51)  # the second is the last 33 of 130
    query = normal(51, 3, 32)
    got, want = nan(*query.shape), nan(*query.shape)
    for operation, out in ((prefill_attention_triton, got), (prefill_attention_reference, want)):
        operation(
            query, paged.key, paged.value, paged.tables, start, paged.context, out, window=window, **paged.options
        )
    close(got, want)


@pytest.mark.parametrize("steepness", [4, 400])  # at 400 a part weighed by anything but the largest score overflows
@pytest.mark.parametrize("order", ["rising", "falling"])
def test_parts_that_are_merged_in_several_rounds_are_all_counted(order: str, steepness: int) -> None:
    contexts = [CHUNK * 33 + 5, CHUNK * 16, CHUNK * 16 + 1]
    paged = Paged(contexts, 1, 16, torch.float32)
    query = normal(3, 2, 16).abs()
    for table, context in zip(paged.tables.long(), contexts, strict=True):
        # Keys that grow or shrink along the context, so that the largest score lies in the last part or in the first.
        position = torch.arange(context, device=DEVICE)
        size = position if order == "rising" else context - position
        paged.key[table[position // 16] * 16 + position % 16] = (steepness * size / context)[:, None, None]
    want = nan(*query.shape)
    decode_attention_reference(query, paged.key, paged.value, paged.tables, paged.context, want, **paged.options)
    # A float32 score of 2,000 is good to 1e-4, and so then is its weight.
    torch.testing.assert_close(paged.decode(query), want, rtol=0, atol=2e-3 if steepness > 4 else 1e-5)


def test_a_row_without_context_is_zero_and_disturbs_no_other() -> None:
    paged = Paged([300, 40], 2, 32, torch.float32)
    query = normal(2, 4, 32)
    whole = paged.decode(query)
    paged.context = ints(300, 0)
    padded = paged.decode(query)
    assert torch.equal(padded[0], whole[0])
    assert torch.equal(padded[1], torch.zeros_like(padded[1]))


def test_a_context_past_its_table_reads_no_further_than_the_table() -> None:
    paged = Paged([48, 48], 2, 32, torch.float32)
    query = normal(2, 4, 32)
    whole = paged.decode(query)
    paged.context = ints(48, 5000)
    assert torch.equal(paged.decode(query), whole)


@pytest.mark.parametrize("window", [0, 100])
def test_the_bits_of_decode_do_not_depend_on_the_company(window: int) -> None:
    paged = Paged(CONTEXTS, 2, 32, torch.float16)
    query = normal(len(CONTEXTS), 4, 32, dtype=torch.float16)
    together = paged.decode(query, window)
    for row in range(len(CONTEXTS)):
        alone = paged.decode(query[row : row + 1], window, slice(row, row + 1))
        assert torch.equal(alone[0], together[row])


def test_the_bits_of_a_prompt_do_not_depend_on_the_company() -> None:
    contexts = [90, 33, 64]
    paged = Paged(contexts, 2, 32, torch.float16)
    query = normal(sum(contexts), 4, 32, dtype=torch.float16)
    together, alone = nan(*query.shape, dtype=torch.float16), nan(*query.shape, dtype=torch.float16)
    start = [0, 90, 123, 187]
    arguments = (paged.key, paged.value)
    prefill_attention_triton(query, *arguments, paged.tables, ints(*start), paged.context, together, **paged.options)
    for s, (begin, end) in enumerate(itertools.pairwise(start)):
        prefill_attention_triton(
            query[begin:end],
            *arguments,
            paged.tables[s : s + 1],
            ints(0, end - begin),
            paged.context[s : s + 1],
            alone[begin:end],
            **paged.options,
        )
    assert torch.equal(together, alone)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="a CUDA graph needs a GPU")
def test_one_captured_graph_serves_every_length() -> None:
    paged = Paged([2000, 2000, 2000], 2, 64, torch.float16)
    query = normal(3, 8, 64, dtype=torch.float16)
    out = nan(3, 8, 64, dtype=torch.float16)
    partial = decode_workspace(3, 8, 64, paged.tables.shape[1] * 16 + CHUNK, DEVICE)

    def step() -> None:
        decode_attention_triton(
            query, paged.key, paged.value, paged.tables, paged.context, out, partial=partial, **paged.options
        )

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for contexts in ([1, 2000, 300], [2000, 256, 257], [0, 5, 1999]):
        paged.context.copy_(ints(*contexts))
        graph.replay()
        replayed = out.clone()
        step()
        assert torch.equal(replayed, out)
