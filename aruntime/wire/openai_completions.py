"""What OpenAI clients send to /v1/completions: texts or token ids to go on from, echoed and scored if they like."""

from typing import Annotated, cast

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from aruntime.queue.steering import TOP_LOGPROBS_MAX
from aruntime.wire import refused
from aruntime.wire.body import parse, wrong
from aruntime.wire.fields import CHOICES_MAX, TOKENS_MAX, Prompts, TokenIds, text_ids_or_list
from aruntime.wire.openai import Generation


class CompletionBody(Generation):
    """POST /v1/completions."""

    not_served = refused.COMPLETION

    max_tokens: Annotated[
        int | None, Field(ge=0, le=TOKENS_MAX, description="the most tokens of an answer; 16. 0 only with echo")
    ] = None
    logprobs: Annotated[
        int | None, Field(ge=0, le=TOP_LOGPROBS_MAX, description="each token's, and of so many of the likeliest")
    ] = None
    echo: Annotated[bool | None, Field(description="the prompt comes first; with logprobs, with its own")] = None
    best_of: Annotated[int | None, Field(description="the same as n: all that are drawn are told")] = None
    prompt: Annotated[
        Annotated[str, Tag("(text)")] | Annotated[TokenIds, Tag("(ids)")] | Annotated[Prompts, Tag("(list)")],
        Discriminator(text_ids_or_list),
        Field(description="a text, token ids, or several of both; at most 128 prompts times n"),
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

    @model_validator(mode="after")
    def _something_is_told(self) -> "CompletionBody":
        if self.max_tokens == 0 and not self.echo:
            raise wrong("max_tokens", "want at least 1 without echo")
        return self

    @field_validator("best_of")
    @classmethod
    def _all_are_told(cls, value: int | None, so_far: ValidationInfo) -> int | None:
        if value is not None and "n" in so_far.data and value != (so_far.data["n"] or 1):
            raise ValueError("differs from n: send n, and choose among the answers by their logprobs")
        return value

    @property
    def alternatives(self) -> int | None:
        """How many tokens are told for each place besides the one that was said; None when not even that is."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as token ids."""
        return _prompts(self.prompt)


def _prompts(prompt: str | list[int] | list[str | list[int]]) -> list[str | list[int]]:
    one = isinstance(prompt, str) or isinstance(prompt[0], int)
    return cast("list[str | list[int]]", [prompt] if one else prompt)


def parse_completion(body: bytes) -> CompletionBody:
    """Read a completion request. InvalidRequest names the first wrong field."""
    return parse(body, CompletionBody)
