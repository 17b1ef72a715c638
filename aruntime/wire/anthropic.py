"""What Anthropic's clients ask: the bodies of /v1/messages and /v1/messages/count_tokens.

What is said of messages is in anthropic_messages.py, of tools and thinking in anthropic_tools.py. The answer is in
anthropic_answers.py.
"""

from typing import Annotated, Literal

import orjson
from pydantic import Field, model_validator

from aruntime.wire.anthropic_messages import CacheWish, TextContent, Turns, conversed
from aruntime.wire.anthropic_tools import (
    ChosenTools,
    Thinking,
    ThinkingEnabled,
    Tools,
    chosen,
    parallel,
    template_options,
)
from aruntime.wire.body import Ignored, NotServed, Strict, parse, wrong
from aruntime.wire.conversation import Conversation
from aruntime.wire.fields import SMALL, Label, ModelName, SamplingFields, StopTexts, TokenCount
from aruntime.wire.grammars import Constraint, json_grammar
from aruntime.wire.structured import Schema


class Metadata(Strict):
    """What the caller says of the request."""

    user_id: Annotated[Label | None, Ignored("a label for the caller's own books")] = None


class JsonFormat(Strict):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    schema_: Annotated[Schema, Field(alias="schema")]


class OutputConfig(Strict):
    """How the answer is to look."""

    not_served = {  # noqa: RUF012
        "effort": NotServed("models here have no such switch: ask in a message", "high"),
    }

    format: Annotated[JsonFormat | None, Field(description="an answer that is JSON")] = None


class CountBody(Strict):
    """POST /v1/messages/count_tokens: what a model goes on from."""

    not_served = {  # noqa: RUF012
        "context_management": NotServed("a conversation is never edited here"),
        "mcp_servers": NotServed("this server calls no tools", []),
        "speed": NotServed("there is one speed", "standard"),
    }

    model: Annotated[ModelName, Field(description="`name`, `name@version`, `name@label` or `name:adapter`")]
    messages: Annotated[
        Turns, Field(description="framed by the checkpoint's chat template; the last is not the model's")
    ]
    system: Annotated[TextContent | None, Field(description="a message of role system before all others")] = None
    tools: Annotated[Tools | None, Field(description="functions that the model may call")] = None
    tool_choice: Annotated[ChosenTools | None, Field(description="whether it calls, and which")] = None
    thinking: Annotated[
        Thinking | None, Field(description="the template's `enable_thinking`; adaptive: its default")
    ] = None
    output_config: Annotated[OutputConfig | None, Field(description="how the answer is to look")] = None
    cache_control: CacheWish = None

    @model_validator(mode="after")
    def _chooses_among_tools(self) -> "CountBody":
        chosen(self.tool_choice, self.tools or ())
        return self

    @property
    def conversation(self) -> Conversation:
        """What the model goes on from."""
        tools = self.tools or ()
        return Conversation(
            messages=conversed(self.system, self.messages),
            tools=[one.tool() for one in tools],
            choice=chosen(self.tool_choice, tools),
            parallel_calls=parallel(self.tool_choice),
            options=template_options(self.thinking),
        )


class MessagesBody(CountBody):
    """POST /v1/messages."""

    not_served = {  # noqa: RUF012
        **CountBody.not_served,
        "container": NotServed("this server runs no code"),
        "diagnostics": NotServed("answers are not kept, so none can be compared"),
        "inference_geo": NotServed("there is one place"),
    }

    max_tokens: Annotated[
        TokenCount, Field(description="the most tokens of an answer, cut to what the context has room for")
    ]
    stop_sequences: Annotated[
        StopTexts | None, Field(description="texts that end an answer, wherever tokens end; not shown")
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=1, description="1; 0 takes the likeliest token")] = None
    top_p: Annotated[float | None, Field(ge=SMALL, le=1, description="the likeliest tokens that have this share")] = (
        None
    )
    top_k: Annotated[int | None, Field(ge=0, lt=2**31, description="so many of the likeliest; 0: all")] = None
    stream: Annotated[bool | None, Field(description="the answer as server-sent events")] = None
    metadata: Annotated[Metadata | None, Field(description="what the caller says of the request")] = None
    service_tier: Annotated[Literal["auto", "standard_only"] | None, Ignored("there is one tier")] = None

    @model_validator(mode="after")
    def _thinks_within_its_tokens(self) -> "MessagesBody":
        if isinstance(self.thinking, ThinkingEnabled) and self.thinking.budget_tokens >= self.max_tokens:
            raise wrong("thinking.budget_tokens", f"want less than max_tokens, which is {self.max_tokens}")
        return self

    @property
    def constraint(self) -> Constraint | None:
        """What the answer must look like; None: anything."""
        if self.output_config is None or self.output_config.format is None:
            return None
        return Constraint(json_grammar(self.output_config.format.schema_), "output_config.format.schema")

    @property
    def sampling(self) -> SamplingFields:
        """How tokens are drawn, in the words of all protocols."""
        return SamplingFields(
            temperature=self.temperature, top_p=self.top_p, top_k=self.top_k, stop=self.stop_sequences or None
        )


def parse_messages(body: bytes) -> MessagesBody:
    """Read a request for a message. InvalidRequest names the first wrong field."""
    return parse(body, MessagesBody)


def parse_count(body: bytes) -> CountBody:
    """Read a request for the number of tokens. InvalidRequest names the first wrong field."""
    return parse(body, CountBody)


def write_count(tokens: int) -> bytes:
    """The number of a conversation's tokens."""
    return orjson.dumps({"input_tokens": tokens})
