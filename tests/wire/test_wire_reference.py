"""The documentation of requests is that of the classes which read them, and leaves no documented parameter out."""

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from openai.types import (
    Completion,
    CompletionChoice,
    CompletionUsage,
    EmbeddingCreateParams,
    chat,
    completion_create_params,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.shared_params import FunctionDefinition
from pydantic import Field

from aruntime.wire.body import Ignored, NotServed, Strict
from aruntime.wire.embeddings import EmbeddingBody
from aruntime.wire.openai import ChatBody, StreamOptions
from aruntime.wire.openai_completions import CompletionBody
from aruntime.wire.openai_messages import (
    AllowedToolsChoice,
    ChatMessage,
    Function,
    FunctionChoice,
    FunctionTool,
    TextPart,
    ToolCallItem,
)
from aruntime.wire.reference import Row, rewrite, rows

DOCS = Path(__file__).parent.parent.parent / "docs"


class Inner(Strict):
    """An object in a body."""

    word: str


class Example(Strict):
    """A body with a field of every kind."""

    not_served = {"magic": NotServed("there is none", False)}  # noqa: RUF012

    count: Annotated[int | None, Field(ge=1, le=1 << 24, description="how many")] = None
    items: Annotated[list[Inner], Field(max_length=4)]
    note: Annotated[str | None, Ignored("for the caller")] = None


def test_every_field_is_told_with_what_it_may_hold_and_what_becomes_of_it() -> None:
    assert list(rows(Example)) == [
        Row("count", "served", "integer, 1 to 2^24", "how many"),
        Row("items", "served", "list of (object), 0 to 4 items, required", ""),
        Row("items[].word", "served", "text, required", ""),
        Row("note", "ignored", "text", "for the caller"),
        Row("magic", "refused", "only `false`", "there is none"),
    ]


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_the_tables_in_the_documentation_are_those_of_the_classes(path: Path) -> None:
    text = path.read_text()
    assert rewrite(text) == text, "python -m aruntime.wire.reference writes them anew"


def test_a_table_is_written_between_its_marks() -> None:
    written = rewrite("a\n<!-- fields of openai.StreamOptions -->\nwhat it was\n<!-- /fields -->\nb\n")
    assert "| `include_usage` | served | boolean |" in written
    assert "what it was" not in written
    assert written.endswith("<!-- /fields -->\nb\n")


@pytest.mark.parametrize(
    ("body", "documented"),
    [
        (ChatBody, chat_create_params.CompletionCreateParamsStreaming),
        (ChatBody, chat_create_params.CompletionCreateParamsNonStreaming),
        (CompletionBody, completion_create_params.CompletionCreateParamsStreaming),
        (CompletionBody, completion_create_params.CompletionCreateParamsNonStreaming),
        (EmbeddingBody, EmbeddingCreateParams),
    ],
)
def test_no_parameter_of_the_openai_package_is_missing(body: Any, documented: Any) -> None:
    names = {row.field for row in rows(body)}
    assert {name for one in documented.__mro__ for name in getattr(one, "__annotations__", {})} <= names


@pytest.mark.parametrize(
    ("ours", "documented"),
    [
        (ChatMessage, chat.ChatCompletionSystemMessageParam),
        (ChatMessage, chat.ChatCompletionDeveloperMessageParam),
        (ChatMessage, chat.ChatCompletionUserMessageParam),
        (ChatMessage, chat.ChatCompletionAssistantMessageParam),
        (ChatMessage, chat.ChatCompletionToolMessageParam),
        (ChatMessage, chat.ChatCompletionFunctionMessageParam),
        (TextPart, chat.ChatCompletionContentPartTextParam),
        (ToolCallItem, chat.ChatCompletionMessageFunctionToolCallParam),
        (FunctionTool, chat.ChatCompletionFunctionToolParam),
        (Function, FunctionDefinition),
        (FunctionChoice, chat.ChatCompletionNamedToolChoiceParam),
        (AllowedToolsChoice, chat.ChatCompletionAllowedToolChoiceParam),
        (StreamOptions, chat.ChatCompletionStreamOptionsParam),
    ],
)
def test_no_field_of_an_object_in_a_body_is_missing(ours: Any, documented: Any) -> None:
    assert set(documented.__annotations__) <= {row.field for row in rows(ours)}


@pytest.mark.parametrize("body", [ChatBody, CompletionBody])
def test_every_field_of_a_body_says_what_it_does_or_why_not(body: Any) -> None:
    assert [row.field for row in rows(body) if "." not in row.field and not row.note] == []


@pytest.mark.parametrize(
    "kind",
    [
        chat.ChatCompletion,
        chat.chat_completion.Choice,
        chat.ChatCompletionMessage,
        chat.ChatCompletionChunk,
        chat.chat_completion_chunk.Choice,
        chat.chat_completion_chunk.ChoiceDelta,
        Completion,
        CompletionChoice,
        CompletionUsage,
    ],
)
def test_no_field_of_an_answer_is_missing(kind: Any) -> None:
    _, _, answers = (DOCS / "wire/openai.md").read_text().partition("## Answers")
    told = {name.rpartition(".")[2].removesuffix("[]") for name in re.findall(r"`([\w.\[\]]+)`", answers)}
    assert kind.model_fields.keys() - {"choices", "message", "delta"} - told == set()
