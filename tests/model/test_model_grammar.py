"""Grammars on the demo model's vocabulary: what they allow, what is refused, and that bombs are."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aruntime.model.grammar import GrammarBroken, GrammarRefused, Grammars, Matcher, check, packed
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.grammars import Json, choice_grammar, json_grammar, pieces_grammar, regex_grammar

DEMO = Path(__file__).parents[2] / "examples/repository/demo/1"
VOCAB = 2048
BOMB_S_MAX = 5.0  # a bound against hanging, not a figure: bench/results/grammars.md has those
POINT: dict[str, Any] = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "name": {"type": "string", "maxLength": 5}},
    "required": ["x", "name"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(DEMO)


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    assert tokenizer.eos_id is not None
    return Grammars.from_folder(DEMO, VOCAB, [tokenizer.eos_id])


def allowed(matcher: Matcher, words: int) -> set[int]:
    row = np.zeros(words, np.int32)
    matcher.mask(row)
    return set(np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist())


def takes(grammars: Grammars, tokenizer: Tokenizer, grammar: str, text: str) -> bool:
    """Whether a text is allowed token by token, and may end there."""
    matcher = grammars.matcher(grammar)
    for token in tokenizer.encode(text, add_bos=False):
        if token not in allowed(matcher, grammars.words):
            return False
        matcher.accept(token)
    return matcher.accepting and tokenizer.eos_id in allowed(matcher, grammars.words)


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        (json_grammar(POINT), '{"x": 1, "name": "ab"}', '{"x": 1, "name": "abcdef"}'),
        (json_grammar(POINT), '{\n    "x": 1,\n    "name": ""}', '{"x":   1, "name": ""}'),
        (json_grammar(POINT), '{"x":-12,"name":"é"}', '{"x":1.5,"name":"a"}'),
        (json_grammar({"type": "object"}), '{"a": [1, {"b": null}]}', "[1]"),
        (regex_grammar(r"\d{4}/\d\d"), "2026/11", "2026-11"),
        (regex_grammar("^a+$"), "aaa", "b"),
        (choice_grammar(["yes", "no", 'qu"ote\n']), 'qu"ote\n', "maybe"),
        ('start: sum\nsum: NUM ("+" NUM)*\nNUM: /[0-9]+/', "1+22", "1+"),
        (
            pieces_grammar([["<call>", Json(POINT), "</call>"]], between="\n", repeated=True),
            '<call>{"x": 1, "name": "a"}</call>\n<call>{"x": 2, "name": "b"}</call>',
            '<call>{"x": 1, "name": "a"}</call>\n',
        ),
    ],
)
def test_a_grammar_allows_what_it_says_and_nothing_else(
    grammars: Grammars, tokenizer: Tokenizer, grammar: str, good: str, bad: str
) -> None:
    check(grammar)
    assert takes(grammars, tokenizer, grammar, good)
    assert not takes(grammars, tokenizer, grammar, bad)


def test_no_special_token_is_ever_allowed_but_the_end(grammars: Grammars, tokenizer: Tokenizer) -> None:
    for grammar in ("start: /(?s:.)*/", "start: <[*]>", "start: /(?s:.)*/ <[1]>?"):
        found = allowed(grammars.matcher(grammar), grammars.words)
        assert not found & (tokenizer.special_ids - {tokenizer.eos_id})


def test_a_token_that_may_not_follow_breaks_its_matcher(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.matcher('start: "a"')
    with pytest.raises(GrammarBroken):
        matcher.accept(tokenizer.encode("b", add_bos=False)[0])


def test_two_sequences_of_one_grammar_have_places_of_their_own(grammars: Grammars, tokenizer: Tokenizer) -> None:
    one, other = (grammars.matcher('start: "ab"') for _ in range(2))
    before = allowed(other, grammars.words)
    one.accept(tokenizer.encode("a", add_bos=False)[0])
    assert allowed(other, grammars.words) == before != allowed(one, grammars.words)


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "start: /(/",
        r"start: /(a)\1/",
        "start: <|im_end|>",
        "start: nobody",
        "start: %json false",
        'start: %json {"$ref": "#"}',
        'start: %json {"$ref": "http://127.0.0.1/schema"}',
        'start: %json {"$ref": "file:///etc/passwd"}',
        json_grammar({"not": {"type": "string"}}),
        json_grammar({"type": "string", "format": "nobody-knows"}),
    ],
)
def test_what_cannot_be_followed_is_refused(grammar: str) -> None:
    with pytest.raises(GrammarRefused) as caught:
        check(grammar)
    assert 0 < len(str(caught.value)) <= 200


def test_what_no_grammar_can_hold_is_let_be_unless_it_is_strict() -> None:
    check(json_grammar({"type": "array", "uniqueItems": True}, strict=False))
    with pytest.raises(GrammarRefused, match="uniqueItems"):
        check(json_grammar({"type": "array", "uniqueItems": True}))


def _doubling(levels: int) -> dict[str, Any]:
    defs: dict[str, Any] = {"l0": {"type": "string"}}
    for level in range(1, levels + 1):
        one = {"$ref": f"#/$defs/l{level - 1}"}
        defs[f"l{level}"] = {"allOf": [{"anyOf": [one, {"items": one}]}, {"anyOf": [one, {"items": one}]}]}
    return {"$defs": defs, "$ref": f"#/$defs/l{levels}"}


BOMBS = {
    "nested": "start: %json " + '{"items":' * 10_000 + "{}" + "}" * 10_000,
    "a ring": json_grammar({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    "doubling": json_grammar(_doubling(20)),
    "an allOf of anyOfs": json_grammar(
        {"allOf": [{"anyOf": [{"properties": {f"a{i}": {}}}, {"properties": {f"b{i}": {}}}]} for i in range(24)]}
    ),
    "many properties": json_grammar({"properties": {f"p{i}": {"type": "string"} for i in range(2_000)}}),
    "a tiny fraction": json_grammar({"type": "number", "multipleOf": 0.000001234567}),
    "counts of counts": regex_grammar("((a{1,100}){1,100}){1,100}"),
    "an exponential automaton": regex_grammar("(.*a.{20}){20}"),
    "brackets": regex_grammar("(" * 4_000 + "a" + ")" * 4_000),
    "left recursion": 'start: start start | start start start | "a" |',
    "a cycle of terminals": "start: A\nA: B\nB: A\n",
    "a complement of a product": "start: A\nA: ~/(.*a.{12}){4}/ & ~/(.*b.{12}){4}/\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_breaks_its_own_sequence_soon(name: str, grammars: Grammars, tokenizer: Tokenizer) -> None:
    started_s = time.perf_counter()
    with suppress(GrammarRefused, GrammarBroken):
        check(BOMBS[name])
        matcher = grammars.matcher(BOMBS[name])
        for _ in range(30):
            found = sorted(allowed(matcher, grammars.words) - {tokenizer.eos_id})
            if not found:
                break
            matcher.accept(found[len(found) // 2])
    assert time.perf_counter() - started_s < BOMB_S_MAX


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=40))
def test_any_text_is_a_grammar_or_is_refused(text: str) -> None:
    for grammar in (text, "start: " + text, "start: %json " + json.dumps({"pattern": text})):
        with suppress(GrammarRefused):
            check(grammar)


def test_a_mask_packs_tokens_from_the_lowest_bit_on() -> None:
    truth = np.zeros(40, np.bool_)
    truth[[0, 33]] = True
    assert packed(truth).tolist() == [1, 2]
