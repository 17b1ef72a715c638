"""How the families of models write calls and thoughts, and which family a chat template belongs to.

    hermes    <tool_call>{"name": "f", "arguments": {…}}</tool_call>        Hermes, Qwen; and models that know no tools
    llama 3   {"name": "f", "parameters": {…}}   <|python_tag|>{…}; {…}     nothing else is said
    mistral   [TOOL_CALLS][{"name": "f", "arguments": {…}}, …]              [TOOL_CALLS]f[ARGS]{…} from version 11 on
    thoughts  <think>…</think>   [THINK]…[/THINK]                           before anything else; some prompts open one

A listener (`listening.py`) hears all of them; what a constrained call looks like is `before`, calls with what stands
`between` them, `after`: no special token is in it, since no grammar lets one through.
"""

import secrets
import string
from collections.abc import Callable, Collection
from dataclasses import dataclass

from aruntime.model.chat_template import ChatTemplate


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _short_call_id() -> str:
    """What Mistral's templates insist on."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(9))


@dataclass(frozen=True, slots=True)
class CallFormat:
    """How calls are written. `bare`: an answer that begins with an object is a call; `headed`: a name may go first."""

    opening: str
    closing: str = ""
    bare: bool = False
    headed: bool = False
    arguments: str = "arguments"
    before: str = ""
    between: str = ""
    after: str = ""
    new_id: Callable[[], str] = _call_id


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What stands around a thought."""

    opening: str
    closing: str


HERMES = CallFormat(
    opening="<tool_call>",
    closing="</tool_call>",
    before="<tool_call>\n",
    between="\n</tool_call>\n<tool_call>\n",
    after="\n</tool_call>",
)
LLAMA_3 = CallFormat(opening="<|python_tag|>", bare=True, arguments="parameters", between="; ")
MISTRAL = CallFormat(opening="[TOOL_CALLS]", headed=True, before="[", between=", ", after="]", new_id=_short_call_id)
_NOT_HERMES = ("<function=", "<arg_key>")  # later Qwen, GLM: within the same mark they write something else
_LLAMA_3_MARKS = ('{"name": "', '"parameters": ', "ipython")
THOUGHTS = (Thoughts("<think>", "</think>"), Thoughts("[THINK]", "[/THINK]"))
# A tokenizer may hold these to be special; a listener hears them all the same.
MARKS = frozenset(
    ["[ARGS]", "[CALL_ID]"]
    + [mark for one in (HERMES, LLAMA_3, MISTRAL) for mark in (one.opening, one.closing) if mark]
    + [mark for one in THOUGHTS for mark in (one.opening, one.closing)]
)


@dataclass(frozen=True, slots=True)
class Speech:
    """A model's ways. `shows_tools`: its template describes tools itself; else `described.py` puts them into words.

    `single`: its template refuses messages of several calls. `spells_calls`, `spells_thoughts`: the marks of either are
    no special tokens, so they can be said under a grammar too.
    """

    calls: CallFormat = HERMES
    shows_tools: bool = False
    thoughts: Thoughts | None = None
    single: bool = False
    spells_calls: bool = True
    spells_thoughts: bool = True


def speech_of(template: ChatTemplate | None, special: Collection[str] = ()) -> Speech:
    """The ways of the model with this template and these special tokens."""
    if template is None:
        return Speech()
    source = template.source
    thoughts = next((one for one in THOUGHTS if one.closing in source), None)
    known = _calls(source) if "tools" in template.names else None
    calls = known or HERMES
    return Speech(
        calls=calls,
        shows_tools=known is not None,
        thoughts=thoughts,
        single="single tool-call" in source,
        spells_calls=calls.opening not in special,
        spells_thoughts=thoughts is None or thoughts.closing not in special,
    )


def _calls(source: str) -> CallFormat | None:
    if MISTRAL.opening in source:
        return MISTRAL
    if HERMES.opening in source and not any(other in source for other in _NOT_HERMES):
        return HERMES
    return LLAMA_3 if all(mark in source for mark in _LLAMA_3_MARKS) else None
