"""The input items, tools and choices of the Responses API; they become the messages of a conversation.

    message (user, system, developer)   message (assistant)  reasoning  function_call   function_call_output

An item of an answer can be sent back as it came. What follows each other on the assistant's side is one message.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from aruntime.wire import refused
from aruntime.wire.body import Ignored, NotServed, Strict, unserved, wrong
from aruntime.wire.conversation import (
    TOOLS_MAX,
    Arguments,
    CallId,
    FunctionName,
    Message,
    Schema,
    Tool,
    ToolCall,
    ToolChoice,
    check_differ,
    unasked,
)
from aruntime.wire.fields import text_or_list

ITEMS_MAX = 4096
ItemId = Annotated[str, Field(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]
_STATUS = "an item is what it holds"


class Part(Strict):
    """A piece of a text: of what is sent, or of what was said."""

    not_served = {  # noqa: RUF012
        **refused.TEXT_PART,
        "annotations": NotServed("there are no citations", []),
    }

    type: Literal["input_text", "output_text"]
    text: str
    logprobs: Annotated[list[dict[str, Any]] | None, Ignored("told again as they were")] = None


def _text_part(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") in ("input_image", "input_file", "input_audio", "refusal"):
        raise unserved("type", "want input_text or output_text: models here read nothing else")
    return value


Parts = Annotated[list[Annotated[Part, BeforeValidator(_text_part)]], Field(max_length=256, fail_fast=True)]
Content = Annotated[Annotated[str, Tag("(text)")] | Annotated[Parts, Tag("(list)")], Discriminator(text_or_list)]


class MessageItem(Strict):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: Annotated[ItemId | None, Ignored("a message is what it holds")] = None
    status: Annotated[Status | None, Ignored(_STATUS)] = None
    phase: Annotated[Literal["commentary", "final_answer"] | None, Ignored("templates have no place for it")] = None


class ReasoningText(Strict):
    """A piece of a thought."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Strict):
    """What the model thought."""

    type: Literal["reasoning"]
    id: Annotated[ItemId | None, Ignored("a thought is what it holds")] = None
    summary: Annotated[list[ReasoningText] | None, Ignored("thoughts are told whole")] = None
    content: Annotated[list[ReasoningText] | None, Field(max_length=256, description="shown to the template")] = None
    status: Annotated[Status | None, Ignored(_STATUS)] = None
    not_served = {"encrypted_content": NotServed("thoughts are told openly")}  # noqa: RUF012


class CallItem(Strict):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: CallId
    name: FunctionName
    arguments: Arguments
    id: Annotated[ItemId | None, Ignored("a call is known by call_id")] = None
    status: Annotated[Status | None, Ignored(_STATUS)] = None
    not_served = {  # noqa: RUF012
        "async": NotServed("calls are the client's to make", False),
        "caller": NotServed("calls are the model's own", {"type": "direct"}),
        "namespace": NotServed("tools have no namespaces"),
    }


class ResultItem(Strict):
    """What a call came to."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Content
    id: Annotated[ItemId | None, Ignored("a result is known by call_id")] = None
    name: Annotated[ItemId | None, Ignored("a result is known by call_id")] = None
    status: Annotated[Status | None, Ignored(_STATUS)] = None
    not_served = {  # noqa: RUF012
        "caller": NotServed("calls are the model's own", {"type": "direct"}),
        "namespace": NotServed("tools have no namespaces"),
    }


Item = MessageItem | ReasoningItem | CallItem | ResultItem
_KINDS = ("message", "reasoning", "function_call", "function_call_output")


def _kind(value: object) -> str:
    return f"({value.get('type', 'message')})" if isinstance(value, dict) else "(message)"


def _known_kind(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type", "message") not in _KINDS:
        raise unserved("type", f"want {', '.join(_KINDS)}")
    return value


AnyItem = Annotated[
    Annotated[MessageItem, Tag("(message)")]
    | Annotated[ReasoningItem, Tag("(reasoning)")]
    | Annotated[CallItem, Tag("(function_call)")]
    | Annotated[ResultItem, Tag("(function_call_output)")],
    Discriminator(_kind),
    BeforeValidator(_known_kind),
]
Items = Annotated[list[AnyItem], Field(min_length=1, max_length=ITEMS_MAX, fail_fast=True)]


def text_of(content: str | Iterable[Part] | Iterable[ReasoningText]) -> str:
    """What all parts say."""
    return content if isinstance(content, str) else "".join([part.text for part in content])


def conversed(instructions: str | None, items: Iterable[Item]) -> list[Message]:
    """The messages of a conversation. InvalidRequest is the caller's to raise for results of no call: `unanswered`."""
    messages = [Message("system", instructions)] if instructions else []
    turn: list[Item] = []
    for item in items:
        if isinstance(item, ResultItem) or (isinstance(item, MessageItem) and item.role != "assistant"):
            messages += _assistant(turn)
            turn = []
            messages.append(_other(item))
        else:
            if isinstance(item, MessageItem | ReasoningItem) and any(
                not isinstance(one, ReasoningItem) for one in turn
            ):
                messages += _assistant(turn)
                turn = []
            turn.append(item)
    return messages + _assistant(turn)


