"""The fields of a request that every protocol has, and what each may hold.

Each bound has its precedent beside it, or in docs/limits.md.
"""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from aruntime.queue.steering import BIAS_PAIRS_MAX
from aruntime.wire.body import Strict

N_MAX = 16  # OpenAI allows 128; a sequence here is a reservation of cache
PROMPTS_MAX = 64
CHOICES_MAX = 128  # OpenAI's bound on n
STOP_TOKENS_MAX = 16  # a cell of the submit message
TOKENS_MAX = 1 << 24
BAD_WORDS_MAX = 64  # each is two in the submit message
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
LogitBias = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^(0|[1-9]\d{0,9})$", max_length=10)],
        Annotated[float, Field(ge=-100, le=100)],
    ],
    Field(max_length=BIAS_PAIRS_MAX),
]
BadWords = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=BAD_WORDS_MAX, fail_fast=True)
]
Penalty = Annotated[float, Field(ge=-2, le=2)]  # OpenAI's range
Label = Annotated[str, Field(max_length=512)]


class SamplingFields(Strict):
    """How tokens are drawn, and until when, in every protocol. None is the default of the field."""

    max_tokens: Annotated[TokenCount | None, Field(description="the most tokens of an answer")] = None
    min_tokens: Annotated[int | None, Field(ge=0, le=TOKENS_MAX, description="nothing ends an answer before")] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="1; 0 takes the likeliest token")] = None
    top_p: Annotated[float | None, Field(ge=SMALL, le=1, description="the likeliest tokens that have this share")] = (
        None
    )
    top_k: Annotated[int | None, Field(ge=-1, lt=2**31, description="so many of the likeliest; 0 and -1: all")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1, description="those with this share of the likeliest's")] = None
    presence_penalty: Annotated[Penalty | None, Field(description="off the logit of a token that was said")] = None
    frequency_penalty: Annotated[Penalty | None, Field(description="the same, for each time it was said")] = None
    repetition_penalty: Annotated[
        float | None, Field(ge=SMALL, le=10, description="divides the logit of a token of prompt or answer")
    ] = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63, description="the same seed draws the same answer")] = None
    stop: Annotated[Stops | None, Field(description="texts that end an answer, wherever tokens end; not shown")] = None
    stop_token_ids: Annotated[
        list[TokenId] | None, Field(max_length=STOP_TOKENS_MAX, fail_fast=True, description="tokens that end an answer")
    ] = None
    ignore_eos: Annotated[bool | None, Field(description="the model's own end does not end an answer")] = None
    include_stop_str_in_output: Annotated[bool | None, Field(description="the stop text is shown")] = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
