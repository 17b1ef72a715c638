"""A scheduler among front ends and a model of which everything is known, looked at after every step.

The model's next token is a hash of the seed, the ordinal and all tokens that it reads from the cache through the
block table. So a wrong slot, table, position, chunk or ordinal, a block that two write, or one read before it is
written, is a wrong token or a failed check; and what each request must be told can be computed without a scheduler.
The sum of states that a pool keeps is the list of their tokens.
"""

import hashlib
from array import array
from dataclasses import dataclass, field

import numpy as np

from aruntime.queue.steering import steering
from aruntime.scheduler.scheduler import Scheduler, StepPlan

STOP, LENGTH, CANCELLED, DEADLINE, MODEL_ERROR, OVERLOADED, INVALID, DRAINING = range(1, 9)
VOCAB = 4096
EOS = 2
Key = tuple[int, int, int]  # front end, slot, generation
ALTERNATIVE = 1
MEAN = 1
GARBAGE = (-1, -1)  # what a step writes for a sequence that has ended meanwhile


def likeliest(token: int, top: int) -> list[int]:
    """What the model says are alternatives to a token: their logprobs are 0, -1, -2 ..."""
    return [(token + place) % VOCAB for place in range(top)]


def tops(tokens: list[int], top: int) -> tuple[np.ndarray, np.ndarray]:
    """The alternatives to each token and their logprobs, as a step gives them."""
    rows = np.array([likeliest(token, top) for token in tokens], np.int32).reshape(len(tokens), top)
    return rows, np.tile(-np.arange(top, dtype=np.float32), (len(tokens), 1))


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
    tenant: int = 0
    priority: int = 1
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    deadline_s: float = float("inf")
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    grammar: str = ""
    top_logprobs: int = 0
    prompt_logprobs: bool = False
    pooling: int = 0
    alternatives: list[int] = field(default_factory=list)  # to the token that is told next
    prompt_told: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    finish: int = 0
    cancelled: bool = False
    failed: bool = False
    paused: bool = False

    @property
    def stops(self) -> set[int]:
        return set(self.stop_token_ids) | (set() if self.ignore_eos else {EOS})

    def banned(self, said: list[int]) -> set[int]:
        """What may not follow what was said."""
        words = {word[-1] for word in self.bad_words if said[len(said) - len(word) + 1 :] == list(word[:-1])}
        return words | (self.stops if len(said) < self.min_tokens else set())

    def answer(self, context_max: int) -> tuple[list[int], int]:
        """The tokens and the end of an undisturbed run."""
        tokens: list[int] = []
        while not self.pooling and len(tokens) < self.max_tokens and len(self.prompt) + len(tokens) < context_max:
            token = next_token(self.seed, len(tokens), self.prompt + tokens, self.banned(tokens))
            if token in self.stops:
                return tokens, STOP
            tokens.append(token)
        return tokens, LENGTH


@dataclass(slots=True)
class Step:
    """A plan, whose its rows are, and what it sampled once it has run."""

    plan: StepPlan
    owners: list[Request]
    pool_owners: list[Request]
    sampled: np.ndarray[tuple[int, ...], np.dtype[np.int32]] | None = None
    pooled: list[Request] = field(default_factory=list)  # whose vectors it makes


