"""The messages that Anthropic's clients send, block by block; they become messages of a conversation.

    user:       text -> a user's message       tool_result -> a tool's message
    assistant:  text, thinking, tool_use       -> one assistant's message

Adjacent turns of one role are one turn, as Anthropic documents.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from aruntime.wire.body import Ignored, NotServed, Strict, unserved, wrong
from aruntime.wire.conversation import CallId, Message, Role, ToolCall, bounded_depth
from aruntime.wire.fields import text_or_list

MESSAGES_MAX = 4096
BLOCKS_MAX = 256  # of one message

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]  # Anthropic's form; OpenAI's ends at 64


class CacheControl(Strict):
    """A wish to have what comes before it cached."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


CacheWish = Annotated[CacheControl | None, Ignored("prefixes are cached unasked")]
_TOOLSETS = NotServed("there are no tools of the server's")


class TextBlock(Strict):
    """What is said."""

    not_served = {"citations": NotServed("there are no citations", [])}  # noqa: RUF012

    type: Literal["text"]
    text: str
    cache_control: CacheWish = None


class ThinkingBlock(Strict):
    """What the model thought."""

    type: Literal["thinking"]
    thinking: str
    signature: Annotated[str, Ignored("a thought is text, whoever had it")]


class ToolUseBlock(Strict):
    """A call of a tool."""

    not_served = {  # noqa: RUF012
        "caller": NotServed("calls are the model's own", {"type": "direct"}),
        "toolset_name": _TOOLSETS,
    }

    type: Literal["tool_use"]
    id: CallId
    name: ToolName
    input: Annotated[dict[str, Any], AfterValidator(bounded_depth)]
    cache_control: CacheWish = None


def kind_of(value: object) -> str:
    """Which member of a union of objects a value wants to be, by its `type`."""
    return f"({value.get('type')})" if isinstance(value, dict) else "(text)"


