"""What Anthropic's clients say of tools and of thinking; it becomes the tools of a conversation.

{"name": "weather", "description": "…", "input_schema": {"type": "object", …}}   {"type": "tool", "name": "weather"}
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from aruntime.wire.anthropic_messages import CacheWish, ToolName, kind_of, only
from aruntime.wire.body import Ignored, NotServed, Strict, unserved, wrong
from aruntime.wire.conversation import TOOLS_MAX, Option, Schema, Tool, ToolChoice, check_differ
from aruntime.wire.fields import TokenCount


class CustomTool(Strict):
    """A tool of the client's own, the only kind that is served."""

    not_served = {  # noqa: RUF012
        "allowed_callers": NotServed("calls are the model's own", ["direct"]),
        "defer_loading": NotServed("there is no search of tools", False),
        "input_examples": NotServed("templates have no place for them: put them into the description", []),
    }

    type: Literal["custom"] | None = None
    name: ToolName
    description: str | None = None
    input_schema: Schema
    strict: bool | None = None
    eager_input_streaming: Annotated[bool | None, Ignored("arguments are streamed as they are said, always")] = None
    cache_control: CacheWish = None

    def tool(self) -> Tool:
        """The tool that it is."""
        return Tool(self.name, self.description or "", self.input_schema, bool(self.strict))


def _names_differ(tools: list[CustomTool]) -> list[CustomTool]:
    check_differ([tool.name for tool in tools], "name")
    return tools


def _custom(value: object) -> object:
    """Server tools, which run at Anthropic, are refused by name."""
    if isinstance(value, dict) and value.get("type") not in ("custom", None):
        raise unserved("type", "want custom")
    return value


Tools = Annotated[
    list[Annotated[CustomTool, BeforeValidator(_custom)]],
    Field(max_length=TOOLS_MAX, fail_fast=True),
    AfterValidator(_names_differ),
]


class AutoChoice(Strict):
    """The model may call tools."""

    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = None


class AnyChoice(Strict):
    """The model must call one."""

    type: Literal["any"]
    disable_parallel_tool_use: bool | None = None


class NoChoice(Strict):
    """The model may not call tools."""

    type: Literal["none"]


class OneChoice(Strict):
    """The model must call this tool."""

    type: Literal["tool"]
    name: ToolName
    disable_parallel_tool_use: bool | None = None


Choice = AutoChoice | AnyChoice | NoChoice | OneChoice
ChosenTools = Annotated[
    Annotated[AutoChoice, Tag("(auto)")]
    | Annotated[AnyChoice, Tag("(any)")]
    | Annotated[NoChoice, Tag("(none)")]
    | Annotated[OneChoice, Tag("(tool)")],
    Discriminator(kind_of),
    only("auto", "any", "none", "tool"),
]


def chosen(choice: Choice | None, tools: Sequence[CustomTool]) -> ToolChoice:
    """The choice among `tools`; PydanticCustomError names what is wrong in it."""
    if choice is None or choice.type == "auto":
        return ToolChoice()
    if choice.type == "none":
        return ToolChoice("none")
    if not tools:
        raise wrong("tool_choice", "only allowed when tools are given")
    if not isinstance(choice, OneChoice):
        return ToolChoice("required")
    if all(tool.name != choice.name for tool in tools):
        raise wrong("tool_choice.name", "no tool has this name")
    return ToolChoice("required", (choice.name,))


def parallel(choice: Choice | None) -> bool:
    """Whether one turn may have several calls."""
    return not isinstance(choice, AutoChoice | AnyChoice | OneChoice) or not choice.disable_parallel_tool_use


class ThinkingEnabled(Strict):
    """The model thinks first."""

    type: Literal["enabled"]
    budget_tokens: Annotated[TokenCount, Field(ge=1024), Ignored("max_tokens counts thoughts too, and is the bound")]
    display: Literal["summarized"] | None = None


class ThinkingAdaptive(Strict):
    """The model's template decides."""

    type: Literal["adaptive"]
    display: Literal["summarized"] | None = None


class ThinkingDisabled(Strict):
    """The model answers at once, where its template can tell it to."""

    type: Literal["disabled"]


Thinking = Annotated[
    Annotated[ThinkingEnabled, Tag("(enabled)")]
    | Annotated[ThinkingAdaptive, Tag("(adaptive)")]
    | Annotated[ThinkingDisabled, Tag("(disabled)")],
    Discriminator(kind_of),
    only("enabled", "adaptive", "disabled"),
]


def template_options(
    thinking: ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | None,
) -> dict[str, Option] | None:
    """What a chat template is told of it, by the name that those of thinking models know."""
    if thinking is None or isinstance(thinking, ThinkingAdaptive):
        return None
    return {"enable_thinking": isinstance(thinking, ThinkingEnabled)}
