"""What OpenAI clients send: the body of /v1/chat/completions, and what openai_completions.py has in common with it."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from aruntime.queue.steering import TOP_LOGPROBS_MAX
from aruntime.wire import refused
from aruntime.wire.body import Ignored, Strict, parse
from aruntime.wire.conversation import Conversation, Option, Options
from aruntime.wire.fields import N_MAX, BadWords, Label, LogitBias, ModelName, SamplingFields, TokenCount
from aruntime.wire.openai_functions import (
    ChosenFunction,
    Functions,
    chooses_among_functions,
    chosen_function,
    one_name_for_tools,
)
from aruntime.wire.openai_messages import ChosenTools, Messages, Tools, chosen
from aruntime.wire.structured import StructuredFields

_LABEL = "a label for the caller's own books"
_TIER = "all are served alike; the header x-request-priority names a class"

Metadata = Annotated[dict[Annotated[str, Field(max_length=64)], Label], Field(max_length=16)]


class StreamOptions(Strict):
    """How a stream is told."""

    not_served = refused.STREAM_OPTIONS

    include_usage: Annotated[bool, Field(description="a last event with usage; null in all others")] = False


class Generation(SamplingFields, StructuredFields):
    """The fields that both endpoints share."""

    model: Annotated[ModelName, Field(description="`name`, `name@version`, `name@label` or `name:adapter`")]
    n: Annotated[int | None, Field(ge=1, le=N_MAX, description="answers to each prompt, drawn with seed + index")] = (
        None
    )
    stream: Annotated[bool | None, Field(description="the answer as server-sent events")] = None
    stream_options: Annotated[StreamOptions | None, Field(description="only with stream")] = None
    service_tier: Annotated[Literal["auto", "default"] | None, Field(description=_TIER)] = None
    logit_bias: Annotated[LogitBias | None, Field(description="added to the logits of tokens, by their ids")] = None
    bad_words: Annotated[BadWords | None, Field(description="texts that are not said, alone or after a space")] = None
    user: Annotated[Label | None, Ignored(_LABEL)] = None
    safety_identifier: Annotated[Label | None, Ignored(_LABEL)] = None
    metadata: Annotated[Metadata | None, Ignored(_LABEL)] = None
    prompt_cache_key: Annotated[Label | None, Ignored("prefixes are found by their tokens, whoever sends them")] = None

    @field_validator("stream_options")
    @classmethod
    def _stream_options_need_a_stream(cls, value: StreamOptions | None, so_far: ValidationInfo) -> StreamOptions | None:
        if value is not None and "stream" in so_far.data and not so_far.data["stream"]:
            raise ValueError("only allowed when stream is true")
        return value

    @property
    def biases(self) -> list[tuple[int, float]]:
        """What is added to the logits of tokens."""
        return [(int(token), bias) for token, bias in (self.logit_bias or {}).items()]

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatBody(Generation):
    """POST /v1/chat/completions."""

    not_served = refused.CHAT

    logprobs: Annotated[bool | None, Field(description="how likely each token was")] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=TOP_LOGPROBS_MAX, description="so many of the likeliest at each place")
    ] = None
    messages: Annotated[Messages, Field(description="framed by the checkpoint's chat template")]
    tools: Annotated[Tools | None, Field(description="functions that the model may call")] = None
    tool_choice: Annotated[ChosenTools | None, Field(description="whether it calls, and which")] = None
    parallel_tool_calls: Annotated[bool | None, Field(description="whether it may call several at once")] = None
    functions: Annotated[Functions | None, Field(description="the older name of tools, of which one is called")] = None
    function_call: Annotated[ChosenFunction | None, Field(description="the older name of tool_choice")] = None
    chat_template_kwargs: Annotated[Options | None, Field(description="the template's own switches, as in vLLM")] = None
    reasoning_effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None,
        Field(description="`reasoning_effort` and `enable_thinking` of the template, where it has them"),
    ] = None
    max_completion_tokens: Annotated[TokenCount | None, Field(description="the newer name of max_tokens")] = None
    store: Annotated[bool | None, Field(description="whether it can be asked for again, or resumed; false")] = None

    @field_validator("top_logprobs")
    @classmethod
    def _only_with_logprobs(cls, value: int | None, so_far: ValidationInfo) -> int | None:
        if value and "logprobs" in so_far.data and not so_far.data["logprobs"]:
            raise ValueError("only allowed when logprobs is true")
        return value

    @field_validator("max_completion_tokens")
    @classmethod
    def _max_tokens_says_the_same(cls, value: int | None, so_far: ValidationInfo) -> int | None:
        if value is not None and so_far.data.get("max_tokens") not in (None, value):
            raise ValueError("differs from max_tokens, its older name")
        return value

    @field_validator("tool_choice")
    @classmethod
    def _chooses_among_tools(cls, value: ChosenTools | None, so_far: ValidationInfo) -> ChosenTools | None:
        if "tools" in so_far.data:
            chosen(value, so_far.data["tools"] or ())
        return value

    _functions_alone = field_validator("functions")(one_name_for_tools)
    _chooses_among_functions = field_validator("function_call")(chooses_among_functions)

    @property
    def alternatives(self) -> int | None:
        """How many tokens are told for each place besides the one that was said; None when not even that is."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def _effort(self) -> dict[str, Option]:
        """How templates know it, as in vLLM."""
        if self.reasoning_effort is None:
            return {}
        return {"reasoning_effort": self.reasoning_effort, "enable_thinking": self.reasoning_effort != "none"}

    @property
    def conversation(self) -> Conversation:
        """What the model goes on from."""
        tools, functions = self.tools or (), self.functions
        choice = chosen_function(self.function_call, functions) if functions else chosen(self.tool_choice, tools)
        return Conversation(
            messages=[one.message() for one in self.messages],
            tools=[one.tool() for one in functions or tools],
            choice=choice,
            parallel_calls=self.parallel_tool_calls is not False and not functions,
            options={**self._effort, **(self.chat_template_kwargs or {})} or None,
        )


def parse_chat(body: bytes) -> ChatBody:
    """Read a chat completion request. InvalidRequest names the first wrong field."""
    return parse(body, ChatBody)
