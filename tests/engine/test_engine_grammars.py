"""Grammars beside the loop, on the demo model: answers that obey them, whoever else is in the step."""

import json
import os
import re
import select
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aruntime.engine.grammars import EngineGrammars
from aruntime.engine.runner import Runner
from aruntime.model.decoder import load_decoder
from aruntime.model.grammar import Grammars
from aruntime.model.kv_cache import KvCache
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.channel import create_bell
from aruntime.queue.records import FinishReason
from aruntime.queue.steering import steering
from aruntime.scheduler.scheduler import Scheduler
from aruntime.wire.grammars import choice_grammar, json_grammar, regex_grammar

DEMO = Path(__file__).parents[2] / "examples/repository/demo/1"
BLOCK_TOKENS, SEQUENCES, TOKENS = 16, 4, 64
POINT: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
    "additionalProperties": False,
}
GRAMMARS = {
    1: json_grammar(POINT),
    3: regex_grammar(r"[0-9]{4}-[0-9]{2}"),
    4: choice_grammar(["red", "green"]),
}
Told = dict[int, tuple[str, int]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(DEMO)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Iterator[EngineGrammars]:
    assert tokenizer.eos_id is not None
    bell = create_bell()
    yield EngineGrammars(Grammars.from_folder(DEMO, tokenizer.vocab_size, [tokenizer.eos_id]), bell)
    os.close(bell)


class World:
    """A scheduler and a runner of the demo model."""

    def __init__(self, grammars: EngineGrammars, tokenizer: Tokenizer, *, blocks: int = 64, steps_ahead: int = 0):
        decoder = load_decoder(DEMO, device="cpu", tokens_max=TOKENS, sequences_max=SEQUENCES)
        cache = KvCache(decoder.config, blocks, BLOCK_TOKENS, torch.float32)
        self.grammars, self.tokenizer, self.steps_ahead = grammars, tokenizer, steps_ahead
        self.runner = Runner(decoder, cache, SEQUENCES, grammars)
        self.scheduler = Scheduler(
            sequences_max=SEQUENCES,
            step_tokens_max=TOKENS,
            waiting_max=16,
            context_max=256,
            block_tokens=BLOCK_TOKENS,
            blocks=blocks,
            vocab=decoder.config.vocab,
            eos_token_ids=decoder.config.eos_token_ids,
        )

    def submit(self, slot: int, grammar: str = "", max_tokens: int = 60, bad_words: Any = ()) -> None:
        said = steering((), bad_words, grammar)
        prompt = self.tokenizer.encode(f"Tell me about number {slot}, and what you see there.")
        assert not self.scheduler.submit(
            front_end=1, slot=slot, generation=0, prompt=array("i", prompt), max_tokens=max_tokens, seed=slot,
            bad_words=said.bad_words, bad_word_tokens=said.bad_word_tokens, grammar_bytes=said.grammar_bytes,
            payload=said.payload,
        )  # fmt: skip
        if grammar:
            self.grammars.begin((1, slot, 0), grammar)

    def run(self) -> Told:
        """Until nothing is left: what each slot was told, and how it ended."""
        tokens: dict[int, list[int]] = {}
        ends: dict[int, int] = {}
        under_way = []
        for _ in range(20_000):
            for owner in self.scheduler.take_guided_ended():
                self.grammars.end(owner)
            for owner, good in self.grammars.ready():
                self.scheduler.release(*owner, good)
            plan = self.scheduler.plan(0.0)
            if plan.tokens:
                under_way.append(self.runner.launch(plan))
            while len(under_way) > (self.steps_ahead if plan.tokens else 0):
                sampled, logprobs, *_ = under_way.pop(0).fetch()
                self.scheduler.commit(sampled, 0.0, logprobs)
            for slot, _, token, _, finish, *_ in self.scheduler.take_outputs(1):
                tokens.setdefault(slot, []).extend([token] if token >= 0 else [])
                ends |= {slot: finish} if finish else {}
            stats = self.scheduler.stats()
            if not under_way and stats.running + stats.waiting + stats.paused == 0:
                break
        self.scheduler.check_integrity()
        return {slot: (self.tokenizer.decode(tokens[slot]), ends[slot]) for slot in tokens}


def answers(grammars: EngineGrammars, tokenizer: Tokenizer, only: set[int], **options: int) -> Told:
    world = World(grammars, tokenizer, **options)
    for slot in sorted(only):
        world.submit(slot, GRAMMARS.get(slot, ""))
    return world.run()


@pytest.mark.parametrize("options", [{}, {"steps_ahead": 1}, {"blocks": 9}, {"blocks": 9, "steps_ahead": 1}])
def test_constrained_answers_obey_and_change_nothing_of_their_neighbours(
    grammars: EngineGrammars, tokenizer: Tokenizer, options: dict[str, int]
) -> None:
    alone = answers(grammars, tokenizer, {0, 2, 5})
    together = answers(grammars, tokenizer, set(range(6)), **options)
    assert {slot: together[slot] for slot in alone} == alone
    city = json.loads(together[1][0])
    assert city.keys() == {"city", "sunny"}
    assert len(city["city"]) <= 12
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}", together[3][0])
    assert together[4][0] in ("red", "green")
    assert {together[slot][1] for slot in GRAMMARS} == {FinishReason.STOP}
    assert {slot: together[slot] for slot in GRAMMARS} == answers(grammars, tokenizer, set(GRAMMARS))


def test_an_answer_that_is_too_long_for_its_tokens_ends_by_length(
    grammars: EngineGrammars, tokenizer: Tokenizer
) -> None:
    world = World(grammars, tokenizer)
    world.submit(1, regex_grammar("a{50}"), max_tokens=3)
    text, end = world.run()[1]
    assert end == FinishReason.LENGTH
    assert re.fullmatch("a{3,49}", text)


def test_a_grammar_that_leaves_nothing_ends_its_own_sequence_only(
    grammars: EngineGrammars, tokenizer: Tokenizer
) -> None:
    alone = answers(grammars, tokenizer, {0, 2, 5})
    world = World(grammars, tokenizer)
    for slot in (0, 2, 5):
        world.submit(slot)
    every_digit = [
        (token,) for token in range(tokenizer.vocab_size) if tokenizer.decode([token]).strip() in list("0123456789")
    ]
    world.submit(6, regex_grammar("b[0-9]"), bad_words=every_digit[:200])
    world.submit(7, "start: nobody")
    told = world.run()
    assert told[6][1] == told[7][1] == FinishReason.GRAMMAR
    assert told[6][0] in ("", "b")
    assert {slot: told[slot] for slot in alone} == alone


def test_the_bell_rings_when_a_grammar_is_ready_and_one_that_ended_is_not_told(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_id is not None
    bell = create_bell()
    made = EngineGrammars(Grammars.from_folder(DEMO, tokenizer.vocab_size, [tokenizer.eos_id]), bell)
    made.begin((1, 0, 0), 'start: "a"')
    poller = select.poll()
    poller.register(bell, select.POLLIN)
    assert poller.poll(5_000)
    made.end((1, 0, 0))
    assert list(made.ready()) == []
    os.close(bell)
