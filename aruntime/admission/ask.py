"""What a front end asks of a model, in tokens and numbers."""

import math
from array import array
from dataclasses import dataclass, field

from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.queue.records import Pooling, Priority
from aruntime.queue.steering import Steering, steering


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. The defaults draw from the model's own distribution; temperature 0 is greedy.

    `logit_bias` is pairs of a token, each once, and what its logit gets. None of `bad_words`, in tokens, is said.
    `grammar` is what all that is said obeys, as `aruntime.model.grammar` reads it; "" is none.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    grammar: str = ""

    @property
    def steering(self) -> Steering:
        """The last three, as they are submitted."""
        return steering(self.logit_bias, self.bad_words, self.grammar)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: `n` sequences for each of its `prompts`.

    Choices are numbered prompt by prompt: choice = prompt_index * n + i, drawn with seed + i.
    `arrived_s` and `deadline_s` are moments on the monotonic clock; an infinite deadline is none. `field` is what the
    client called the prompts, for what is said of them. `tokens_min` is what each answer has for certain. One that is
    `mirrored` is a copy for a rollout: it is charged to nobody. With every token come the `top_logprobs` likeliest ones
    at its place. With `prompt_logprobs` the prompt's own tokens come first, with theirs.

    With a `pooling` no answer is asked for but a vector of each prompt, of its states: the output's `result`, float32,
    little endian. `max_tokens` and `n` are 1.

    To a tensor model `payload` is the inputs (`aruntime.wire.tensors`), and a prompt of zeros stands for their rows:
    so what bounds, orders and charges tokens does so to rows. `max_tokens` is 1; the answer is the output's `result`.
    """

    request_id: str
    prompts: list["array[int]"]  # int32 token ids, none empty
    max_tokens: int
    arrived_s: float
    n: int = 1
    deadline_s: float = math.inf
    sampling: Sampling = field(default_factory=Sampling)
    priority: Priority = Priority.STANDARD
    tenant: Tenant = NOBODY
    field: str = "prompt"
    tokens_min: int = 1
    mirrored: bool = False
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    pooling: Pooling = Pooling.NONE
    payload: bytes = b""

    @property
    def wants_result(self) -> bool:
        """Whether the answer is an output's `result`, not tokens."""
        return bool(self.payload or self.pooling)

    @property
    def choices(self) -> int:
        """How many sequences this request is."""
        return len(self.prompts) * self.n

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, each counted once."""
        return sum(map(len, self.prompts))
