"""The fields of a request that every protocol has, and what each may hold.

Each bound has its precedent beside it, or in docs/limits.md.
"""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from aruntime.wire.body import Strict

N_MAX = 16  # OpenAI allows 128; a sequence here is a reservation of cache
PROMPTS_MAX = 64
CHOICES_MAX = 128  # OpenAI's bound on n
STOP_TOKENS_MAX = 16  # a cell of the submit message
TOKENS_MAX = 1 << 24
SMALL = 1e-6  # far below it a share or a penalty would be 0 in the engine's float32


def text_or_list(value: object) -> str:
    """Which member of a union a value wants to be: one is tried, and an error is told of that one only."""
    return "(list)" if isinstance(value, list) else "(text)"


def text_ids_or_list(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], int | float):
        return "(ids)"
    return text_or_list(value)


ModelName = Annotated[str, Field(min_length=1, max_length=200)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=TOKENS_MAX, fail_fast=True)]
TokenCount = Annotated[int, Field(ge=1, le=TOKENS_MAX)]
Prompt = Annotated[Annotated[str, Tag("(text)")] | Annotated[TokenIds, Tag("(list)")], Discriminator(text_or_list)]
Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=PROMPTS_MAX, fail_fast=True)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
StopTexts = Annotated[list[StopText], Field(max_length=4, fail_fast=True)]
Stops = Annotated[Annotated[StopText, Tag("(text)")] | Annotated[StopTexts, Tag("(list)")], Discriminator(text_or_list)]
Penalty = Annotated[float, Field(ge=-2, le=2)]  # OpenAI's range
Label = Annotated[str, Field(max_length=512)]


class SamplingFields(Strict):
    """How tokens are drawn, and until when, in every protocol. None is the default of the field."""

    max_tokens: TokenCount | None = None
    min_tokens: Annotated[int, Field(ge=0, le=TOKENS_MAX)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=SMALL, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None  # -1 and 0: all, as in vLLM
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(ge=SMALL, le=10)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stops | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=STOP_TOKENS_MAX, fail_fast=True)] | None = None
    ignore_eos: bool | None = None
    include_stop_str_in_output: bool | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
