"""What a tenant may spend: requests and tokens a minute, sequences at once, over all models and front ends.

    let in ──► charged: a request, its prompts and every token that it may generate, its sequences
       ├──the server failed it (500, 503)──► all of it is given back
       └──any other end────────────────────► the tokens that were not generated are given back

A prompt is charged whole even if the cache had it, and though the client left before it was read: a budget bounds what
a tenant may ask, not what it happened to cost (OpenAI counts so too). Its sequences count until the request has ended.
"""

import os
from collections.abc import Callable

from aruntime.admission.ask import Ask
from aruntime.admission.ledger import REQUESTS, TOKENS, Ledger
from aruntime.base.errors import InvalidRequest, ModelError, RateLimitExceeded, ServingError, Unavailable
from aruntime.queue.columns import LEDGER_COLUMNS, LEDGER_ROWS
from aruntime.queue.table import Table, create_table

# With the tokens that were generated, and the error that ended it if one did.
Settle = Callable[[int, ServingError | None], None]

# Nobody knows when one of the tenant's own sequences will end.
_RETRY_AFTER_S = 1.0


def private_ledger() -> Ledger:
    """The ledger of a front end that has no neighbours."""
    fd = create_table(LEDGER_ROWS, LEDGER_COLUMNS)
    try:
        return Ledger(Table(fd), 1)
    finally:
        os.close(fd)


def check_budget(ask: Ask) -> None:
    """InvalidRequest when no wait would make room for `ask` in its tenant's budgets."""
    tenant = ask.tenant
    if tenant.sequences_max is not None and ask.choices > tenant.sequences_max:
        raise InvalidRequest(f"{ask.choices} sequences at once; {tenant.sequences_max} are allowed", param="n")
    if tenant.tokens_per_minute is not None and (tokens := _tokens(ask)) > tenant.tokens_per_minute:
        alone = ask.prompt_tokens + ask.choices > tenant.tokens_per_minute  # the prompts leave no room to answer
        raise InvalidRequest(
            f"{tokens} tokens in one request; {tenant.tokens_per_minute} a minute are allowed",
            param=ask.field if alone else "max_tokens",
        )


def charge(ledger: Ledger, ask: Ask, now_s: float) -> Settle:
    """Take `ask` out of its tenant's budgets; how to settle it. RateLimitExceeded, and nothing taken: one is spent."""
    if ask.mirrored:
        return lambda _tokens, _error: None
    return Charge(ledger, ask, now_s).settle


class Charge:
    """What one request has taken out of its tenant's budgets. RateLimitExceeded, and nothing taken, if one is spent."""

    def __init__(self, ledger: Ledger, ask: Ask, now_s: float) -> None:
        self._ledger = ledger
        self._ask = ask
        self._open = True
        tenant = ask.tenant
        if not ledger.try_hold(tenant.index, ask.choices, tenant.sequences_max):
            raise RateLimitExceeded(
                f"at most {tenant.sequences_max} sequences at once are allowed", retry_after_s=_RETRY_AFTER_S
            )
        try:
            if tenant.requests_per_minute is not None:
                self._spend(REQUESTS, 1, tenant.requests_per_minute, now_s, "requests")
            if tenant.tokens_per_minute is not None:
                self._spend(TOKENS, _tokens(ask), tenant.tokens_per_minute, now_s, "tokens")
        except RateLimitExceeded:
            ledger.release(tenant.index, ask.choices)
            raise

    def settle(self, output_tokens: int, error: ServingError | None) -> None:
        """The request has ended, after so many tokens. Only the first call counts."""
        if not self._open:
            return
        self._open = False
        tenant, failed = self._ask.tenant, isinstance(error, ModelError | Unavailable)
        self._ledger.release(tenant.index, self._ask.choices)
        if tenant.tokens_per_minute is not None:
            charged = _tokens(self._ask)
            used = 0 if failed else min(charged, self._ask.prompt_tokens + output_tokens)
            self._ledger.refund(tenant.index, TOKENS, charged, used, tenant.tokens_per_minute)
        if failed and tenant.requests_per_minute is not None:
            self._ledger.refund(tenant.index, REQUESTS, 1, 0, tenant.requests_per_minute)

    def _spend(self, budget: int, amount: int, per_minute: int, now_s: float, words: str) -> None:
        wait_s = self._ledger.try_spend(self._ask.tenant.index, budget, amount, per_minute, now_s)
        if wait_s == 0:
            return
        if budget == TOKENS and self._ask.tenant.requests_per_minute is not None:
            self._ledger.refund(self._ask.tenant.index, REQUESTS, 1, 0, self._ask.tenant.requests_per_minute)
        raise RateLimitExceeded(f"{per_minute} {words} a minute are allowed", retry_after_s=wait_s)


def _tokens(ask: Ask) -> int:
    return ask.prompt_tokens + ask.max_tokens * ask.choices
