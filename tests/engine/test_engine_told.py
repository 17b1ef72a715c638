"""What is told beside the tokens is what transformers says of them; and what must be said or not said is or is not."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from engine_decoder import TOKENS, Told, answers, save

from aruntime.queue.steering import steering

Checkpoint = tuple[Path, transformers.LlamaForCausalLM]
LONG = [(7 * place) % 90 + 3 for place in range(2 * TOKENS + 11)]  # more than two chunks
GREEDY = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 12}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("told")
    return folder, save(folder)


def said(checkpoint: Checkpoint, **changes: Any) -> list[int]:
    """A greedy answer."""
    return answers(checkpoint[0], [{"prompt": LONG[:9], **GREEDY, **changes}])[0].tokens


@torch.inference_mode()
def likelihoods(model: transformers.LlamaForCausalLM, text: list[int]) -> torch.Tensor:
    """The log-softmax behind every token of `text`."""
    return torch.log_softmax(model(torch.tensor([text])).logits[0].float(), -1)


def check(told: Told, prompt: list[int], model: transformers.LlamaForCausalLM, top: int) -> None:
    """Every logprob and alternative that a request was told, against the model."""
    want = likelihoods(model, prompt + told.tokens)
    assert [token for token, _, _ in told.prompt] == prompt[1:]
    outputs = zip(told.tokens, told.logprobs, told.alternatives, strict=True)
    for place, (token, logprob, alternatives) in enumerate([*told.prompt, *outputs]):
        assert logprob == pytest.approx(float(want[place, token]), abs=1e-4)
        values, tokens = want[place].topk(top)
        assert [token for token, _ in alternatives] == tokens.tolist()
        assert [value for _, value in alternatives] == pytest.approx(values.tolist(), abs=1e-4)


@pytest.mark.parametrize("top", [0, 5, 20])
def test_the_prompt_and_the_answer_are_told_with_what_transformers_says(checkpoint: Checkpoint, top: int) -> None:
    folder, model = checkpoint
    asked = {"prompt": LONG, "top_logprobs": top, "prompt_logprobs": True, "temperature": 1.0, "max_tokens": 9}
    (told,) = answers(folder, [asked])
    check(told, LONG, model, top)


@pytest.mark.parametrize(("steps_ahead", "blocks"), [(0, 64), (1, 64), (0, 15), (1, 15)])
def test_neither_others_nor_a_step_ahead_nor_preemption_change_what_is_told(
    checkpoint: Checkpoint, steps_ahead: int, blocks: int
) -> None:
    folder, model = checkpoint
    requests: list[dict[str, Any]] = [
        {"prompt": LONG[: 20 + 9 * slot], "top_logprobs": 2 * slot, "prompt_logprobs": slot % 2 == 0}
        for slot in range(5)
    ]
    told = answers(folder, [*requests, *requests], steps_ahead=steps_ahead, blocks=blocks)
    for mine, request in zip(told, [*requests, *requests], strict=True):
        if request["prompt_logprobs"]:
            check(mine, request["prompt"], model, request["top_logprobs"])
        else:
            assert mine.prompt == []


def test_a_prompt_of_one_token_has_nothing_that_foretells_it(checkpoint: Checkpoint) -> None:
    (told,) = answers(checkpoint[0], [{"prompt": [5], "prompt_logprobs": True, "max_tokens": 1}])
    assert told.prompt == []
    assert len(told.tokens) == 1


def test_a_bias_makes_a_token_come_always_or_never_greedy_or_not(checkpoint: Checkpoint) -> None:
    plain = said(checkpoint)
    never = steering([(token, -100.0) for token in set(plain)])._asdict()
    always = steering([(42, 100.0)])._asdict()
    for temperature in (0.0, 1.0):
        assert not set(said(checkpoint, temperature=temperature, **never)) & set(plain)
        assert set(said(checkpoint, temperature=temperature, **always)) == {42}


def test_a_bias_is_in_what_a_token_s_logprob_comes_from(checkpoint: Checkpoint) -> None:
    folder, model = checkpoint
    asked = {"prompt": LONG[:9], **GREEDY, "max_tokens": 1, "top_logprobs": 3, **steering([(42, 3.0)])._asdict()}
    (told,) = answers(folder, [asked])
    with torch.inference_mode():
        logits = model(torch.tensor([LONG[:9]])).logits[0, -1].float()
    values, tokens = torch.log_softmax(logits + 3.0 * (torch.arange(len(logits)) == 42), -1).topk(3)
    assert [token for token, _ in told.alternatives[0]] == tokens.tolist()
    assert [value for _, value in told.alternatives[0]] == pytest.approx(values.tolist(), abs=1e-4)


def test_a_bad_word_is_not_said_and_its_beginning_may_be(checkpoint: Checkpoint) -> None:
    plain = said(checkpoint)
    word = tuple(plain[3:5])
    spoken = said(checkpoint, **steering(bad_words=[word])._asdict())
    assert spoken[:4] == plain[:4]
    assert word not in list(pairwise(spoken))
    assert not set(said(checkpoint, **steering(bad_words=[(plain[0],)])._asdict())) & {plain[0]}


def test_what_is_banned_is_no_alternative(checkpoint: Checkpoint) -> None:
    plain = said(checkpoint, max_tokens=1)
    asked = {"prompt": LONG[:9], **GREEDY, "top_logprobs": 20, **steering(bad_words=[tuple(plain)])._asdict()}
    (told,) = answers(checkpoint[0], [asked])
    assert all(len(alternatives) == 20 for alternatives in told.alternatives)
    assert plain[0] not in {token for alternatives in told.alternatives for token, _ in alternatives}
