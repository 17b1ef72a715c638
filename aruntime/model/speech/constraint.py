"""The grammar of an answer that must be a call, may be one, or comes after a thought.

    required      thought? calls                  calls are <tool_call> {"name": "f", "arguments": …} </tool_call> …
    auto          thought? (calls | answer)       where the answer has a grammar of its own
    auto, strict  thought? (text call)* text      where a call that was opened is held to its schema

Arguments are JSON as the tool's schema says; what a grammar cannot hold of a schema is refused of a strict tool, and
let be of others. A thought is what the model makes of it, up to its closing mark.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from aruntime.model.speech.formats import CallFormat, Speech, Thoughts
from aruntime.wire.conversation import Conversation, Tool
from aruntime.wire.grammars import Json

CALLS_MAX = 16  # of a constrained answer: a model that is made to call knows no end of its own
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def constraint(speech: Speech, conversation: Conversation, answer: str = "", *, opens_thought: bool = False) -> str:
    """The grammar of the next answer in a conversation; "" when it may be anything.

    `answer` is the grammar of its text, if that has one. `opens_thought`: the prompt began a thought.
    """
    tools = conversation.callable_tools
    thoughts = speech.thoughts if speech.spells_thoughts else None
    if tools and conversation.choice.mode == "required":
        rules = ["body: calls", *_calls(speech, conversation, tools)]
    elif tools and answer:
        rules = ["body: calls | answer", *_calls(speech, conversation, tools), _embedded(answer)]
    elif answer and thoughts:
        rules = ["body: answer", _embedded(answer)]
    elif any(tool.strict for tool in tools) and (speech.spells_calls or speech.calls.bare):
        rules = _strict(speech, conversation, tools)
    else:
        return answer
    return "\n".join([*_thought(thoughts, opens_thought), *rules, *_TERMINALS])


_TERMINALS = [r"SPACE: /\s{0,4}/", r"TEXT: /(.|\n)*/", r"NO_CALL: /([^{\[](.|\n)*)?/"]


def _thought(thoughts: Thoughts | None, opened: bool) -> list[str]:
    if thoughts is None:
        return ["start: body"]
    if opened:
        return ["start: thought SPACE body", f'thought[lazy]: TEXT "{thoughts.closing}"']
    return [
        "start: (thought SPACE)? body",
        f'thought[lazy]: SPACE "{thoughts.opening}" TEXT "{thoughts.closing}"',
    ]


def _calls(speech: Speech, conversation: Conversation, tools: Sequence[Tool]) -> list[str]:
    """One call, or several."""
    calls = speech.calls
    rows = [_call(calls, tool, tool.schema) for tool in tools]
    more = f"({_literal(calls.between)} call){{0,{CALLS_MAX - 1}}}" if _several(speech, conversation) else ""
    return [f"calls: {_literal(calls.before)} call {more} {_literal(calls.after)}", *_alternatives(rows)]


def _strict(speech: Speech, conversation: Conversation, tools: Sequence[Tool]) -> list[str]:
    """Text and calls; the arguments of a tool that is not strict are any object."""
    calls = speech.calls
    if calls.bare:
        return ["body: calls | NO_CALL", *_calls(speech, conversation, tools)]
    rows = [_call(calls, tool, tool.schema if tool.strict else _ANY_OBJECT) for tool in tools]
    return [
        f"body: told{'*' if _several(speech, conversation) else '?'} TEXT",
        f'told: open SPACE call SPACE "{calls.closing}"',
        f'open[lazy]: TEXT "{calls.opening}"',
        *_alternatives(rows),
    ]


def _several(speech: Speech, conversation: Conversation) -> bool:
    named = conversation.choice.mode == "required" and len(conversation.choice.names) == 1
    return conversation.parallel_calls and not speech.single and not named


def _call(calls: CallFormat, tool: Tool, schema: Mapping[str, Any]) -> str:
    before = f'{{"name": "{tool.name}", "{calls.arguments}": '
    arguments = Json({**schema, "type": "object"}, tool.strict)
    return f'{_literal(before)} {arguments} "}}"'


def _alternatives(rows: Sequence[str]) -> list[str]:
    names = [f"call_{number}" for number in range(len(rows))]
    return [f"call: {' | '.join(names)}", *(f"{name}: {row}" for name, row in zip(names, rows, strict=True))]


def _embedded(grammar: str) -> str:
    return f"answer: %lark {{\n{grammar}\n}}"


def _literal(text: str) -> str:
    return orjson.dumps(text).decode() if text else ""
