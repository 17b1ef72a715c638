"""Which tokens are told with which text: at stop strings, in pieces of characters, of a prompt."""

from pathlib import Path

import pytest
from http_house import byte_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from aruntime.admission.ticket import Output, Scored
from aruntime.http.choices import Choice
from aruntime.http.scores import Scorer
from aruntime.http.stops import StopText
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.records import FinishReason
from aruntime.wire.said import Likely, Part, Reasoning, Said, Text


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A token for each byte."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return Tokenizer.from_folder(folder)


def scored(tokenizer: Tokenizer, stops: tuple[str, ...] = (), *, shown: bool = False, min_tokens: int = 0) -> Choice:
    scorer = Scorer(tokenizer)
    return Choice(scorer, StopText(stops, shown=shown), min_tokens, scorer=scorer)


def say(
    tokenizer: Tokenizer, choice: Choice, text: str, finish: FinishReason = FinishReason.NONE, first: int = 0
) -> Said:
    """What the choice makes of the tokens of `text`, whose logprobs are their places, negated, from `first` on."""
    ids = tokenizer.encode(text)
    scores = [-float(first + i) for i in range(len(ids))]
    return choice.take(Output(0, ids, finish, logprobs=scores, alternatives=[[(id_, -0.5)] for id_ in ids]))


def test_each_token_is_told_with_its_text_bytes_place_and_alternatives(tokenizer: Tokenizer) -> None:
    said = say(tokenizer, scored(tokenizer), "ab", FinishReason.STOP)
    assert said.text == "ab"
    assert [(one.text, one.data, one.logprob, one.offset) for one in said.tokens] == [
        ("a", b"a", 0.0, 0),
        ("b", b"b", -1.0, 1),
    ]
    assert said.tokens[1].top == (Likely("b", b"b", -0.5),)


def test_the_pieces_of_a_character_are_told_when_it_is_whole(tokenizer: Tokenizer) -> None:
    choice = scored(tokenizer)
    ids = tokenizer.encode("é")
    first = choice.take(Output(0, ids[:1], logprobs=[-1.0], alternatives=[[]]))
    assert (first.text, first.tokens) == ("", [])
    second = choice.take(Output(0, ids[1:], logprobs=[-2.0], alternatives=[[]]))
    assert second.text == "é"
    assert [(one.text, one.data, one.offset) for one in second.tokens] == [
        ("\ufffd", b"\xc3", 0),
        ("\ufffd", b"\xa9", 0),
    ]


def test_a_token_waits_with_the_text_that_may_become_a_stop_string(tokenizer: Tokenizer) -> None:
    choice = scored(tokenizer, ("END",))
    said = say(tokenizer, choice, "aEN")
    assert (said.text, [one.text for one in said.tokens]) == ("a", ["a"])
    said = say(tokenizer, choice, "x", first=3)
    assert (said.text, [one.logprob for one in said.tokens]) == ("ENx", [-1.0, -2.0, -3.0])


@pytest.mark.parametrize(("shown", "told"), [(False, "a"), (True, "aEND")])
def test_tokens_of_a_stop_string_are_told_when_it_is_shown(tokenizer: Tokenizer, shown: bool, told: str) -> None:
    said = say(tokenizer, scored(tokenizer, ("END",), shown=shown), "aENDb")
    assert said.text == told == "".join(one.text for one in said.tokens)


@given(text=st.text("abE", max_size=12), cuts=st.sets(st.integers(1, 11)), stop=st.text("abE", min_size=1, max_size=3))
def test_tokens_joined_are_the_text_wherever_steps_end(
    tokenizer: Tokenizer, text: str, cuts: set[int], stop: str
) -> None:
    choice, said, first = scored(tokenizer, (stop,)), Said(), 0
    edges = [*sorted(cut for cut in cuts if cut < len(text)), len(text)]
    for edge in edges:
        finish = FinishReason.LENGTH if edge == len(text) else FinishReason.NONE
        said.add(say(tokenizer, choice, text[first:edge], finish, first))
        assert "".join(one.text for one in said.tokens) == said.text
        first = edge
        if choice.stopped:
            break
    assert [one.logprob for one in said.tokens] == [-float(i) for i in range(len(said.text))]


def test_a_prompt_is_echoed_with_its_own_logprobs_and_none_for_its_first_token(tokenizer: Tokenizer) -> None:
    scorer = Scorer(tokenizer, prompt=True)
    prompt = tokenizer.encode("pq")
    choice = Choice(scorer, StopText(("p",)), scorer=scorer, echo=prompt)
    said = choice.take(
        Output(
            0, tokenizer.encode("a"), FinishReason.LENGTH, logprobs=[-2.0], alternatives=[[]],
            prompt=[Scored(prompt[1], -1.0, [(prompt[0], -0.5)])],
        )
    )  # fmt: skip
    assert said.text == "pqa"
    assert [(one.text, one.logprob, one.offset) for one in said.tokens] == [
        ("p", None, 0),
        ("q", -1.0, 1),
        ("a", -2.0, 2),
    ]
    assert said.tokens[1].top == (Likely("p", b"p", -0.5),)
    assert choice.tokens == 1


def test_a_prompt_of_one_token_is_echoed_too(tokenizer: Tokenizer) -> None:
    scorer = Scorer(tokenizer, prompt=True)
    choice = Choice(scorer, StopText(()), scorer=scorer, echo=tokenizer.encode("p"))
    said = say(tokenizer, choice, "a", FinishReason.LENGTH)
    assert [(one.text, one.logprob) for one in said.tokens] == [("p", None), ("a", 0.0)]


def test_a_silent_choice_says_its_prompt_and_nothing_else(tokenizer: Tokenizer) -> None:
    scorer = Scorer(tokenizer, prompt=True)
    prompt = tokenizer.encode("pq")
    choice = Choice(scorer, StopText(()), scorer=scorer, echo=prompt, silent=True)
    said = choice.take(
        Output(
            0, prompt[:1], FinishReason.LENGTH, logprobs=[0.0], alternatives=[[]], prompt=[Scored(prompt[1], -1.0, [])]
        )
    )
    assert (said.text, [one.logprob for one in said.tokens], choice.tokens) == ("pq", [None, -1.0], 0)
    assert choice.finish is not None
    assert choice.finish.reason == "length"


class Thinker:
    """A listener to whom all up to a full stop is a thought."""

    def __init__(self) -> None:
        self.over = False
        self._thinks = True

    def push(self, text: str) -> list[Part]:
        part: Part = Reasoning(text) if self._thinks else Text(text)
        self._thinks = self._thinks and text != "."
        return [part]

    def finish(self) -> list[Part]:
        return []


def test_tokens_of_thoughts_are_told_and_counted_and_a_stop_string_that_is_cut_off_is_not(tokenizer: Tokenizer) -> None:
    scorer = Scorer(tokenizer)
    choice = Choice(scorer, StopText(("END",)), listener=Thinker(), scorer=scorer)
    said = say(tokenizer, choice, "hmE.ok E")
    assert "".join(one.text for one in said.tokens) == "hmE.ok "
    said = say(tokenizer, choice, "ND more")
    assert (said.text, said.tokens) == ("", [])
    assert (choice.tokens, choice.reasoning_tokens) == (10, 4)
