"""Tools for models whose template knows none: described in the system message, calls and results told as text.

    system      …  # Tools  {"type": "function", "function": {"name": "weather", …}}
    assistant   <tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>
    user        <tool_response>22 °C</tool_response>

The words are those on which Hermes and Qwen models were trained, and others do well with.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import orjson

_BEFORE = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
"""
_AFTER = """
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""


def described(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation, as a template takes it that knows neither tools nor calls nor results."""
    plain: list[dict[str, Any]] = []
    for are_results, some in groupby(messages, key=lambda message: message["role"] == "tool"):
        if are_results:
            plain.append({"role": "user", "content": "\n".join(map(_result, some))})
        else:
            plain += map(_as_text, some)
    return _with_tools(plain, tools) if tools else plain


def _as_text(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [f"<tool_call>\n{_call(call['function'])}\n</tool_call>" for call in message.get("tool_calls", ())]
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "content": "\n".join([text for text in (message["content"], *calls) if text])}


def _call(function: Mapping[str, Any]) -> str:
    return orjson.dumps({"name": function["name"], "arguments": function["arguments"]}).decode()


def _result(message: Mapping[str, Any]) -> str:
    return f"<tool_response>\n{message['content']}\n</tool_response>"


def _with_tools(messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    words = _BEFORE + "\n".join([orjson.dumps(tool).decode() for tool in tools]) + _AFTER
    if messages and messages[0]["role"] == "system":
        system = {**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}
        return [system, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]
