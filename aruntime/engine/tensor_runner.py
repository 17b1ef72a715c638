"""One step of a tensor model: the requests whose turn it is are put together by rows, run, and taken apart again.

plan.owners() ──► inputs of each, by signature ──► one run for all of a signature ──► a result for each ──► exchange
                                                     └─ it failed: each alone, so that one bad request fails alone

To the scheduler an answer is the token 0. A request that could not be computed is given a token that no vocabulary has,
which is how a model says that it broke on it.
"""

from dataclasses import dataclass

import numpy as np

from aruntime.base import log
from aruntime.engine.parts import Owner, Sampled
from aruntime.engine.tensor_exchange import TensorExchange
from aruntime.engine.tensor_session import Array, Arrays, TensorSession, sample, to_array, to_tensor
from aruntime.scheduler.scheduler import StepPlan
from aruntime.wire.tensors import check_inputs, decode, encode

_ANSWERED, _FAILED = 0, -1

# What must be alike for requests to share a run: the sizes of each input but the rows.
Signature = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class _Request:
    sample_row: int  # of the plan
    owner: Owner
    rows: int
    inputs: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a step came to: for each request whether it was answered."""

    tokens: Array

    def fetch(self) -> Sampled:
        """The tokens [R] int32, and no logprobs worth the name [R] float32."""
        return Sampled(self.tokens, np.zeros(len(self.tokens), np.float32))


class TensorRunner:
    """Runs planned steps of one session; with `by_rows` requests share runs."""

    steps_ahead = 0

    def __init__(self, session: TensorSession, exchange: TensorExchange, *, by_rows: bool, can_sample: bool) -> None:
        self._session = session
        self._exchange = exchange
        self._by_rows = by_rows
        self._can_sample = can_sample

    def launch(self, plan: StepPlan) -> Answers:
        """Answer every request of the plan. Raises when nothing at all can be computed any more."""
        tokens = np.full(plan.samples, _FAILED, np.int32)
        groups: dict[Signature, list[_Request]] = {}
        for sample_row, (owner, rows) in enumerate(zip(plan.owners(), np.diff(plan.query_start), strict=True)):
            request = self._read(sample_row, owner, int(rows))
            if request is not None:
                signature = tuple(array.shape[1:] for array in request.inputs.values())
                groups.setdefault(signature if self._by_rows else (owner,), []).append(request)
        if groups and not any([self._answer(group, tokens) for group in groups.values()]) and self._can_sample:
            self._session.run(sample(self._session.inputs, range(1)))  # is it them, or is it us?
        return Answers(tokens)

    def _read(self, sample_row: int, owner: Owner, rows: int) -> _Request | None:
        """The request's inputs, checked: they were in shared memory."""
        try:
            tensors = decode(self._exchange.take(owner))
            check_inputs(tensors, self._session.inputs)
            if self._by_rows and any(tensor.shape[0] != rows for tensor in tensors):
                raise ValueError(f"not every input has {rows} rows")
            by_name = {tensor.name: to_array(tensor) for tensor in tensors}
        except ValueError as error:
            log.warning("engine.request_refused", reason=str(error)[:200])
            return None
        inputs = {spec.name: by_name[spec.name] for spec in self._session.inputs}
        return _Request(sample_row, owner, rows, inputs)

    def _answer(self, group: list[_Request], tokens: Array) -> bool:
        """Run a group, and see to it that each gets its result. Whether anything could be computed."""
        try:
            results = self._run(group)
        except Exception as error:  # onnxruntime's have no type in common, and mean these inputs
            if len(group) > 1:
                return any([self._answer([request], tokens) for request in group])
            log.warning("engine.request_failed", error=type(error).__name__, detail=str(error)[:200])
            return False
        for request, result in zip(group, results, strict=True):
            if self._exchange.answer(request.owner, result):
                tokens[request.sample_row] = _ANSWERED
        return True

    def _run(self, group: list[_Request]) -> list[bytes]:
        outputs = self._session.run(_together([request.inputs for request in group]))
        if len(group) == 1:
            return [self._encode(outputs)]
        ends = np.cumsum([request.rows for request in group])
        if any(len(array) != ends[-1] for array in outputs.values()):
            raise ValueError(f"an output does not have the {ends[-1]} rows of the inputs")
        return [
            self._encode({name: array[end - request.rows : end] for name, array in outputs.items()})
            for request, end in zip(group, ends, strict=True)
        ]

    def _encode(self, outputs: Arrays) -> bytes:
        return encode(to_tensor(spec, outputs[spec.name]) for spec in self._session.outputs)


def _together(requests: list[dict[str, Array]]) -> dict[str, Array]:
    """The inputs of all requests in arrays of their own: what lies in a payload is not aligned."""
    if len(requests) == 1:
        return {name: array.copy() for name, array in requests[0].items()}
    return {name: np.concatenate([inputs[name] for inputs in requests]) for name in requests[0]}
