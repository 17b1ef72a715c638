"""What a replica can take, and what it could not take even if it had nothing else to do."""

from dataclasses import dataclass

from aruntime.admission.ask import Ask, Sampling
from aruntime.admission.tenants import Tenant
from aruntime.base.errors import InvalidRequest
from aruntime.queue.records import CELL_BYTES, submit_cells
from aruntime.queue.steering import BAD_WORD_TOKENS_MAX, BAD_WORDS_MAX, BIAS_PAIRS_MAX, GRAMMAR_BYTES_MAX

# Of the prompts of one request, alternatives included: all of them are there at once when the answer begins.
PROMPT_LOGPROBS_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """What the replica can take: sequences at once, sequences waiting, tokens of context, ids of vocabulary.

    `ttft_s` is the objective that the queue is kept short for, `waiting_tokens_max` bounds the prompts in it. Its cache
    has `blocks` of `block_tokens`. `timeout_s` is the deadline of requests to a tensor model that bring none.
    """

    sequences_max: int
    waiting_max: int
    context_max: int
    vocab: int
    ttft_s: float = 2.0
    waiting_tokens_max: int = 1 << 20
    blocks: int = 1 << 20
    block_tokens: int = 16
    timeout_s: float | None = None

    @property
    def in_flight_max(self) -> int:
        """Sequences that may be submitted and not ended, over all front ends."""
        return self.sequences_max + self.waiting_max

    def blocks_max(self, tenant: Tenant) -> int:
        """The most of the cache that `tenant` may hold."""
        return max(1, int(self.blocks * tenant.cache_max))

    def tokens_max(self, tenant: Tenant) -> int:
        """Tokens that one sequence of `tenant` may have: the context, or as many as its share of the cache holds."""
        return min(self.context_max, self.blocks_max(tenant) * self.block_tokens)


def check_size(ask: Ask, limits: RouteLimits, cells_max: int) -> None:
    """InvalidRequest when a prompt of `ask` is larger than the replica, or all of it than a ring of `cells_max`."""
    if ask.payload:
        return _check_tensors(ask, limits, cells_max)
    _check_steering(ask.sampling, limits.vocab)
    if ask.prompt_logprobs and ask.n * ask.prompt_tokens * (1 + ask.top_logprobs) > PROMPT_LOGPROBS_MAX:
        raise InvalidRequest(
            f"{ask.n * ask.prompt_tokens} prompt tokens, with {ask.top_logprobs} alternatives each, are more than the"
            f" {PROMPT_LOGPROBS_MAX} logprobs of prompts in one request",
            param="logprobs",
        )
    payload_bytes = len(ask.sampling.steering.payload)
    cells = ask.n * sum(submit_cells(len(prompt), payload_bytes) for prompt in ask.prompts)
    if cells > cells_max:
        tokens = ask.n * ask.prompt_tokens
        raise InvalidRequest(f"{tokens} prompt tokens over all choices are too many for one request", param="n")
    tokens = max(map(len, ask.prompts)) + ask.max_tokens
    if tokens > limits.tokens_max(ask.tenant):
        raise InvalidRequest(
            f"{tokens} tokens in one sequence; there is room for {limits.tokens_max(ask.tenant)}", param="max_tokens"
        )


def _check_steering(sampling: Sampling, vocab: int) -> None:
    """Refuse what no engine takes: it would be malformed there."""
    tokens = [token for token, _ in sampling.logit_bias]
    if len(tokens) > BIAS_PAIRS_MAX or len(set(tokens)) < len(tokens):
        raise InvalidRequest(f"want at most {BIAS_PAIRS_MAX} tokens, each once", param="logit_bias")
    if not all(0 <= token < vocab for token in tokens):
        raise InvalidRequest(f"token ids are 0 to {vocab - 1}", param="logit_bias")
    words = sampling.bad_words
    if len(words) > BAD_WORDS_MAX or sum(map(len, words)) > BAD_WORD_TOKENS_MAX:
        raise InvalidRequest(
            f"want at most {BAD_WORDS_MAX} words of {BAD_WORD_TOKENS_MAX} tokens together", param="bad_words"
        )
    if len(sampling.grammar.encode()) > GRAMMAR_BYTES_MAX:
        raise InvalidRequest(f"what the answer must match is more than {GRAMMAR_BYTES_MAX} bytes")


def _check_tensors(ask: Ask, limits: RouteLimits, cells_max: int) -> None:
    rows, rows_max = ask.prompt_tokens, limits.tokens_max(ask.tenant) - ask.max_tokens
    if rows > rows_max:
        raise InvalidRequest(f"{rows} rows in one request; there is room for {rows_max}", param=ask.field)
    if submit_cells(rows, len(ask.payload)) > cells_max:
        bytes_max = CELL_BYTES * (cells_max - submit_cells(rows))
        raise InvalidRequest(
            f"{len(ask.payload)} bytes of inputs in one request; there is room for {bytes_max}", param=ask.field
        )
