"""A scheduler among front ends and a model of which everything is known, looked at after every step.

The model's next token is a hash of the seed, the ordinal and all tokens that it reads from the cache through the
block table. So a wrong slot, table, position, chunk or ordinal, a block that two share, or one read before it is
written, is a wrong token or a failed check; and what each request must be told can be computed without a scheduler.
"""

import hashlib
from array import array
from dataclasses import dataclass, field

import numpy as np

from aruntime.scheduler.scheduler import Scheduler, StepPlan

STOP, LENGTH, CANCELLED, DEADLINE, MODEL_ERROR, OVERLOADED, INVALID, DRAINING = range(1, 9)
VOCAB = 4096
EOS = 2
Key = tuple[int, int, int]  # front end, slot, generation


def next_token(seed: int, ordinal: int, context: list[int], banned: set[int]) -> int:
    digest = hashlib.blake2b(array("Q", [seed, ordinal, *context]).tobytes(), digest_size=8).digest()
    token = int.from_bytes(digest, "little") % 16  # few, so that stop tokens and repetitions are common
    while token in banned:
        token += 1
    return token


@dataclass(slots=True)
class Request:
    """What one front end asked, and what it has been told so far."""

    key: Key
    prompt: list[int]
    max_tokens: int
    seed: int
    priority: int = 1
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    deadline_s: float = float("inf")
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    told: list[int] = field(default_factory=list)
    finish: int = 0
    cancelled: bool = False
    failed: bool = False

    @property
    def stops(self) -> set[int]:
        return set(self.stop_token_ids) | (set() if self.ignore_eos else {EOS})

    def answer(self, context_max: int) -> tuple[list[int], int]:
        """The tokens and the end of an undisturbed run."""
        tokens: list[int] = []
        while len(tokens) < self.max_tokens and len(self.prompt) + len(tokens) < context_max:
            banned = self.stops if len(tokens) < self.min_tokens else set()
            token = next_token(self.seed, len(tokens), self.prompt + tokens, banned)
            if token in self.stops:
                return tokens, STOP
            tokens.append(token)
        return tokens, LENGTH


