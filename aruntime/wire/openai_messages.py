"""What OpenAI clients send as messages, tools and a choice of tools; they become parts of a conversation.

{"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {…}}]}
{"role": "tool", "tool_call_id": "call_1", "content": "22 °C"}
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from aruntime.wire import refused
from aruntime.wire.body import Ignored, Strict, unserved, wrong
from aruntime.wire.conversation import (
    CALLS_MAX,
    TOOLS_MAX,
    Arguments,
    CallId,
    FunctionName,
    Message,
    Role,
    Schema,
    Tool,
    ToolCall,
    ToolChoice,
    check_differ,
    unasked,
)
from aruntime.wire.fields import text_or_list

_PARSED = "what the openai package has made of the text beside it"


class TextPart(Strict):
    """A piece of a message's content."""

    not_served = refused.TEXT_PART

    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_kinds_by_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") in ("image_url", "input_audio", "file", "refusal"):
            raise unserved("type", "want text: models here read nothing else")
        return value


class FunctionCall(Strict):
    """What was called, with the arguments as they were said."""

    name: FunctionName
    arguments: Arguments
    parsed_arguments: Annotated[Any, Ignored(_PARSED)] = None


class ToolCallItem(Strict):
    """A call in an assistant's message."""

    id: CallId
    type: Literal["function"] = "function"
    function: FunctionCall


# `developer` and `function` are names that templates do not know.
_ROLES: dict[str, Role] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


class ChatMessage(Strict):
    """One message of a conversation. A message of an answer can be sent back as it came."""

    not_served = refused.MESSAGE

    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: (
        Annotated[
            Annotated[str, Tag("(text)")]
            | Annotated[list[TextPart], Field(min_length=1, max_length=256, fail_fast=True), Tag("(list)")],
            Discriminator(text_or_list),
        ]
        | None
    ) = None
    name: Annotated[str, Field(max_length=64)] | None = None
    tool_calls: Annotated[list[ToolCallItem], Field(max_length=CALLS_MAX, fail_fast=True)] | None = None
    tool_call_id: CallId | None = None
    function_call: FunctionCall | None = None  # the older name of one tool_call
    reasoning_content: str | None = None
    reasoning: str | None = None  # what vLLM calls reasoning_content
    parsed: Annotated[Any, Ignored(_PARSED)] = None

    @model_validator(mode="after")
    def _what_the_role_has(self) -> "ChatMessage":
        if self.content is None and not self.tool_calls and not self.function_call:
            raise wrong("content", "want a text")
        if self.role == "function" and not self.name:
            raise wrong("name", "a message of a function has it")
        for name in ("tool_calls", "function_call", "reasoning_content", "reasoning"):
            if getattr(self, name) and self.role != "assistant":
                raise wrong(name, "only an assistant has it")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise wrong("tool_call_id", "a message of a tool has it, and no other")
        return self

    def message(self) -> Message:
        """The message that it is: parts joined."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        return Message(
            role=_ROLES[self.role],
            content=content,
            name=self.name,
            reasoning=self.reasoning_content or self.reasoning or "",
            calls=self._calls(),
            call_id=_called(self.name) if self.role == "function" else self.tool_call_id or "",
        )

    def _calls(self) -> tuple[ToolCall, ...]:
        calls = [ToolCall(call.id, call.function.name, call.function.arguments) for call in self.tool_calls or ()]
        if one := self.function_call:
            calls.append(ToolCall(_called(one.name), one.name, one.arguments))
        return tuple(calls)


class Function(Strict):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """The tool that it is."""
        return Tool(self.name, self.description or "", self.parameters, bool(self.strict))


class FunctionTool(Strict):
    """A tool of the only kind that is served."""

    type: Literal["function"]
    function: Function

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_kinds_by_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") == "custom":
            raise unserved("type", "want function: a custom tool's free text is no JSON")
        return value

    def tool(self) -> Tool:
        """The tool that it is."""
        return self.function.tool()


class FunctionChoiceName(Strict):
    """The name in a choice."""

    name: FunctionName


class FunctionChoice(Strict):
    """A choice of one function."""

    type: Literal["function"]
    function: FunctionChoiceName


class AllowedTools(Strict):
    """A choice of several."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Field(min_length=1, max_length=TOOLS_MAX, fail_fast=True)]


class AllowedToolsChoice(Strict):
    """A choice of several."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _kind_of_choice(value: object) -> str:
    if isinstance(value, dict):
        return "(allowed)" if value.get("type") == "allowed_tools" else "(function)"
    return "(word)"


_CHOICES = {
    None: ToolChoice(),
    "auto": ToolChoice(),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
}
ChosenTools = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("(word)")]
    | Annotated[FunctionChoice, Tag("(function)")]
    | Annotated[AllowedToolsChoice, Tag("(allowed)")],
    Discriminator(_kind_of_choice),
]


def _results_answer_calls(messages: list[ChatMessage]) -> list[ChatMessage]:
    results = any(one.role in ("tool", "function") for one in messages)
    place = unasked([one.message() for one in messages]) if results else None
    if place is not None and messages[place].role == "function":
        raise wrong(f"{place}.name", "no earlier message has a call of it")
    if place is not None:
        raise wrong(f"{place}.tool_call_id", "no earlier message has a call with this id")
    return messages


def _called(function: str | None) -> str:
    """The id of a call that has none."""
    return f"function_{function}"


def _names_differ(tools: list[FunctionTool]) -> list[FunctionTool]:
    check_differ([tool.function.name for tool in tools], "function.name")
    return tools


Messages = Annotated[
    list[ChatMessage], Field(min_length=1, max_length=4096, fail_fast=True), AfterValidator(_results_answer_calls)
]
Tools = Annotated[list[FunctionTool], Field(max_length=TOOLS_MAX, fail_fast=True), AfterValidator(_names_differ)]


def chosen(choice: str | FunctionChoice | AllowedToolsChoice | None, tools: Sequence[FunctionTool]) -> ToolChoice:
    """The choice among `tools` that a body's `tool_choice` is; PydanticCustomError names what is wrong in it."""
    if isinstance(choice, FunctionChoice):
        made, place = ToolChoice("required", (choice.function.name,)), "function.name"
    elif isinstance(choice, AllowedToolsChoice):
        names = dict.fromkeys(one.function.name for one in choice.allowed_tools.tools)
        made, place = ToolChoice(choice.allowed_tools.mode, tuple(names)), "allowed_tools.tools"
    else:
        made, place = _CHOICES[choice], ""
    if made.mode == "required" and not tools:
        raise PydanticCustomError("no_tools", "only allowed when tools are given")
    known = {tool.function.name for tool in tools}
    if unknown := [name for name in made.names if name not in known]:
        raise wrong(place, f"no tool is called {unknown[0]}")
    return made
