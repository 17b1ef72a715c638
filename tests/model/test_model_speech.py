"""Which family a template belongs to, what models that know no tools are told, and marks that are special tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from aruntime.model.chat_template import ChatTemplate
from aruntime.model.speech.described import described
from aruntime.model.speech.formats import HERMES, LLAMA_3, MISTRAL, THOUGHTS, CallFormat, Speech, speech_of
from aruntime.model.tokenizer import Tokenizer as Ours

TOOL = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "time", "arguments": {"zone": "CET"}}}


@pytest.mark.parametrize(
    ("source", "calls", "shows_tools"),
    [
        ("{{ messages }}", HERMES, False),
        ("{{ tools }}{{ messages }}", HERMES, False),  # nobody knows how it writes calls
        ("{% if tools %}<tool_call>{% endif %}", HERMES, True),
        ("{% if tools %}[AVAILABLE_TOOLS]{{ tools }}{% endif %}[TOOL_CALLS]", MISTRAL, True),
        ("{{ tools }}<tool_call><function=", HERMES, False),  # Qwen's later way is another
        ("""{{ tools }}{{ '{"name": "' }}{{ '"parameters": ' }}{{ 'ipython' }}""", LLAMA_3, True),
    ],
)
def test_a_template_tells_its_family(source: str, calls: CallFormat, shows_tools: bool) -> None:
    speech = speech_of(ChatTemplate(source, {}))
    assert (speech.calls, speech.shows_tools, speech.thoughts) == (calls, shows_tools, None)


def test_a_template_that_refuses_several_calls_is_given_none() -> None:
    assert speech_of(ChatTemplate("{{ raise_exception('only single tool-calls at once') }}", {})).single


def test_marks_that_are_special_tokens_cannot_be_spelled() -> None:
    template = ChatTemplate("{{ tools }}[TOOL_CALLS][/THINK]", {})
    assert (speech_of(template).spells_calls, speech_of(template).spells_thoughts) == (True, True)
    speech = speech_of(template, {"[TOOL_CALLS]", "[/THINK]"})
    assert (speech.spells_calls, speech.spells_thoughts) == (False, False)


def test_a_template_tells_how_thoughts_are_written() -> None:
    assert speech_of(ChatTemplate("{{ m.split('</think>') }}", {})).thoughts == THOUGHTS[0]
    assert speech_of(ChatTemplate("[THINK]x[/THINK]", {})).thoughts == THOUGHTS[1]
    assert speech_of(None) == Speech()


def test_tools_calls_and_results_become_text_for_a_template_that_knows_none() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "9:00", "tool_call_id": "c1"},
        {"role": "tool", "content": "9:01", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Nine."},
    ]
    system, user, calling, results, nine = described(messages, [TOOL])
    assert system["content"].startswith("Be brief.\n\n# Tools")
    assert json.dumps(TOOL, separators=(",", ":")) in system["content"]
    call = '<tool_call>\n{"name":"time","arguments":{"zone":"CET"}}\n</tool_call>'
    assert calling == {"role": "assistant", "content": f"{call}\n{call}"}
    answers = "<tool_response>\n9:00\n</tool_response>\n<tool_response>\n9:01\n</tool_response>"
    assert results == {"role": "user", "content": answers}
    assert (user, nine) == (messages[1], messages[5])


def test_what_is_told_of_tools_stands_first() -> None:
    first, second = described([{"role": "user", "content": "When?"}], [TOOL])
    assert (first["role"], second["role"]) == ("system", "user")


@pytest.fixture
def mistral(tmp_path: Path) -> Ours:
    """A tokenizer to which the mark of calls is a special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in ("</s>", "[TOOL_CALLS]")])
    made.save(str(tmp_path / "tokenizer.json"))
    return Ours.from_folder(tmp_path)


@pytest.mark.parametrize("windows", [False, True])
def test_marks_that_are_special_tokens_are_heard_and_no_others(mistral: Ours, windows: bool) -> None:
    if windows:  # a decoder of neither family
        mistral._vocabulary._byte_level = False
    ids = mistral.encode("a[TOOL_CALLS]é</s>", special=True)
    texts = []
    for marks in (True, False):
        detokenizer = mistral.detokenizer(marks=marks)
        texts.append("".join([detokenizer.push(number) for number in ids]) + detokenizer.finish())
    assert texts == ["a[TOOL_CALLS]é", "aé"]