def only(*kinds: str) -> BeforeValidator:
    """Refuses, by name, an object whose `type` is none of `kinds`."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise PydanticCustomError("not_an_object", "Input should be an object")
        if "type" not in value:
            raise wrong("type", "missing")
        if value["type"] not in kinds:
            raise unserved("type", f"want {', '.join(kinds)}")
        return value

    return BeforeValidator(check)


TextOnly = Annotated[TextBlock, only("text")]
TextBlocks = Annotated[list[TextOnly], Field(max_length=BLOCKS_MAX, fail_fast=True)]
TextContent = Annotated[
    Annotated[str, Tag("(text)")] | Annotated[TextBlocks, Tag("(list)")], Discriminator(text_or_list)
]


class ToolResultBlock(Strict):
    """What came of a call."""

    not_served = {"toolset_name": _TOOLSETS}  # noqa: RUF012

    type: Literal["tool_result"]
    tool_use_id: CallId
    content: TextContent | None = None
    is_error: Annotated[bool | None, Ignored("templates have no place for it; the content says what went wrong")] = None
    cache_control: CacheWish = None


UserBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")] | Annotated[ToolResultBlock, Tag("(tool_result)")],
    Discriminator(kind_of),
    only("text", "tool_result"),
]
AssistantBlock = Annotated[
    Annotated[TextBlock, Tag("(text)")]
    | Annotated[ThinkingBlock, Tag("(thinking)")]
    | Annotated[ToolUseBlock, Tag("(tool_use)")],
    Discriminator(kind_of),
    only("text", "thinking", "tool_use"),
]
UserBlocks = Annotated[list[UserBlock], Field(max_length=BLOCKS_MAX, fail_fast=True)]
AssistantBlocks = Annotated[list[AssistantBlock], Field(max_length=BLOCKS_MAX, fail_fast=True)]


class SystemTurn(Strict):
    """Instructions in the midst of a conversation."""

    role: Literal["system"]
    content: TextContent

    def messages(self) -> Iterator[Message]:
        """The message that it is."""
        yield Message("system", text_of(self.content))


class UserTurn(Strict):
    """What the user says, and what came of the calls of the turn before."""

    role: Literal["user"]
    content: Annotated[
        Annotated[str, Tag("(text)")] | Annotated[UserBlocks, Tag("(list)")], Discriminator(text_or_list)
    ]

    def messages(self) -> Iterator[Message]:
        """The messages that it is, in their order; empty, it is still one."""
        said = [self.content] if isinstance(self.content, str) else []
        for block in () if isinstance(self.content, str) else self.content:
            if isinstance(block, TextBlock):
                said.append(block.text)
                continue
            if said:
                yield Message("user", "".join(said))
            said = []
            yield Message("tool", text_of(block.content or ""), call_id=block.tool_use_id)
        if said or not self.content:
            yield Message("user", "".join(said))


class AssistantTurn(Strict):
    """What the model said before. One of an answer can be sent back as it came."""

    role: Literal["assistant"]
    content: Annotated[
        Annotated[str, Tag("(text)")] | Annotated[AssistantBlocks, Tag("(list)")], Discriminator(text_or_list)
    ]

    def messages(self) -> Iterator[Message]:
        """The message that it is."""
        if isinstance(self.content, str):
            yield Message("assistant", self.content)
            return
        yield Message(
            "assistant",
            text_of([block for block in self.content if isinstance(block, TextBlock)]),
            reasoning="".join([block.thinking for block in self.content if isinstance(block, ThinkingBlock)]),
            calls=tuple(
                ToolCall(block.id, block.name, orjson.dumps(block.input).decode())
                for block in self.content
                if isinstance(block, ToolUseBlock)
            ),
        )


def _role(value: object) -> str:
    return f"({value.get('role')})" if isinstance(value, dict) else "(user)"


def _known_role(value: Any) -> Any:
    if isinstance(value, dict) and value.get("role") not in ("user", "assistant", "system"):
        raise wrong("role", "want user, assistant or system")
    return value


Turn = Annotated[
    Annotated[UserTurn, Tag("(user)")]
    | Annotated[AssistantTurn, Tag("(assistant)")]
    | Annotated[SystemTurn, Tag("(system)")],
    Discriminator(_role),
    BeforeValidator(_known_role),
]


def _results_answer_calls(turns: list[Turn]) -> list[Turn]:
    """PydanticCustomError names the first result of a call that no turn before it has."""
    asked: set[str] = set()
    for place, turn in enumerate(turns):
        for at, block in enumerate(() if isinstance(turn.content, str) else turn.content):
            if isinstance(block, ToolUseBlock):
                asked.add(block.id)
            elif isinstance(block, ToolResultBlock) and block.tool_use_id not in asked:
                raise wrong(f"{place}.content.{at}.tool_use_id", "no tool_use before it has this id")
    if turns[-1].role == "assistant":
        raise wrong(f"{len(turns) - 1}.role", "to go on from what the assistant began is not supported")
    return turns


Turns = Annotated[
    list[Turn], Field(min_length=1, max_length=MESSAGES_MAX, fail_fast=True), AfterValidator(_results_answer_calls)
]


def text_of(content: str | Iterable[TextBlock]) -> str:
    """What is said in all blocks."""
    return content if isinstance(content, str) else "".join([block.text for block in content])


def conversed(system: str | Iterable[TextBlock] | None, turns: Iterable[Turn]) -> list[Message]:
    """The messages of a conversation. Turns of one role in a row are one, a line apart."""
    messages = [Message("system", text_of(system))] if system else []
    told = (message for turn in turns for message in turn.messages())
    for role, same in groupby(told, key=lambda message: message.role):
        row = list(same)
        messages += [_together(role, row)] if role in ("user", "assistant") else row
    return messages


def _together(role: Role, row: Sequence[Message]) -> Message:
    return Message(
        role,
        "\n".join([message.content for message in row if message.content]),
        reasoning="".join([message.reasoning for message in row]),
        calls=tuple(call for message in row for call in message.calls),
    )
