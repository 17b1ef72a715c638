"""The older names of tools, which many programs still send: functions, one of which is called.

    functions, function_call    tools, tool_choice, and no parallel calls
    role "function", name       role "tool", tool_call_id
    message.function_call       message.tool_calls[0].function; finish_reason "function_call"

A call has no id here: it is known by the function's name.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo

from aruntime.wire.body import wrong
from aruntime.wire.conversation import TOOLS_MAX, ToolChoice
from aruntime.wire.openai_messages import Function, FunctionChoiceName


def _names_differ(functions: list[Function]) -> list[Function]:
    names = [function.name for function in functions]
    twice = next((place for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise wrong(f"{twice}.name", "another function has this name")
    return functions


def _kind(value: object) -> str:
    return "(name)" if isinstance(value, dict) else "(word)"


Functions = Annotated[list[Function], Field(max_length=TOOLS_MAX, fail_fast=True), AfterValidator(_names_differ)]
ChosenFunction = Annotated[
    Annotated[Literal["none", "auto"], Tag("(word)")] | Annotated[FunctionChoiceName, Tag("(name)")],
    Discriminator(_kind),
]


def chosen_function(choice: str | FunctionChoiceName | None, functions: list[Function] | None) -> ToolChoice:
    """The choice that a body's `function_call` is; PydanticCustomError names what is wrong in it."""
    if not isinstance(choice, FunctionChoiceName):
        return ToolChoice("none") if choice == "none" else ToolChoice()
    if choice.name not in {function.name for function in functions or ()}:
        raise wrong("name", f"no function is called {choice.name}")
    return ToolChoice("required", (choice.name,))


def one_name_for_tools(value: list[Function] | None, so_far: ValidationInfo) -> list[Function] | None:
    """A validator of `functions`, which come after the newer names."""
    if value and (so_far.data.get("tools") or so_far.data.get("tool_choice")):
        raise ValueError("only allowed without tools and tool_choice, their newer names")
    return value


def chooses_among_functions(value: ChosenFunction | None, so_far: ValidationInfo) -> ChosenFunction | None:
    """A validator of `function_call`, which comes after `functions`."""
    if value not in (None, "none") and "functions" in so_far.data and not so_far.data["functions"]:
        raise ValueError("only allowed with functions")
    if "functions" in so_far.data:
        chosen_function(value, so_far.data["functions"])
    if value and so_far.data.get("tools"):
        raise ValueError("only allowed without tools")
    return value
