"""Biases, bad words and grammars: what is planned of them, and what is refused."""

import struct
from typing import Any

import pytest
from scheduler_play import GRAMMAR, INVALID, NONE, make, step, submit, told

from aruntime.queue.steering import Steering, steering


def asked(slot: int = 0, **words: Any) -> dict[str, Any]:
    return {"slot": slot, **steering(**words)._asdict()}


def bans(plan: Any) -> list[tuple[int, int]]:
    return list(zip(plan.banned_row.tolist(), plan.banned_token.tolist(), strict=True))


def test_a_bias_is_in_every_step_of_its_sequence_and_in_no_other() -> None:
    scheduler = make()
    submit(scheduler, 0)
    submit(scheduler, **asked(1, logit_bias=[(5, -100.0), (6, 2.5)]))
    for _ in range(2):
        plan = step(scheduler)
        assert (plan.bias_row.tolist(), plan.bias_token.tolist()) == ([1, 1], [5, 6])
        assert plan.bias.tolist() == [-100.0, 2.5]
    scheduler.cancel(1, 1, 0)
    assert step(scheduler).bias_row.tolist() == []


def test_a_word_is_banned_when_all_but_its_last_token_was_said() -> None:
    scheduler = make()
    submit(scheduler, **asked(bad_words=[(9,), (7, 8), (7, 7, 6)]))
    seen = [bans(step(scheduler, token)) for token in (7, 7, 5, 1)]
    assert seen == [[(0, 9)], [(0, 9), (0, 8)], [(0, 9), (0, 8), (0, 6)], [(0, 9)]]


def test_the_prompt_does_not_begin_a_bad_word() -> None:
    scheduler = make()
    submit(scheduler, prompt=[7, 7], **asked(bad_words=[(7, 8)]))
    assert bans(step(scheduler)) == []


@pytest.mark.parametrize(
    ("words", "ahead"),
    [({"logit_bias": [(5, 1.0)]}, True), ({"bad_words": [(5,)]}, True), ({"bad_words": [(5, 6)]}, False)],
)
def test_only_who_looks_back_is_not_planned_a_step_ahead(words: dict[str, Any], ahead: bool) -> None:
    scheduler = make()
    submit(scheduler, **asked(**words))
    scheduler.plan(0.0)
    assert scheduler.plan(0.0).tokens == ahead


def test_a_sequence_with_a_grammar_is_held_until_it_is_released() -> None:
    scheduler = make()
    assert submit(scheduler, **asked(grammar="g")) == NONE
    assert step(scheduler).tokens == 0
    scheduler.resume(1, 0, 0)  # a front end's word changes nothing
    assert step(scheduler).tokens == 0
    scheduler.release(1, 0, 0)
    for said in (-1, 7):
        plan = step(scheduler, 7)
        assert (plan.guided_row.tolist(), plan.guided_token.tolist()) == ([0], [said])
    assert scheduler.take_guided_ended() == []
    scheduler.cancel(1, 0, 0)
    assert scheduler.take_guided_ended() == [(1, 0, 0)]
    assert scheduler.take_guided_ended() == []


def test_a_grammar_that_is_no_good_ends_its_sequence_as_invalid() -> None:
    scheduler = make()
    submit(scheduler, **asked(grammar="g"))
    scheduler.release(1, 0, 0, good=False)
    assert told(scheduler) == [(0, -1, 0, GRAMMAR)]


def test_who_is_held_may_be_cancelled_and_released_too_late() -> None:
    scheduler = make()
    submit(scheduler, **asked(grammar="g"))
    scheduler.cancel(1, 0, 0)
    scheduler.release(1, 0, 0)
    assert step(scheduler).tokens == 0
    assert len(told(scheduler)) == 1


GOOD = steering([(5, 1.0), (6, -1.0)], [(1,), (2, 3)], "g")


def payload(numbers: str, *values: float) -> bytes:
    return struct.pack(f"<{numbers}", *values) + GOOD.payload[struct.calcsize(f"<{numbers}") :]


@pytest.mark.parametrize(
    "changes",
    [
        {"bias_pairs": 301, "payload": bytes(8 * 299) + GOOD.payload},
        {"bias_pairs": 1},
        {"bad_words": 3},
        {"bad_words": 1, "bad_word_tokens": 4},
        {"bad_words": 0},
        {"bad_word_tokens": 2},
        {"grammar_bytes": 2**32 - 1},
        {"grammar_bytes": 0},
        {"top_logprobs": 21},
        {"payload": GOOD.payload[:-1]},
        {"payload": GOOD.payload + b"x"},
        {"payload": b""},
        {"payload": payload("if", 100, 1.0)},  # beyond the vocabulary
        {"payload": payload("if", -1, 1.0)},
        {"payload": payload("if", 6, 1.0)},  # twice
        {"payload": payload("if", 5, float("nan"))},
        {"payload": payload("if", 5, float("inf"))},
        {"payload": payload("ififi", 5, 1, 6, 1, 0)},  # a word of nothing
        {"payload": payload("ififi", 5, 1, 6, 1, -1)},
        {"payload": payload("ififi", 5, 1, 6, 1, 2)},
        {"payload": payload("ififi", 5, 1, 6, 1, 2**31 - 1)},
        {"payload": payload("ififii", 5, 1, 6, 1, 1, 100)},
        {"payload": payload("ififiii", 5, 1, 6, 1, 1, 1, 3)},
    ],
)
def test_a_payload_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    scheduler = make()
    assert submit(scheduler, **{**GOOD._asdict(), **changes}) == INVALID
    assert told(scheduler) == [(0, -1, 0, INVALID)]
    assert submit(scheduler, 1, **GOOD._asdict()) == NONE


def test_a_payload_that_nothing_speaks_of_is_refused() -> None:
    assert submit(make(), **Steering(payload=b"what?")._asdict()) == INVALID
