"""What OpenAI clients send: the bodies of /v1/completions and /v1/chat/completions."""

from typing import Annotated, cast

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from aruntime.wire.body import Strict, parse
from aruntime.wire.conversation import Conversation, Options
from aruntime.wire.fields import (
    CHOICES_MAX,
    N_MAX,
    Label,
    ModelName,
    Prompts,
    SamplingFields,
    TokenCount,
    TokenIds,
    text_ids_or_list,
)
from aruntime.wire.openai_messages import ChosenTools, Messages, Tools, chosen


class StreamOptions(Strict):
    """How a stream is told."""

    not_served = {"include_obfuscation": (False,)}  # noqa: RUF012

    include_usage: bool = False


class Generation(SamplingFields):
    """The fields that both endpoints share.

    `user` and `metadata` are labels for the caller's own books, as OpenAI documents them: no effect on the answer.
    """

    model: ModelName
    n: Annotated[int, Field(ge=1, le=N_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None
    metadata: Annotated[dict[Annotated[str, Field(max_length=64)], Label], Field(max_length=16)] | None = None

    @field_validator("stream_options")
    @classmethod
    def _stream_options_need_a_stream(cls, value: StreamOptions | None, so_far: ValidationInfo) -> StreamOptions | None:
        if value is not None and "stream" in so_far.data and not so_far.data["stream"]:
            raise ValueError("only allowed when stream is true")
        return value

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


_NOT_SERVED: dict[str, tuple[object, ...]] = {
    "logit_bias": ({},),
    "moderation": (),
    "prompt_cache_key": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
    "safety_identifier": (),
    "service_tier": ("auto", "default"),
    "store": (False,),
}


class CompletionBody(Generation):
    """POST /v1/completions."""

    not_served = _NOT_SERVED | {"best_of": (1,), "echo": (False,), "logprobs": (), "suffix": ()}

    prompt: Annotated[
        Annotated[str, Tag("(text)")] | Annotated[TokenIds, Tag("(ids)")] | Annotated[Prompts, Tag("(list)")],
        Discriminator(text_ids_or_list),
    ]

    @field_validator("prompt")
    @classmethod
    def _not_too_many_choices(
        cls, value: str | list[int] | list[str | list[int]], so_far: ValidationInfo
    ) -> str | list[int] | list[str | list[int]]:
        choices = len(_prompts(value)) * (so_far.data.get("n") or 1)
        if choices > CHOICES_MAX:
            raise ValueError(f"prompts times n are {choices} choices, at most {CHOICES_MAX}")
        return value

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as token ids."""
        return _prompts(self.prompt)


def _prompts(prompt: str | list[int] | list[str | list[int]]) -> list[str | list[int]]:
    one = isinstance(prompt, str) or isinstance(prompt[0], int)
    return cast("list[str | list[int]]", [prompt] if one else prompt)


class ChatBody(Generation):
    """POST /v1/chat/completions."""

    not_served = _NOT_SERVED | {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "logprobs": (False,),
        "modalities": (["text"],),
        "prediction": (),
        "reasoning_effort": (),
        "response_format": ({"type": "text"},),
        "top_logprobs": (0,),
        "verbosity": (),
        "web_search_options": (),
    }

    messages: Messages
    tools: Tools | None = None
    tool_choice: ChosenTools | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: Options | None = None  # as in vLLM
    max_completion_tokens: TokenCount | None = None

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

    @property
    def conversation(self) -> Conversation:
        """What the model goes on from."""
        tools = self.tools or ()
        return Conversation(
            messages=[one.message() for one in self.messages],
            tools=[one.tool() for one in tools],
            choice=chosen(self.tool_choice, tools),
            parallel_calls=self.parallel_tool_calls is not False,
            options=self.chat_template_kwargs,
        )


def parse_completion(body: bytes) -> CompletionBody:
    """Read a completion request. InvalidRequest names the first wrong field."""
    return parse(body, CompletionBody)


def parse_chat(body: bytes) -> ChatBody:
    """Read a chat completion request. InvalidRequest names the first wrong field."""
    return parse(body, ChatBody)