class World:
    """Drives one scheduler; every method checks what it can see."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.block_tokens = limits["block_tokens"]
        self.context_max = min(limits["context_max"], limits["blocks"] * self.block_tokens)
        self.scheduler = Scheduler(**limits, vocab=VOCAB, eos_token_ids=[EOS])
        self.now_s = 0.0
        self.requests: dict[Key, Request] = {}
        self.by_first: dict[int, Request] = {}  # a prompt's first token names its request
        self.cache: dict[int, tuple[Request, int, int]] = {}  # slot: whose, position, token
        self.computed: dict[Key, int] = {}
        self.sampled: dict[Key, list[int]] = {}
        self.decoding: set[Key] = set()

    # What front ends do.

    def submit(self, request: Request) -> int:
        """Submit a request; its prompt's first token must be its own."""
        answer = self.scheduler.submit(
            front_end=request.key[0],
            slot=request.key[1],
            generation=request.key[2],
            prompt=array("i", request.prompt),
            max_tokens=request.max_tokens,
            min_tokens=request.min_tokens,
            priority=request.priority,
            deadline_s=request.deadline_s,
            ignore_eos=request.ignore_eos,
            stop_token_ids=request.stop_token_ids,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            seed=request.seed,
        )
        self.requests[request.key] = request
        if request.prompt:
            self.by_first[request.prompt[0]] = request
        if not answer:
            self.computed[request.key], self.sampled[request.key] = 0, []
        return answer

    def cancel(self, key: Key) -> None:
        self.scheduler.cancel(*key)
        if key in self.requests:
            self.requests[key].cancelled = True
            self.decoding.discard(key)

    def drop(self, front_end: int) -> None:
        self.scheduler.drop_front_end(front_end)
        self.requests = {key: request for key, request in self.requests.items() if key[0] != front_end}
        self.decoding = {key for key in self.decoding if key[0] != front_end}

    def take(self, front_end: int, limit: int = 4096) -> list[Key]:
        """Take outputs, check each against the undisturbed run, and return the keys that ended."""
        ended = []
        for slot, generation, token, index, finish, _, _ in self.scheduler.take_outputs(front_end, limit):
            request = self.requests[front_end, slot, generation]
            assert not request.finish, "told after its end"
            assert index == len(request.told)
            assert token >= 0 or finish
            if token >= 0:
                request.told.append(token)
            if finish:
                request.finish = finish
                ended.append(request.key)
                self._check_end(request)
        return ended

    def _check_end(self, request: Request) -> None:
        if request.finish in (OVERLOADED, INVALID, DRAINING):
            assert not request.told
            return
        tokens, finish = request.answer(self.context_max)
        assert request.told == tokens[: len(request.told)]
        if request.finish in (STOP, LENGTH):
            assert (request.told, request.finish) == (tokens, finish)
        elif request.finish == CANCELLED:
            assert request.cancelled
        elif request.finish == DEADLINE:
            assert request.deadline_s <= self.now_s
        else:
            assert (request.finish, request.failed) == (MODEL_ERROR, True)

    # What the engine does.

    def plan(self) -> StepPlan:
        before = self.scheduler.stats().preemptions
        plan = self.scheduler.plan(self.now_s)
        self.check()
        self._check_shape(plan)
        owners = [self._check_row(plan, row) for row in range(plan.sequences)]
        assert len({owner.key for owner in owners}) == plan.sequences, "twice in one step"
        live = {key for key in self.decoding if self.requests[key].deadline_s > self.now_s}
        starved = live - {owner.key for owner in owners[: plan.decodes]}
        assert len(starved) <= self.scheduler.stats().preemptions - before, "a decode was left out"
        self.decoding -= starved
        self._check_penalties(plan, owners)
        self.owners = owners
        return plan

    def commit(self, plan: StepPlan) -> None:
        """Write the step's tokens into the cache, read them back through the tables, sample, commit."""
        tokens = np.array([self._sample(plan, row) for row in range(plan.samples)], np.int32)
        for row, owner in enumerate(self.owners):
            self.computed[owner.key] = int(plan.context_len[row])
        self.scheduler.commit(tokens, self.now_s)
        for row, index in enumerate(plan.sample_index):
            owner = self.owners[self._sequence_of(plan, int(index))]
            self.decoding.discard(owner.key)
            if owner.key not in self.requests or owner.cancelled or owner.deadline_s <= self.now_s:
                continue
            sampled = self.sampled[owner.key]
            if int(tokens[row]) in owner.stops and len(sampled) >= owner.min_tokens:
                continue
            sampled.append(int(tokens[row]))
            if len(sampled) < owner.max_tokens and len(owner.prompt) + len(sampled) < self.context_max:
                self.decoding.add(owner.key)
        self.check()

    def fail(self) -> None:
        self.scheduler.fail_step()
        for owner in self.owners:
            owner.failed = True
            self.decoding.discard(owner.key)
        self.check()

    def step(self) -> StepPlan:
        plan = self.plan()
        self.commit(plan)
        return plan

    def finish(self) -> None:
        """Run until nothing waits or runs; every request must have been told one end, and every block be back."""
        work = sum(len(r.prompt) + r.max_tokens for r in self.requests.values() if not r.finish)
        for _ in range(10 + 20 * work):
            if self.step().tokens == 0:
                break
        stats = self.scheduler.stats()
        assert stats.waiting == stats.running == stats.waiting_tokens == 0
        assert stats.blocks_free == stats.blocks_total
        for front_end in {key[0] for key in self.requests}:
            self.take(front_end, 1 << 20)
        assert all(request.finish for request in self.requests.values())
        assert self.scheduler.stats().undelivered == 0
        self.check()

    # What must hold.

    def check(self) -> None:
        self.scheduler.check_integrity()
        stats = self.scheduler.stats()
        assert stats.running <= self.limits["sequences_max"]
        assert stats.waiting <= self.limits["waiting_max"] + self.limits["sequences_max"]
        assert 0 <= stats.blocks_free <= stats.blocks_total == self.limits["blocks"]

    def _check_shape(self, plan: StepPlan) -> None:
        assert plan.tokens <= self.limits["step_tokens_max"]
        assert plan.sequences <= self.limits["sequences_max"]
        lengths = np.diff(plan.query_start)
        assert plan.query_start[0] == 0
        assert plan.query_start[-1] == plan.tokens == len(plan.token_ids) == len(plan.positions)
        assert (lengths > 0).all()
        assert (lengths[: plan.decodes] == 1).all()
        assert plan.sample_index[: plan.decodes].tolist() == list(range(plan.decodes))
        assert set(plan.sample_index.tolist()) <= set((plan.query_start[1:] - 1).tolist())
        assert len(set(plan.slot_mapping.tolist())) == plan.tokens, "two tokens share a slot"
        owned = [block for row in range(plan.sequences) for block in self._blocks(plan, row)]
        assert len(set(owned)) == len(owned), "two sequences share a block"

    def _blocks(self, plan: StepPlan, row: int) -> list[int]:
        return plan.block_tables[row, : -(-int(plan.context_len[row]) // self.block_tokens)].tolist()

    def _check_row(self, plan: StepPlan, row: int) -> Request:
        """Check one sequence's part, write its tokens into the cache, read all back; returns whose it is."""
        start, end = int(plan.query_start[row]), int(plan.query_start[row + 1])
        context = int(plan.context_len[row])
        table = plan.block_tables[row].tolist()
        places = [table[p // self.block_tokens] * self.block_tokens + p % self.block_tokens for p in range(context)]
        assert plan.positions[start:end].tolist() == list(range(context - (end - start), context))
        assert plan.slot_mapping[start:end].tolist() == places[context - (end - start) :]
        first = int(plan.token_ids[start]) if context == end - start else self.cache[places[0]][2]
        owner = self.by_first[first]
        assert owner.key in self.requests, "a sequence of a front end that is gone"
        assert not owner.cancelled
        assert owner.deadline_s > self.now_s
        for slot, position, token in zip(
            places[context - (end - start) :], plan.positions[start:end], plan.token_ids[start:end], strict=True
        ):
            self.cache[slot] = (owner, int(position), int(token))
        known = owner.prompt + self.sampled[owner.key]
        assert [self.cache[slot] for slot in places] == [(owner, p, known[p]) for p in range(context)]
        assert context - (end - start) in (self.computed[owner.key], 0)
        assert not any(table[-(-len(known) // self.block_tokens) + 1 :]), "the table is not padded with 0"
        assert (context == len(known)) == (end - 1 in plan.sample_index), "sampled too early, or not at all"
        return owner

    def _check_penalties(self, plan: StepPlan, owners: list[Request]) -> None:
        told = list(
            zip(plan.penalty_row, plan.penalty_token, plan.penalty_output_count, plan.penalty_in_prompt, strict=True)
        )
        assert len({(row, token) for row, token, _, _ in told}) == len(told)
        for row, index in enumerate(plan.sample_index.tolist()):
            owner = owners[self._sequence_of(plan, index)]
            output = self.sampled[owner.key]
            prompt = owner.prompt if owner.repetition_penalty != 1 else []
            penalised = prompt + output if prompt or owner.presence_penalty else []
            expected = {token: (output.count(token), token in prompt) for token in penalised}
            assert {t: (count, bool(seen)) for r, t, count, seen in told if r == row} == expected
            assert plan.seed[row] == owner.seed
            assert plan.position[row] == len(output)
            assert plan.repetition_penalty[row] == np.float32(owner.repetition_penalty)

    @staticmethod
    def _sequence_of(plan: StepPlan, token: int) -> int:
        return int(np.searchsorted(plan.query_start, token, side="right")) - 1

    def _sample(self, plan: StepPlan, row: int) -> int:
        """The model: a hash of what it reads through the block table."""
        sequence = self._sequence_of(plan, int(plan.sample_index[row]))
        table = plan.block_tables[sequence]
        context = [
            self.cache[int(table[p // self.block_tokens]) * self.block_tokens + p % self.block_tokens][2]
            for p in range(int(plan.context_len[sequence]))
        ]
        banned = set(plan.banned_token[plan.banned_row == row].tolist())
        return next_token(int(plan.seed[row]), int(plan.position[row]), context, banned)
