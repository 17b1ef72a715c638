"""What OpenAI clients send: the bodies of /v1/completions and /v1/chat/completions."""

from typing import Annotated, Any, Literal, cast

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from aruntime.wire.body import Strict, parse
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
    text_or_list,
)


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


class TextPart(Strict):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _refuse_other_kinds_by_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") in ("image_url", "input_audio", "file", "refusal"):
            raise PydanticCustomError("not_served", "not supported by this server: want text", {"name": "type"})
        return value


class Message(Strict):
    """One message of a conversation. A message of an answer can be sent back as it came."""

    not_served = {  # noqa: RUF012
        "annotations": ([],),
        "audio": (),
        "function_call": (),
        "refusal": (),
        "tool_call_id": (),
        "tool_calls": ([],),
    }

    role: Literal["developer", "system", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("(text)")]
        | Annotated[list[TextPart], Field(min_length=1, max_length=256, fail_fast=True), Tag("(list)")],
        Discriminator(text_or_list),
    ]
    name: Annotated[str, Field(max_length=64)] | None = None

    def for_template(self) -> dict[str, str]:
        """What a chat template sees: parts joined, `developer` by its older name, which templates know."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": content}
        return message if self.name is None else {**message, "name": self.name}


class ChatBody(Generation):
    """POST /v1/chat/completions."""

    not_served = _NOT_SERVED | {
        "audio": (),
        "function_call": ("none",),
        "functions": ([],),
        "logprobs": (False,),
        "modalities": (["text"],),
        "parallel_tool_calls": (True,),
        "prediction": (),
        "reasoning_effort": (),
        "response_format": ({"type": "text"},),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "top_logprobs": (0,),
        "verbosity": (),
        "web_search_options": (),
    }

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096, fail_fast=True)]
    max_completion_tokens: TokenCount | None = None

    @field_validator("max_completion_tokens")
    @classmethod
    def _max_tokens_says_the_same(cls, value: int | None, so_far: ValidationInfo) -> int | None:
        if value is not None and so_far.data.get("max_tokens") not in (None, value):
            raise ValueError("differs from max_tokens, its older name")
        return value


def parse_completion(body: bytes) -> CompletionBody:
    """Read a completion request. InvalidRequest names the first wrong field."""
    return parse(body, CompletionBody)


def parse_chat(body: bytes) -> ChatBody:
    """Read a chat completion request. InvalidRequest names the first wrong field."""
    return parse(body, ChatBody)