def _other(item: MessageItem | ResultItem) -> Message:
    if isinstance(item, ResultItem):
        return Message("tool", text_of(item.output), call_id=item.call_id)
    return Message("user" if item.role == "user" else "system", text_of(item.content))


def _assistant(turn: Sequence[Item]) -> list[Message]:
    """What the assistant thought, said and called, in one message; none for a thought that led to nothing."""
    if all(isinstance(item, ReasoningItem) for item in turn):
        return []
    return [
        Message(
            "assistant",
            "".join([text_of(item.content) for item in turn if isinstance(item, MessageItem)]),
            reasoning="".join([text_of(item.content or ()) for item in turn if isinstance(item, ReasoningItem)]),
            calls=tuple(
                ToolCall(item.call_id, item.name, item.arguments) for item in turn if isinstance(item, CallItem)
            ),
        )
    ]


def unanswered(messages: Sequence[Message]) -> str | None:
    """The id of a call that a result claims to answer and nobody made."""
    place = unasked(messages)
    return None if place is None else messages[place].call_id


class FunctionTool(Strict):
    """A tool of the only kind that is served: a function, flat. It is told again as it came, `type` first."""

    not_served = {  # noqa: RUF012
        "allowed_callers": NotServed("calls are the model's own", ["direct"]),
        "async": NotServed("calls are the client's to make", False),
        "defer_loading": NotServed("there is no search of tools", False),
        "output_schema": NotServed("what a call came to is shown as it is"),
    }

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: Schema | None = None
    strict: bool | None = None

    def tool(self) -> Tool:
        """The tool that it is."""
        return Tool(self.name, self.description or "", self.parameters, bool(self.strict))


def _function(value: Any) -> Any:
    """Built-in tools, which run at OpenAI, are refused by name."""
    if isinstance(value, dict) and value.get("type") != "function":
        raise unserved("type", "want function: this server runs no tools of its own")
    return value


def _names_differ(tools: list[FunctionTool]) -> list[FunctionTool]:
    check_differ([tool.name for tool in tools], "name")
    return tools


Tools = Annotated[
    list[Annotated[FunctionTool, BeforeValidator(_function)]],
    Field(max_length=TOOLS_MAX, fail_fast=True),
    AfterValidator(_names_differ),
]


class FunctionChoice(Strict):
    """A choice of one function."""

    type: Literal["function"]
    name: FunctionName


class AllowedTools(Strict):
    """A choice of several."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Field(min_length=1, max_length=TOOLS_MAX, fail_fast=True)]


def _kind_of_choice(value: object) -> str:
    if isinstance(value, dict):
        return "(allowed)" if value.get("type") == "allowed_tools" else "(function)"
    return "(word)"


ChosenTools = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("(word)")]
    | Annotated[FunctionChoice, Tag("(function)")]
    | Annotated[AllowedTools, Tag("(allowed)")],
    Discriminator(_kind_of_choice),
]


def chosen(
    choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools | None, tools: Sequence[FunctionTool]
) -> ToolChoice:
    """The choice among `tools` that a body's `tool_choice` is; PydanticCustomError names what is wrong in it."""
    if isinstance(choice, FunctionChoice):
        made, place = ToolChoice("required", (choice.name,)), "name"
    elif isinstance(choice, AllowedTools):
        made, place = ToolChoice(choice.mode, tuple(dict.fromkeys(one.name for one in choice.tools))), "tools"
    else:
        made, place = ToolChoice(choice or "auto"), ""
    if made.mode == "required" and not tools:
        raise PydanticCustomError("no_tools", "only allowed when tools are given")
    known = {tool.name for tool in tools}
    if unknown := [name for name in made.names if name not in known]:
        raise wrong(place, f"no tool is called {unknown[0]}")
    return made
