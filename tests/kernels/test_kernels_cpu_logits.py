"""The operations on logits on a CPU: against the references, in the right proportions, hostile pairs refused."""

import math

import pytest
import torch
from aruntime_kernels import cpu
from aruntime_kernels.likely import likely, likely_reference
from aruntime_kernels.logits import ban, ban_reference, bias, bias_reference, penalize, penalize_reference
from aruntime_kernels.sample import sample, sample_reference
from torch import Tensor


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def settings(rows: int, **given: float) -> dict[str, Tensor]:
    """Sampling parameters of `rows` rows, off where not given."""
    kinds = {"top_k": torch.int32, "seed": torch.int64, "position": torch.int32}
    off = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 0, "position": 0}
    return {name: torch.full((rows,), value, dtype=kinds.get(name)) for name, value in {**off, **given}.items()}


def drawn(logits: Tensor, params: dict[str, Tensor], logprob: Tensor | None = None) -> Tensor:
    out = torch.full((len(logits),), -1, dtype=torch.int32)
    sample(logits, out, **params, logprob=logprob)
    return out


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("vocab", [1, 63, 2001])
@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0.0},
        {"temperature": 0.7},
        {"top_k": 1},
        {"top_k": 40, "temperature": 1.5},
        {"top_p": 0.3},
        {"top_p": 0.0},
        {"top_p": 0.95, "top_k": 100},
        {"min_p": 0.2},
        {"min_p": 0.01, "top_p": 0.9, "top_k": 500, "temperature": 0.3},
    ],
)
def test_sample_draws_as_the_reference_and_says_how_likely_the_token_was(vocab: int, given: dict[str, float]) -> None:
    torch.manual_seed(vocab)
    logits = torch.randn(12, vocab + 9)[:, :vocab] * 3
    params = settings(12, **given)
    params["seed"] = torch.randint(-(2**63), 2**63 - 1, (12,))
    params["position"] = torch.randint(0, 2**31 - 1, (12,), dtype=torch.int32)
    logprob, want, want_logprob = torch.empty(12), torch.empty(12, dtype=torch.int32), torch.empty(12)
    sample_reference(logits, want, **params, logprob=want_logprob)
    assert torch.equal(drawn(logits, params, logprob), want)
    torch.testing.assert_close(logprob, want_logprob, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("instruction_set")
def test_of_equal_logits_the_lowest_id_wins_a_greedy_row() -> None:
    logits = torch.zeros(3, 100)
    logits[0, [77, 13, 99]] = 2.0
    logits[1, [0, 99]] = 1.0
    assert drawn(logits, settings(3, temperature=0.0)).tolist() == [13, 0, 0]


@pytest.mark.usefixtures("instruction_set")
def test_rows_that_are_minus_infinity_or_nan_end_and_name_a_token() -> None:
    logits = torch.full((4, 70), -math.inf)
    logits[1, 66] = -5.0
    logits[2] = math.nan
    logits[3] = math.nan
    logits[3, 66] = 1.0
    for given in ({}, {"temperature": 0.0}, {"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.5}):
        assert drawn(logits, settings(4, **given)).tolist() == [0, 66, 0, 66], given


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_of_nothing_has_no_finite_logprob(temperature: float, value: float) -> None:
    """By this a probe tells a broken model: its token is in the vocabulary, as every other."""
    logprob = torch.zeros(2)
    drawn(torch.full((2, 70), value), settings(2, temperature=temperature), logprob)
    assert not logprob.isfinite().any()


def test_tokens_come_up_as_often_as_their_probability_says() -> None:
    draws, probabilities = 20_000, torch.tensor([0.5, 0.25, 0.15, 0.07, 0.02, 0.01])
    params = settings(draws)
    params["seed"] = torch.arange(draws)
    tokens = drawn(probabilities.log().repeat(draws, 1), params).long()
    expected = probabilities * draws
    chi_squared = ((tokens.bincount(minlength=6) - expected) ** 2 / expected).sum()
    assert chi_squared < 25.7  # five degrees of freedom: p = 0.0001


def test_rows_are_drawn_the_same_on_any_number_of_threads() -> None:
    torch.manual_seed(0)
    logits, params = torch.randn(50, 4000), settings(50, top_p=0.9)
    alone = drawn(logits, params)
    cpu.set_threads(3)
    try:
        assert torch.equal(drawn(logits, params), alone)
    finally:
        cpu.set_threads(1)


def test_a_draw_depends_on_seed_and_position_only() -> None:
    logits = torch.randn(1, 3000).repeat(30, 1)
    params = settings(30)
    assert len(set(drawn(logits, params).tolist())) == 1
    for name in ("seed", "position"):
        different = dict(params, **{name: torch.arange(30, dtype=params[name].dtype)})
        assert len(set(drawn(logits, different).tolist())) > 10


def test_wrong_parameters_are_refused_by_name() -> None:
    logits = torch.randn(2, 10)
    for name in settings(2):
        with pytest.raises(ValueError, match=rf"^{name}: want"):
            drawn(logits, dict(settings(2), **{name: settings(3)[name]}))
        with pytest.raises(ValueError, match=rf"^{name}: want"):
            drawn(logits, dict(settings(2), **{name: settings(2)[name].double()}))


def test_penalties_biases_and_bans_are_the_reference() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 90)[:, :80]
    place = torch.randperm(7 * 80)[:100]
    row, token = (place // 80).int(), (place % 80).int()
    counts, in_prompt = torch.randint(0, 4, (2, 100), dtype=torch.int32).unbind()
    presence, frequency, repetition = torch.randn(7), torch.randn(7), torch.rand(7) + 0.5
    want = logits.clone()
    penalize_reference(want, row, token, counts, in_prompt, presence, frequency, repetition)
    penalize(logits, row, token, counts, in_prompt, presence, frequency, repetition)
    torch.testing.assert_close(logits, want)
    strengths = torch.randn(100)
    bias_reference(want, row, token, strengths)
    bias(logits, row, token, strengths)
    torch.testing.assert_close(logits, want)
    ban_reference(want, row, token)
    ban(logits, row, token)
    torch.testing.assert_close(logits, want)


@pytest.mark.parametrize(("row", "token", "name"), [(-1, 0, "row"), (3, 0, "row"), (0, -1, "token"), (0, 10, "token")])
def test_a_pair_outside_the_logits_is_refused_and_not_followed(row: int, token: int, name: str) -> None:
    logits, floats = torch.zeros(3, 10), torch.ones(3)
    with pytest.raises(ValueError, match=rf"^{name}\[0\]: want 0 to"):
        ban(logits, ints(row), ints(token))
    with pytest.raises(ValueError, match=rf"^{name}\[0\]: want 0 to"):
        penalize(logits, ints(row), ints(token), ints(1), ints(1), floats, floats, floats)
    with pytest.raises(ValueError, match=rf"^{name}\[0\]: want 0 to"):
        bias(logits, ints(row), ints(token), floats[:1])
    with pytest.raises(ValueError, match=rf"^{name}\[0\]: want 0 to"):
        likely(logits, ints(row), ints(token), floats[:1], torch.zeros(1, 2, dtype=torch.int32), torch.zeros(1, 2))
    assert (logits == 0).all()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("vocab", [1, 63, 2001])
def test_the_likeliest_are_the_reference_s_and_of_equals_the_lowest_first(vocab: int) -> None:
    torch.manual_seed(vocab)
    logits = torch.randn(5, vocab + 9)[:, :vocab] * 3
    logits[1] = logits[1].round()
    logits[2, ::2] = math.nan
    logits[3] = -math.inf
    logits[3, 0] = 1.0
    row, token = ints(4, 1, 2, 3, 0), ints(0, vocab - 1, 0, 0, 0)
    got, want = ([torch.empty(5), torch.empty(5, 20, dtype=torch.int32), torch.empty(5, 20)] for _ in range(2))
    likely(logits, row, token, *got)
    likely_reference(logits, row, token, *want)
    assert torch.equal(got[1], want[1])
    for logprobs in zip(got[::2], want[::2], strict=True):
        one, other = (torch.where(logprob.isfinite(), logprob, -9999) for logprob in logprobs)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_likeliest_come_from_the_distribution_that_a_drawn_token_s_logprob_does(temperature: float) -> None:
    torch.manual_seed(1)
    logits, logprob = torch.randn(6, 999), torch.empty(6)
    token = drawn(logits, settings(6, temperature=temperature), logprob)
    again, top_token, top_logprob = torch.empty(6), torch.empty(6, 999, dtype=torch.int32), torch.empty(6, 999)
    likely(logits, torch.arange(6, dtype=torch.int32), token, again, top_token, top_logprob)
    assert torch.equal(again, logprob)
    assert torch.equal(top_logprob[top_token == token[:, None]], logprob)


def test_an_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(ValueError, match="'mmx' is unknown"):
        cpu.use_instruction_set("mmx")
