"""The draw itself: its generator, its distribution, and what filters keep where logits are hostile."""

import math

import pytest
import torch
import triton
import triton.language as tl
from aruntime_kernels._draw import exponential, exponential_of, exponential_reference, philox_reference
from aruntime_kernels.sample import sample_reference, sample_triton
from kernels_house import DEVICE, draws, nan

BOTH = pytest.mark.parametrize("operation", [sample_triton, sample_reference])


# Known answers of Random123 1.14 (kat_vectors).
@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 0xFFFFFFFFFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter: list[int], key: int, words: list[int]) -> None:
    assert philox_reference(key, torch.tensor(counter)).tolist() == words


def test_no_word_gives_a_draw_of_zero_or_infinity() -> None:
    e = exponential_of(torch.tensor([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFF7F, 0xFFFFFFFE, 0xFFFFFFFF]))
    assert bool((e > 0).all())
    assert bool(e.isfinite().all())
    assert bool((e.diff() >= 0).all())


def test_the_variable_is_exponential_to_its_smallest_values() -> None:
    e = exponential_reference(1 << 20, seed=5, position=3).double()
    ordered = e.sort().values
    expected = 1 - torch.exp(-ordered)
    ranks = torch.arange(1, len(e) + 1) / len(e)
    assert float((expected - ranks).abs().max()) < 1.63 / math.sqrt(len(e))  # Kolmogorov-Smirnov, 1 %
    # A lattice of 2**-24, as of -log of a uniform near 1, would give fewer than 200 values here.
    assert len(set(ordered[:1000].tolist())) > 990


@triton.jit
def _exponential_kernel(out, seed, position):
    token = tl.arange(0, 1024)[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(out + token, exponential(token, seed, position))


def test_the_kernel_has_the_variable_of_the_reference_over_its_whole_range() -> None:
    out = nan(4096)
    _exponential_kernel[(1,)](out, 1 << 40, 6)
    want = exponential_reference(4096, 1 << 40, 6)
    assert float(want.min()) < 2.0**-6 < 0.5 < float(want.max())  # on both sides of where the formula changes
    torch.testing.assert_close(out.cpu(), want, rtol=2e-5, atol=0)  # a GPU's logarithm near 1 is good to that


def test_tokens_come_as_often_as_softmax_says() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, float("-inf")]], device=DEVICE).repeat(2000, 1)
    tokens, _ = draws(sample_reference, logits, list(range(2000)), [0] * 2000, temperature=0.7)
    seen = torch.bincount(tokens.long().cpu(), minlength=5) / 2000
    wanted = torch.softmax(logits[0].cpu() / 0.7, -1)
    assert float((seen - wanted).abs().max()) < 3 * math.sqrt(0.25 / 2000)
    assert seen[4] == 0


def test_a_filter_changes_no_draw_that_it_keeps() -> None:
    logits = torch.randn(40, 300, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(3)) * 3
    seeds, positions = list(range(40)), [9] * 40
    free, _ = draws(sample_triton, logits, seeds, positions)
    kept, _ = draws(sample_triton, logits, seeds, positions, top_p=0.6)
    inside = []
    for row, token in zip(logits.cpu(), free.tolist(), strict=True):
        mass = torch.softmax(row.double(), -1)
        inside.append(float(mass[row > row[token]].sum()) < 0.6)
    assert any(inside)
    assert not all(inside)
    assert [a == b for a, b in zip(free.tolist(), kept.tolist(), strict=True)] == inside


@BOTH
def test_a_top_p_of_zero_is_the_largest(operation: object) -> None:
    logits = torch.tensor([[0.0, 3.0, 2.9, 1.0]], device=DEVICE)
    assert {draws(operation, logits, [seed], [0], top_p=0.0)[0].item() for seed in range(8)} == {1}


@BOTH
def test_equals_of_the_kth_logit_all_stay(operation: object) -> None:
    logits = torch.tensor([[1.0, 5.0, 1.0, 0.5, 1.0]], device=DEVICE)
    tokens = {draws(operation, logits, [seed], [0], top_k=2, temperature=4.0)[0].item() for seed in range(60)}
    assert tokens == {0, 1, 2, 4}


@BOTH
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_nan_or_a_banned_logit_is_never_drawn(operation: object, temperature: float) -> None:
    logits = torch.full((1, 70), float("-inf"), device=DEVICE)
    logits[0, ::2] = float("nan")
    logits[0, 33] = -80.0
    for filters in ({}, {"top_k": 5}, {"top_p": 0.5}, {"min_p": 0.5}):
        token, logprob = draws(operation, logits, [1], [0], temperature=temperature, **filters)
        assert token.item() == 33
        assert abs(logprob.item()) < 1e-6


def test_a_row_of_nothing_still_gives_a_token_of_the_vocabulary() -> None:
    logits = torch.full((1, 70), float("nan"), device=DEVICE)
    for filters in ({"temperature": 0.0}, {}, {"top_k": 5, "top_p": 0.5, "min_p": 0.5}):
        assert draws(sample_triton, logits, [1], [0], **filters)[0].item() == 0


@pytest.mark.parametrize("top_k", [1, 2, 3, 255, 256, 257, 4097])
def test_the_kth_largest_is_found_among_all_signs_and_sizes(top_k: int) -> None:
    generator = torch.Generator(DEVICE).manual_seed(top_k)
    sizes = 10.0 ** torch.randint(-30, 28, (1, 5000), device=DEVICE, generator=generator)
    logits = torch.randn(1, 5000, device=DEVICE, generator=generator) * sizes
    logits[0, :3] = torch.tensor([0.0, -0.0, 1e-40], device=DEVICE)
    seeds = list(range(12))
    # So hot that the noise alone decides among the kept: one too many or too few soon shows.
    given = (logits.repeat(12, 1), seeds, [2] * 12)
    got, want = (draws(op, *given, temperature=1e32, top_k=top_k)[0] for op in (sample_triton, sample_reference))
    assert got.tolist() == want.tolist()


@BOTH
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_row_of_nothing_has_no_finite_logprob(operation: object, temperature: float, value: float) -> None:
    """By this a probe tells a broken model: its token is in the vocabulary, as every other."""
    logits = torch.full((1, 70), value, device=DEVICE)
    assert not draws(operation, logits, [1], [0], temperature=temperature)[1].isfinite().item()
