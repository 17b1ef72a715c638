"""What a constrained answer may be; and that no model at all, however it draws, can say anything but calls."""

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from aruntime.model.grammar import GrammarBroken, Grammars
from aruntime.model.speech.constraint import CALLS_MAX, constraint
from aruntime.model.speech.formats import HERMES, LLAMA_3, MISTRAL, THOUGHTS, CallFormat, Speech, Thoughts
from aruntime.model.speech.listening import listen
from aruntime.wire.conversation import Conversation, Tool, ToolChoice
from aruntime.wire.said import Part, Said

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [Tool("weather", "Now.", CITY, strict=True), Tool("time")]
THINK = THOUGHTS[0]
ANSWER = 'start: "yes" | "no"'
ROME = '{"city": "Rome"}'


END = 256


def byte_backend() -> Tokenizer:
    """A token for each byte, and an end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({character: i for i, character in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("</s>", special=True)])
    return made


BACKEND = byte_backend()
GRAMMARS = Grammars(BACKEND.to_str(), 257, [END])


def conversation(mode: Any = "required", names: tuple[str, ...] = (), *, parallel: bool = True) -> Conversation:
    return Conversation([], TOOLS, ToolChoice(mode, names), parallel)


def says(grammar: str, text: str) -> bool:
    """Whether an answer may be `text`."""
    matcher = GRAMMARS.matcher(grammar)
    try:
        for token in BACKEND.encode(text).ids:
            matcher.accept(token)
    except GrammarBroken:
        return False
    return matcher.accepting


def call(calls: CallFormat, name: str = "weather", arguments: str = ROME) -> str:
    return f'{{"name": "{name}", "{calls.arguments}": {arguments}}}'


@pytest.mark.parametrize("calls", [HERMES, LLAMA_3, MISTRAL])
def test_a_required_answer_is_calls(calls: CallFormat) -> None:
    grammar = constraint(Speech(calls), conversation())
    one = calls.before + call(calls) + calls.after
    assert says(grammar, one)
    assert says(grammar, calls.before + calls.between.join([call(calls), call(calls, "time", "{}")]) + calls.after)
    assert not says(grammar, "")
    assert not says(grammar, "Hello")
    assert not says(grammar, one + " Hello")
    assert not says(grammar, calls.before + call(calls, arguments='{"city": "Bonn"}') + calls.after)
    assert not says(grammar, calls.before + call(calls, "other") + calls.after)
    assert not says(grammar, calls.before + calls.between.join([call(calls)] * (CALLS_MAX + 1)) + calls.after)


@pytest.mark.parametrize(
    ("speech", "options"),
    [(Speech(), {"names": ("weather",)}), (Speech(), {"parallel": False}), (Speech(single=True), {})],
)
def test_a_call_comes_alone_that_is_named_or_not_parallel(speech: Speech, options: dict[str, Any]) -> None:
    grammar = constraint(speech, conversation(**options))
    assert says(grammar, HERMES.before + call(HERMES) + HERMES.after)
    assert not says(grammar, HERMES.before + HERMES.between.join([call(HERMES)] * 2) + HERMES.after)
    assert says(grammar, HERMES.before + call(HERMES, "time", "{}") + HERMES.after) != ("names" in options)


@pytest.mark.parametrize(
    ("thoughts", "opened", "before"),
    [
        (None, False, ""),
        (THINK, False, ""),
        (THINK, False, "<think>so < be it</think>\n\n"),
        (THINK, True, "it\n</think>\n"),
    ],
)
def test_a_thought_comes_first(thoughts: Thoughts | None, opened: bool, before: str) -> None:
    speech = Speech(thoughts=thoughts)
    calls = constraint(speech, conversation(), opens_thought=opened)
    assert says(calls, before + HERMES.before + call(HERMES) + HERMES.after)
    assert not says(calls, before + "yes")
    answer = constraint(speech, Conversation([]), ANSWER, opens_thought=opened)
    assert says(answer, before + "yes")
    assert not says(answer, before + "maybe")


def test_an_answer_with_a_grammar_of_its_own_may_be_calls_where_tools_are_given() -> None:
    grammar = constraint(Speech(), conversation("auto"), ANSWER)
    assert says(grammar, "yes")
    assert says(grammar, HERMES.before + call(HERMES) + HERMES.after)
    assert not says(grammar, "maybe")
    assert constraint(Speech(), Conversation([]), ANSWER) == ANSWER
    assert constraint(Speech(), conversation("none"), ANSWER) == ANSWER


def test_a_strict_tool_that_is_called_at_will_is_called_as_its_schema_says() -> None:
    grammar = constraint(Speech(), conversation("auto"))
    for text in (
        "",
        "Hello < there",
        f"So: <tool_call>\n{call(HERMES)}\n</tool_call> and <tool_call>{call(HERMES)}</tool_call>!",
    ):
        assert says(grammar, text)
    assert says(grammar, f"<tool_call>{call(HERMES, 'time', ROME)}</tool_call>")
    assert not says(grammar, f"<tool_call>{call(HERMES, arguments='{}')}</tool_call>")
    assert not says(grammar, "<tool_call>oops")
    bare = constraint(Speech(LLAMA_3), conversation("auto"))
    assert says(bare, "Hello {")
    assert says(bare, call(LLAMA_3))
    assert not says(bare, call(LLAMA_3, arguments="{}"))


def test_without_strict_tools_an_answer_at_will_is_free() -> None:
    assert constraint(Speech(), Conversation([], TOOLS[1:])) == ""
    assert constraint(Speech(), Conversation([])) == ""


def test_where_the_mark_of_calls_is_a_special_token_they_are_not_constrained_at_will() -> None:
    speech = Speech(MISTRAL, spells_calls=False)
    assert constraint(speech, conversation("auto")) == ""
    assert says(constraint(speech, conversation()), MISTRAL.before + call(MISTRAL) + MISTRAL.after)


def test_a_thought_whose_mark_is_a_special_token_is_left_out() -> None:
    speech = Speech(thoughts=THINK, spells_thoughts=False)
    assert constraint(speech, Conversation([]), ANSWER, opens_thought=True) == ANSWER
    assert listen(speech, Conversation([]), opens_thought=True, constrained=True) is None


ENDS = [*BACKEND.encode('"}]<').ids, END]


def draw(grammar: str, chance: random.Random) -> str:
    """What a model says that draws anything it may, but what ends things half of the time."""
    matcher, row, said = GRAMMARS.matcher(grammar), np.zeros(GRAMMARS.words, np.int32), []
    while not matcher.stopped:
        matcher.mask(row)
        allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()
        ends = [token for token in allowed if token in ENDS]
        token = chance.choice(ends if ends and chance.random() < 0.5 else allowed)
        if token == END:
            break
        matcher.accept(token)
        said.append(token)
    return str(BACKEND.decode(said))


@pytest.mark.parametrize("calls", [HERMES, LLAMA_3, MISTRAL])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_a_model_draws_a_required_answer_is_heard_as_valid_calls(calls: CallFormat, seed: int) -> None:
    speech, asked = Speech(calls), Conversation([], TOOLS[:1], ToolChoice("required"))
    said = draw(constraint(speech, asked), random.Random(seed))
    listening = listen(speech, asked, constrained=True)
    assert listening is not None
    parts: list[Part] = [*(part for character in said for part in listening.push(character)), *listening.finish()]
    heard = Said(parts)
    assert (heard.text, heard.reasoning) == ("", "")
    assert 1 <= len(heard.calls) <= CALLS_MAX
    for one in heard.calls:
        arguments = json.loads(one.arguments)
        assert arguments["city"] in ("Rome", "Oslo")
        assert isinstance(arguments.get("days", 0), int)
