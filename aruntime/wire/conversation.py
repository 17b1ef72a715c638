"""A conversation and its tools, whatever the protocol: what the endpoints' bodies become, and what chat templates see.

    system -> user -> assistant (calls a, b) -> tool (answers a) -> tool (answers b) -> assistant -> user …

Bodies are checked as they are read. The types of the fields that all protocols have are here too, with their checks.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from aruntime.base.errors import InvalidRequest
from aruntime.wire.body import load_object, wrong

TOOLS_MAX = 128  # OpenAI's bound
CALLS_MAX = 128  # of one message: as many as there are tools
DEPTH_MAX = 64  # lists and objects within each other; OpenAI's schemas have 10 levels, each some three of these
SCHEMA_BYTES_MAX = 128 << 10  # OpenAI: 120,000 characters of names and values
OPTIONS_MAX = 16
_NAME = r"^[a-zA-Z0-9_-]{1,64}$"
_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")

Role = Literal["system", "user", "assistant", "tool"]
Option = str | int | float | bool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What an assistant asked to be done. `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str

    def for_template(self) -> dict[str, object]:
        """As templates know it: the arguments are an object, not a text."""
        arguments = orjson.loads(self.arguments) if self.arguments else {}
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. An assistant's has perhaps `calls` and what it thought; a tool's is the result of call `call_id`."""

    role: Role
    content: str
    name: str | None = None
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""

    def for_template(self) -> dict[str, object]:
        """What a chat template sees, in the keys that Hugging Face's templates know."""
        message: dict[str, object] = {"role": self.role, "content": self.content}
        if self.name is not None:
            message["name"] = self.name
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [call.for_template() for call in self.calls]
        if self.call_id:
            message["tool_call_id"] = self.call_id
        return message

    @property
    def characters(self) -> int:
        """How long it is, roughly: what is spent on it grows with that."""
        return len(self.content) + len(self.reasoning) + sum(len(call.arguments) for call in self.calls)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that may be called. `parameters` is the JSON schema of its arguments; `strict` holds a call to it."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool = False

    @property
    def schema(self) -> Mapping[str, Any]:
        """What the arguments must satisfy: without parameters, an object."""
        return {"type": "object", "properties": {}} if self.parameters is None else self.parameters

    def for_template(self) -> dict[str, object]:
        """As transformers hands it to a template."""
        about = {"description": self.description} if self.description else {}
        return {"type": "function", "function": {"name": self.name, **about, "parameters": self.schema}}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools may be called (auto), must be (required) or must not; `names` are the only ones, if it has any.

    A call of one certain function is `required` with one name.
    """

    mode: Literal["none", "auto", "required"] = "auto"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a language model goes on from. `options` are a template's own switches, such as `enable_thinking`."""

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    choice: ToolChoice = ToolChoice()
    parallel_calls: bool = True
    options: Mapping[str, Option] | None = None

    @property
    def messages_for_template(self) -> list[dict[str, object]]:
        """What a chat template sees of the messages; a tool's has the name of what was called, as some insist on."""
        called = {call.id: call.name for message in self.messages for call in message.calls}
        shown = [message.for_template() for message in self.messages]
        for message in shown:
            if message["role"] == "tool":
                message.setdefault("name", called.get(str(message["tool_call_id"])))
        return shown

    @property
    def callable_tools(self) -> Sequence[Tool]:
        """The tools that may be called."""
        if self.choice.mode == "none":
            return ()
        return [tool for tool in self.tools if not self.choice.names or tool.name in self.choice.names]

    @property
    def characters(self) -> int:
        """How long it is, roughly."""
        tools = sum(len(tool.description) + len(orjson.dumps(tool.parameters)) for tool in self.tools)
        return tools + sum(message.characters for message in self.messages)


def unasked(messages: Sequence[Message]) -> int | None:
    """The place of the first tool message that answers no call of an earlier message; None when all do."""
    asked: set[str] = set()
    for place, message in enumerate(messages):
        asked.update(call.id for call in message.calls)
        if message.role == "tool" and message.call_id not in asked:
            return place
    return None


def check_differ(names: Sequence[str], field: str) -> None:
    """Names of tools must differ; the error names the `field` of the first that does not."""
    seen: set[str] = set()
    for place, name in enumerate(names):
        if name in seen:
            raise wrong(f"{place}.{field}", "another tool has this name")
        seen.add(name)


def _arguments(text: str) -> str:
    try:
        parsed = load_object(text.encode(), "it") if text else {}
    except InvalidRequest as error:
        raise PydanticCustomError(
            "arguments", "want the text of a JSON object: {why}", {"why": error.message}
        ) from None
    bounded_depth(parsed)
    return text


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    bounded_depth(value)
    if (size := len(orjson.dumps(value))) > SCHEMA_BYTES_MAX:
        raise PydanticCustomError("schema_size", f"has {size} bytes, at most {SCHEMA_BYTES_MAX}")
    return value


def bounded_depth(value: dict[str, Any]) -> dict[str, Any]:
    """`value`, whose lists and objects are at most DEPTH_MAX levels deep; PydanticCustomError."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        items = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer)]
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return value
    raise PydanticCustomError("depth", f"is deeper than {DEPTH_MAX} levels")


def _options(value: dict[str, Option]) -> dict[str, Option]:
    for name in value:
        if not _OPTION_NAME.fullmatch(name):
            raise PydanticCustomError("option_name", "want names of [a-z][a-z0-9_]", {"name": name[:64]})
    return value


FunctionName = Annotated[str, Field(pattern=_NAME)]
CallId = Annotated[str, Field(min_length=1, max_length=256)]
Arguments = Annotated[str, AfterValidator(_arguments)]
Schema = Annotated[dict[str, Any], AfterValidator(_schema)]
Options = Annotated[
    dict[str, bool | int | float | Annotated[str, Field(max_length=1024)]],
    Field(max_length=OPTIONS_MAX),
    AfterValidator(_options),
]
