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


class Metadata(Strict):
    """What the caller says of the request."""

    user_id: Annotated[Label | None, Ignored("a label for the caller's own books")] = None


class OutputConfig(Strict):
    """How the answer is to look."""

    not_served = {  # noqa: RUF012
        "effort": NotServed("models here have no such switch: ask in a message", "high"),
        "format": NotServed("output is not constrained yet"),
    }


class CountBody(Strict):
    """POST /v1/messages/count_tokens: what a model goes on from."""

    not_served = {  # noqa: RUF012
        "context_management": NotServed("a conversation is never edited here"),
        "mcp_servers": NotServed("this server calls no tools", []),
        "speed": NotServed("there is one speed", "standard"),
    }

    model: ModelName
    messages: Turns
    system: TextContent | None = None
    tools: Tools | None = None
    tool_choice: ChosenTools | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
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

    max_tokens: TokenCount
    stop_sequences: StopTexts | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None  # Anthropic's range
    top_p: Annotated[float, Field(ge=SMALL, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: Annotated[Literal["auto", "standard_only"] | None, Ignored("there is one tier")] = None

    @model_validator(mode="after")
    def _thinks_within_its_tokens(self) -> "MessagesBody":
        if isinstance(self.thinking, ThinkingEnabled) and self.thinking.budget_tokens >= self.max_tokens:
            raise wrong("thinking.budget_tokens", f"want less than max_tokens, which is {self.max_tokens}")
        return self

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
