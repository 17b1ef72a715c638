"""What OpenAI clients send: the bodies of /v1/completions and /v1/chat/completions.

Strict: a boolean is no integer, a string no number, nothing is infinite. Each bound has its precedent beside it.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from aruntime.wire.body import parse

N_MAX = 16  # OpenAI allows 128; a sequence here is a reservation of cache
PROMPTS_MAX = 64
STOP_TOKENS_MAX = 16  # a cell of the submit message
TOKENS_MAX = 1 << 24

TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, max_length=TOKENS_MAX)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Bounded = Annotated[Finite, Field(ge=-2, le=2)]  # OpenAI's range for both penalties
Share = Annotated[Finite, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(_Strict):
    include_usage: bool = False


class _Generation(_Strict):
    """The fields that both endpoints share. None is the default of the field, as in OpenAI's own clients."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    max_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=TOKENS_MAX)] | None = None
    temperature: Annotated[Finite, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None  # -1 and 0: all, as in vLLM
    min_p: Share | None = None
    presence_penalty: Bounded | None = None
    frequency_penalty: Bounded | None = None
    repetition_penalty: Annotated[Finite, Field(gt=0, le=10)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    stop_token_ids: Annotated[list[TokenId], Field(max_length=STOP_TOKENS_MAX)] | None = None
    ignore_eos: bool | None = None
    n: Annotated[int, Field(ge=1, le=N_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None

    @field_validator("stream_options")
    @classmethod
    def _stream_options_need_a_stream(cls, value: StreamOptions | None, so_far: ValidationInfo) -> StreamOptions | None:
        if value is not None and not so_far.data.get("stream"):
            raise ValueError("only allowed when stream is true")
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionBody(_Generation):
    """POST /v1/completions."""

    prompt: str | TokenIds | Annotated[list[str | TokenIds], Field(min_length=1, max_length=PROMPTS_MAX)]

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt, as text or as token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [one for one in self.prompt if not isinstance(one, int)]


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class Message(_Strict):
    """One message of a conversation; `name` is accepted as OpenAI documents it and reaches the template."""

    role: Literal["developer", "system", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(max_length=64)] | None = None

    @property
    def text(self) -> str:
        """The content, its parts joined."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatBody(_Generation):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)] | None = None
    metadata: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16)] | None = None


# Fields that OpenAI documents and this server does not serve, with the values that change nothing.
_NOT_SERVED: dict[str, tuple[object, ...]] = {
    "logit_bias": ({},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "prompt_cache_key": (),
    "safety_identifier": (),
}
_NOT_SERVED_IN_COMPLETIONS = {
    **_NOT_SERVED,
    "best_of": (1,),
    "echo": (False,),
    "logprobs": (),
    "suffix": (),
}
_NOT_SERVED_IN_CHAT = {
    **_NOT_SERVED,
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


def parse_completion(body: bytes) -> CompletionBody:
    """Read a completion request. InvalidRequest names the first wrong field."""
    return parse(body, CompletionBody, _NOT_SERVED_IN_COMPLETIONS)


def parse_chat(body: bytes) -> ChatBody:
    """Read a chat completion request. InvalidRequest names the first wrong field."""
    return parse(body, ChatBody, _NOT_SERVED_IN_CHAT)