class World:
    """Drives one scheduler; every method checks what it can see."""

    def __init__(self, **limits: int) -> None:
        self.limits = limits
        self.block_tokens = limits["block_tokens"]
        self.context_max = min(limits["context_max"], limits["blocks"] * self.block_tokens)
        self.scheduler = Scheduler(**limits, vocab=VOCAB, eos_token_ids=[EOS], prefix_secret=7)
        self.now_s = 0.0
        self.requests: dict[Key, Request] = {}
        self.cache: dict[
            int, tuple[int, int]
        ] = {}  # slot: token, hash of all tokens up to it and the root they are under
        self.sampled: dict[Key, list[int]] = {}  # also the stop token
        self.released: set[Key] = set()
        self.sums: dict[int, tuple[Key, list[int]]] = {}  # place: whose, and the tokens in it
        self.pooled: set[Key] = set()  # those whose vectors have been made
        self.under_way: list[Step] = []
        self.last_sample: np.ndarray[tuple[int, ...], np.dtype[np.int32]] | None = None
        self.groups: dict[int, int] = {}  # tenant: prefix group
        self.caps: dict[int, int] = {}  # tenant: blocks that it may hold

    # What front ends do.

    def set_tenant(self, tenant: int, **terms: float) -> None:
        self.groups[tenant] = int(terms.get("prefix_group", 0))
        self.caps[tenant] = max(1, int(terms.get("cache_max", 1.0) * self.limits["blocks"]))
        self.scheduler.set_tenant(tenant, **terms)

    def submit(self, request: Request) -> int:
        answer = self.scheduler.submit(
            front_end=request.key[0],
            slot=request.key[1],
            generation=request.key[2],
            prompt=array("i", request.prompt),
            max_tokens=request.max_tokens,
            arrived_s=self.now_s,
            tenant=request.tenant,
            min_tokens=request.min_tokens,
            priority=request.priority,
            deadline_s=request.deadline_s,
            ignore_eos=request.ignore_eos,
            stop_token_ids=request.stop_token_ids,
            repetition_penalty=request.repetition_penalty,
            presence_penalty=request.presence_penalty,
            seed=request.seed,
            top_logprobs=request.top_logprobs,
            prompt_logprobs=request.prompt_logprobs,
            pooling=request.pooling,
            **steering(request.logit_bias, request.bad_words, request.grammar)._asdict(),
        )
        self.requests[request.key] = request
        if not answer:
            self.sampled[request.key] = []
        return answer

    def cancel(self, key: Key) -> None:
        self.scheduler.cancel(*key)
        if key in self.requests:
            self.requests[key].cancelled = True
        self.check()

    def pause(self, key: Key, *, resume: bool = False) -> None:
        (self.scheduler.resume if resume else self.scheduler.pause)(*key)
        self.requests[key].paused = not resume
        self.check()

    def release(self, key: Key) -> None:
        """The grammar of a request is ready, if it has one and lives."""
        self.released.add(key)
        self.scheduler.release(*key)
        self.check()

    def drop(self, front_end: int) -> None:
        self.scheduler.drop_front_end(front_end)
        self.requests = {key: request for key, request in self.requests.items() if key[0] != front_end}
        self.check()

    def take(self, front_end: int, limit: int = 4096) -> list[Key]:
        """Take outputs, check each against the undisturbed run, and return the keys that ended."""
        ended = []
        for slot, generation, token, index, finish, _, logprob, kind in self.scheduler.take_outputs(front_end, limit):
            request = self.requests[front_end, slot, generation]
            assert not request.finish, "told after its end"
            if kind:
                self._tell(request, kind, token, index, logprob)
                continue
            assert index == len(request.told)
            assert token >= 0 or finish
            if token >= 0:
                assert request.alternatives == likeliest(token, request.top_logprobs)
                request.alternatives = []
                request.told.append(token)
            if finish:
                request.finish = finish
                ended.append(request.key)
                self._check_end(request)
        return ended

    def _tell(self, request: Request, kind: int, token: int, index: int, logprob: float) -> None:
        if kind == ALTERNATIVE:
            assert logprob == -len(request.alternatives)
            request.alternatives.append(token)
            return
        assert not request.told
        assert request.prompt_logprobs
        assert request.alternatives == likeliest(token, request.top_logprobs)
        assert logprob == -token
        request.alternatives = []
        request.prompt_told.append(token)
        assert index == len(request.prompt_told)
        assert token == request.prompt[index]

    def _check_end(self, request: Request) -> None:
        if request.finish in (OVERLOADED, INVALID, DRAINING):
            assert not request.told
            return
        cap = self.caps.get(request.tenant, self.limits["blocks"]) * self.block_tokens
        tokens, finish = request.answer(min(self.context_max, cap))
        assert request.told == tokens[: len(request.told)]
        if request.finish in (STOP, LENGTH):
            assert (request.key in self.pooled) == bool(request.pooling)
            assert (request.told, request.finish) == (tokens, finish)
            assert request.prompt_told == (request.prompt[1:] if request.prompt_logprobs else [])
        elif request.finish == CANCELLED:
            assert request.cancelled
        elif request.finish == DEADLINE:
            assert request.deadline_s <= self.now_s + 10.0  # passed, or known to be out of reach
        else:
            assert (request.finish, request.failed) == (MODEL_ERROR, True)

    # What the engine does.

    def plan(self) -> StepPlan:
        plan = self.scheduler.plan(self.now_s)
        self.check()
        self._check_shape(plan)
        owners = [self.requests[key] for key in plan.owners()]
        assert len({owner.key for owner in owners}) == plan.sequences == len(owners), "twice in one step"
        for owner in owners:
            assert not owner.cancelled
            assert not owner.paused or owner.grammar or owner.pooling  # while it is held, a pause says nothing new
            assert not owner.grammar or owner.key in self.released
            assert owner.deadline_s > self.now_s
        self._check_penalties(plan, owners)
        self._check_guidance(plan, owners)
        if plan.tokens:
            self.under_way.append(Step(plan, owners, [self.requests[key] for key in plan.pool_owners()]))
        return plan

    def run(self) -> None:
        """Run the steps that are planned and have not run: write their tokens, read all back, sample."""
        for step in self.under_way:
            if step.sampled is None:
                for row in range(step.plan.sequences):
                    self._write_row(step, row)
                self.last_sample = step.sampled = self._sample(step)
                self._pool(step)

    def commit(self) -> None:
        """Commit the oldest step under way, which has run."""
        if not self.under_way:
            self.scheduler.commit(np.empty(0, np.int32), self.now_s)
            return
        step = self.under_way.pop(0)
        assert step.sampled is not None
        self.pooled |= {owner.key for owner in step.pooled}
        plan = step.plan
        self.scheduler.commit(
            step.sampled,
            self.now_s,
            likely=tops(step.sampled[plan.likely_row].tolist(), plan.top),
            scored=(-plan.scored_token.astype(np.float32), *tops(plan.scored_token.tolist(), plan.top)),
        )
        self.check()

    def fail(self) -> None:
        self.scheduler.fail_step()
        if self.under_way:
            for owner in self.under_way.pop(0).owners:
                owner.failed = True
        self.check()

    def step(self) -> StepPlan:
        """Plan, run and commit one step, and what was under way before it."""
        plan = self.plan()
        self.run()
        while self.under_way:
            self.commit()
        return plan

    def finish(self) -> None:
        """Run until nothing waits or runs; every request must have been told one end, and every block be back."""
        for request in self.requests.values():
            self.release(request.key)
            if request.paused:
                self.pause(request.key, resume=True)
        work = sum(len(r.prompt) + r.max_tokens for r in self.requests.values() if not r.finish)
        for _ in range(10 + 20 * work):
            if self.step().tokens == 0:
                break
        stats = self.scheduler.stats()
        assert stats.waiting == stats.running == stats.paused == stats.waiting_tokens == stats.tokens_left == 0
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
        assert 0 <= stats.blocks_cached <= stats.blocks_free <= stats.blocks_total == self.limits["blocks"]

    def _check_shape(self, plan: StepPlan) -> None:
        assert plan.tokens <= self.limits["step_tokens_max"]
        assert plan.sequences <= self.limits["sequences_max"]
        lengths = np.diff(plan.query_start)
        assert plan.query_start[0] == 0
        assert plan.query_start[-1] == plan.tokens == len(plan.token_ids) == len(plan.positions)
        assert (lengths > 0).all()
        assert (lengths[: plan.decodes] == 1).all()
        assert len(plan.token_source) == plan.decodes
        assert plan.sample_index[: plan.decodes].tolist() == list(range(plan.decodes))
        assert set(plan.sample_index.tolist()) <= set((plan.query_start[1:] - 1).tolist())
        assert len(set(plan.slot_mapping.tolist())) == plan.tokens, "two tokens share a slot"
        tables = [set(self._blocks(plan, row)) for row in range(plan.sequences)]
        for row in range(plan.sequences):
            slots = plan.slot_mapping[plan.query_start[row] : plan.query_start[row + 1]]
            written = set((slots // self.block_tokens).tolist())
            assert written <= tables[row]
            assert sum(bool(written & table) for table in tables) == 1, "a block is written that others read"

    def _blocks(self, plan: StepPlan, row: int) -> list[int]:
        return plan.block_tables[row, : -(-int(plan.context_len[row]) // self.block_tokens)].tolist()

    def _places(self, plan: StepPlan, row: int) -> list[int]:
        table = plan.block_tables[row]
        return [
            int(table[p // self.block_tokens]) * self.block_tokens + p % self.block_tokens
            for p in range(int(plan.context_len[row]))
        ]

    def _write_row(self, step: Step, row: int) -> None:
        """Write one sequence's tokens into the cache, and read back all that it will read."""
        plan, owner = step.plan, step.owners[row]
        start, end = int(plan.query_start[row]), int(plan.query_start[row + 1])
        context = int(plan.context_len[row])
        first = context - (end - start)
        places = self._places(plan, row)
        assert plan.positions[start:end].tolist() == list(range(first, context))
        assert plan.slot_mapping[start:end].tolist() == places[first:]
        known = owner.prompt + self.sampled[owner.key]
        tokens = plan.token_ids[start:end].tolist()
        if row < plan.decodes and plan.token_source[row] >= 0:
            assert self.last_sample is not None
            tokens = [int(self.last_sample[plan.token_source[row]])]
        if owner.cancelled or context > len(known) or owner.key not in self.requests:
            for place in places[first:]:
                self.cache[place] = GARBAGE  # nobody must ever read it
            return
        assert tokens == known[first:context]
        chain = [hash((self.groups.get(owner.tenant, 0), "root"))]
        for token in known[:context]:
            chain.append(hash((chain[-1], token)))
        for position in range(first, context):
            self.cache[places[position]] = (known[position], chain[position + 1])
        assert [self.cache[place] for place in places] == list(zip(known, chain[1:], strict=False))[:context]

    def _check_penalties(self, plan: StepPlan, owners: list[Request]) -> None:
        told = list(
            zip(plan.penalty_row, plan.penalty_token, plan.penalty_output_count, plan.penalty_in_prompt, strict=True)
        )
        assert len({(row, token) for row, token, _, _ in told}) == len(told)
        for row, index in enumerate(plan.sample_index.tolist()):
            owner = owners[self._sequence_of(plan, index)]
            output = self.sampled[owner.key][: plan.position[row]]
            prompt = owner.prompt if owner.repetition_penalty != 1 else []
            penalised = prompt + output if prompt or owner.presence_penalty else []
            expected = {token: (output.count(token), token in prompt) for token in penalised}
            assert {t: (count, bool(seen)) for r, t, count, seen in told if r == row} == expected
            assert plan.seed[row] == owner.seed
            assert plan.repetition_penalty[row] == np.float32(owner.repetition_penalty)

    def _check_guidance(self, plan: StepPlan, owners: list[Request]) -> None:
        biases = list(zip(plan.bias_row, plan.bias_token, plan.bias, strict=True))
        guided = []
        for row, index in enumerate(plan.sample_index.tolist()):
            owner = owners[self._sequence_of(plan, index)]
            said = self.sampled[owner.key][: plan.position[row]]
            assert [(token, bias) for at, token, bias in biases if at == row] == list(owner.logit_bias)
            if owner.bad_words:
                assert set(plan.banned_token[plan.banned_row == row].tolist()) == owner.banned(said)
            if owner.grammar:
                guided.append((row, said[-1] if said else -1, owner.key))
        likely = [
            row for row, index in enumerate(plan.sample_index) if owners[self._sequence_of(plan, index)].top_logprobs
        ]
        assert plan.likely_row.tolist() == likely
        for index, token in zip(plan.scored_index.tolist(), plan.scored_token.tolist(), strict=True):
            owner = owners[self._sequence_of(plan, index)]
            assert owner.prompt_logprobs
            assert token == owner.prompt[plan.positions[index] + 1]
        assert list(zip(plan.guided_row, plan.guided_token, plan.guided_owners(), strict=True)) == guided

    @staticmethod
    def _sequence_of(plan: StepPlan, token: int) -> int:
        return int(np.searchsorted(plan.query_start, token, side="right")) - 1

    def _sample(self, step: Step) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
        """The model: a hash of what it reads through the block tables."""
        plan = step.plan
        sampled = np.zeros(plan.samples, np.int32)
        for row in range(plan.samples):
            sequence = self._sequence_of(plan, int(plan.sample_index[row]))
            owner = step.owners[sequence]
            context = [self.cache[place][0] for place in self._places(plan, sequence)]
            if -1 in context:
                continue
            banned = set(plan.banned_token[plan.banned_row == row].tolist())
            sampled[row] = next_token(int(plan.seed[row]), int(plan.position[row]), context, banned)
            mine = self.sampled[owner.key]
            if len(owner.prompt) + len(mine) == len(context):
                assert plan.position[row] == len(mine)
                mine.append(int(sampled[row]))
        return sampled

    def _pool(self, step: Step) -> None:
        """Sum up what the plan says, and check that a vector is of the whole prompt, or of its last token."""
        plan = step.plan
        columns = (plan.pool_start, plan.pool_end, plan.pool_place, plan.pool_carry, plan.pool_divisor)
        rows = zip(step.pool_owners, *(column.tolist() for column in columns), strict=True)
        for request, start, end, place, carry, divisor in rows:
            assert carry == 0 or self.sums[place][0] == request.key, "a sum goes on that another has begun"
            tokens = (self.sums[place][1] if carry else []) + plan.token_ids[start:end].tolist()
            if not divisor:
                self.sums[place] = (request.key, tokens)
            else:
                assert tokens == (request.prompt if request.pooling == MEAN else request.prompt[-1:])
                assert divisor == len(tokens)
                step.pooled.append(request)
