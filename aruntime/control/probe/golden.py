"""Golden questions: what a version has to answer before it is ready, and when an answer is right.

`<version>/golden/*.jsonl` holds one question a line. Of a language model:

    {"messages": [...] or "prompt": "...", "max_tokens": 32, "text": "...",
     "prompt_token_ids": [...], "token_ids": [...], "logprobs": [...], "target": "cpu", "precision": "float32"}

The first three must be there; the others are recorded by `aruntime models add --golden`. Answers are greedy. Rules:

    1  Token ids of the prompt, where recorded, are equal everywhere: tokenizer and template are exact on any hardware.
       So is the text of the recorded tokens.
    2  On the recorded target and precision (or where none is recorded) token ids and text are equal. Not on a GPU that
       serves others meanwhile: who shares a step changes the last bits of its matrix products.
    3  Else each golden token's logprob is what was recorded, within LOGPROB_TOLERANCE of the coarser precision. Where
       the engine prefers another token, that one's logprob must be as near: a near tie. Then the golden token is
       forced, by asking again with the golden answer so far; at most once and once more for every TOKENS_A_TIE tokens,
       up to TIES_MAX. End-of-sequence counts as a token; that an answer ends in time is rule 2's business.
    4  Every logprob is finite, every id in the vocabulary.

A version without questions is asked a few of ours, twice: rule 4, and the same answer again. That is much weaker: it
finds weights that are not numbers and a tokenizer that does not fit, and tells no model from another.

Of a tensor model, in the Open Inference Protocol's JSON, data flat in row-major order:

    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}],
     "outputs": [...], "tolerance": 1e-5}

An output is right when no element differs by more than `tolerance`, absolutely and relative to the recorded one.
"""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError, model_validator

from aruntime.wire.control import Dtype, Name
from aruntime.wire.tensors import DATATYPES, DIMENSIONS_MAX, TENSORS_MAX, elements

FOLDER = "golden"
FILES_MAX = 16
QUESTIONS_MAX = 64
FILE_BYTES_MAX = 4 << 20
TOKENS_MAX = 1024  # of one answer
PROMPT_TOKENS_MAX = 32_768
MESSAGES_MAX = 64
CHARACTERS_MAX = 256 * 1024

# SGLang's tests hold float16 to 0.05 beside Hugging Face (test/srt/models/test_generation_models.py). bfloat16 has 8
# bits of mantissa to float16's 11: between 16 and 32, where logits lie, it steps by 0.125. float32 on other hardware
# differs by the order of its sums, and by TF32 where that is on.
LOGPROB_TOLERANCE: dict[Dtype, float] = {"float32": 0.01, "float16": 0.05, "bfloat16": 0.25}
TIES_MAX = 8
TOKENS_A_TIE = 8

TokenIds = list[Annotated[int, Field(ge=0, lt=2**31)]]
Text = Annotated[str, Field(max_length=CHARACTERS_MAX)]


class GoldenRefused(ValueError):
    """A golden file cannot be used; the message names its line and the first wrong key."""


class Wrong(Exception):
    """An answer that is not right; the message says in what, without a word of the text."""


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Prompt(_Line):
    """What a language model is asked: a line to record an answer for."""

    messages: Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=MESSAGES_MAX)] | None = None
    prompt: Text | None = None
    max_tokens: Annotated[int, Field(ge=1, le=TOKENS_MAX)]

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("want one of messages and prompt")
        return self


class Question(Prompt):
    """A prompt and the answer that it must get, with what was recorded of it."""

    text: Text
    prompt_token_ids: Annotated[TokenIds, Field(min_length=1, max_length=PROMPT_TOKENS_MAX)] | None = None
    token_ids: Annotated[TokenIds, Field(min_length=1, max_length=TOKENS_MAX)] | None = None
    logprobs: list[FiniteFloat] | None = None
    target: Name | None = None
    precision: Dtype | None = None

    @model_validator(mode="after")
    def _recorded_together(self) -> Self:
        if len({one is None for one in (self.token_ids, self.logprobs, self.target, self.precision)}) > 1:
            raise ValueError("token_ids, logprobs, target and precision belong together")
        if self.token_ids is not None and self.logprobs is not None and len(self.token_ids) != len(self.logprobs):
            raise ValueError("want as many logprobs as token_ids")
        return self


class TensorData(_Line):
    """A tensor in JSON."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    datatype: Literal[tuple(DATATYPES)]  # type: ignore[valid-type]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=DIMENSIONS_MAX)]
    data: list[FiniteFloat | int | bool | str]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.data) != elements(self.shape):
            raise ValueError(f"the shape has {elements(self.shape)} elements, the data {len(self.data)}")
        return self


class TensorQuestion(_Line):
    """Inputs of a tensor model and the outputs that they must give."""

    inputs: Annotated[list[TensorData], Field(min_length=1, max_length=TENSORS_MAX)]
    outputs: Annotated[list[TensorData], Field(min_length=1, max_length=TENSORS_MAX)]
    tolerance: Annotated[FiniteFloat, Field(ge=0)] = 1e-5


L = TypeVar("L", bound=_Line)


def read_golden(version: Path, kind: type[L]) -> list[tuple[str, L]]:
    """Every question in the folder of a version, with its file and line for messages. GoldenRefused, OSError."""
    folder = version / FOLDER
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if len(files) > FILES_MAX:
        raise GoldenRefused(f"{len(files)} files of golden questions, at most {FILES_MAX}")
    found = [question for file in files for question in read_lines(file, kind)]
    if len(found) > QUESTIONS_MAX:
        raise GoldenRefused(f"{len(found)} golden questions, at most {QUESTIONS_MAX}")
    return found


def read_lines(file: Path, kind: type[L]) -> list[tuple[str, L]]:
    """The lines of one file; empty ones do not count. GoldenRefused, OSError."""
    with file.open("rb") as stream:
        data = stream.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise GoldenRefused(f"{file.name} is longer than {FILE_BYTES_MAX} bytes")
    lines = [(f"{file.name}:{number}", line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    if not lines or len(lines) > QUESTIONS_MAX:
        raise GoldenRefused(f"{file.name} has {len(lines)} questions, want 1 to {QUESTIONS_MAX}")
    return [(where, _parse(where, line, kind)) for where, line in lines]


def _parse(where: str, line: bytes, kind: type[L]) -> L:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise GoldenRefused(f"{where}: {key + ': ' if key else ''}{first['msg'][:200]}") from None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the engine is to be asked, greedily."""

    prompt: list[int]
    max_tokens: int
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What it said."""

    token_ids: list[int]
    logprobs: list[float]
    text: str


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the questions are asked. `alone`: the replica does nothing else meanwhile."""

    target: str
    precision: Dtype
    vocab: int
    alone: bool

    @property
    def repeats(self) -> bool:
        """Whether the same question has the same answer, to the bit."""
        return self.alone or self.target == "cpu"


Examination = Generator[Attempt, Answer, None]


def examine(question: Question, prompt: list[int], here: Setting) -> Examination:
    """Ask `question`, whose prompt has these ids: yields what to ask next, is sent the answer, raises Wrong."""
    recorded_here = (question.target, question.precision) == (here.target, here.precision)
    if question.token_ids is None or (recorded_here and here.repeats):
        answer = yield Attempt(prompt, question.max_tokens)
        check_sound(answer, here.vocab)
        if question.token_ids is not None:
            _same_tokens(question.token_ids, answer.token_ids)
        if answer.text != question.text:
            raise Wrong("the answer is another text")
        return
    assert question.logprobs is not None
    assert question.precision is not None
    tolerance = max(LOGPROB_TOLERANCE[question.precision], LOGPROB_TOLERANCE[here.precision])
    yield from _force(prompt, question.token_ids, question.logprobs, tolerance, here.vocab)


def examine_unrecorded(prompt: list[int], max_tokens: int, here: Setting) -> Examination:
    """Ask the same twice: sound answers, and the same again. Yields and raises as `examine`."""
    first = yield Attempt(prompt, max_tokens, ignore_eos=True)
    check_sound(first, here.vocab)
    if not here.repeats:
        tolerance = LOGPROB_TOLERANCE[here.precision]
        yield from _force(prompt, first.token_ids, first.logprobs, tolerance, here.vocab)
        return
    second = yield Attempt(prompt, max_tokens, ignore_eos=True)
    check_sound(second, here.vocab)
    _same_tokens(first.token_ids, second.token_ids)


def check_sound(answer: Answer, vocab: int) -> None:
    """Wrong when a logprob is not finite or an id is not in the vocabulary."""
    for place, (token, logprob) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
        if not math.isfinite(logprob):
            raise Wrong(f"the logprob of token {place} is {logprob}: the model's numbers are broken")
        if not 0 <= token < vocab:
            raise Wrong(f"token {place} is {token}, not of a vocabulary of {vocab}")


def _same_tokens(want: list[int], got: list[int]) -> None:
    for place, (one, other) in enumerate(zip(want, got, strict=False)):
        if one != other:
            raise Wrong(f"token {place} is {other}, want {one}")
    if len(want) != len(got):
        raise Wrong(f"the answer has {len(got)} tokens, want {len(want)}")


def _force(prompt: list[int], golden: list[int], logprobs: list[float], tolerance: float, vocab: int) -> Examination:
    """Rule 3: teacher forcing by restarts, as many as there may be near ties."""
    known, ties, ties_max = 0, 0, min(TIES_MAX, 1 + len(golden) // TOKENS_A_TIE)
    while known < len(golden):
        answer = yield Attempt(prompt + golden[:known], len(golden) - known, ignore_eos=True)
        check_sound(answer, vocab)
        if len(answer.token_ids) != len(golden) - known:
            raise Wrong(f"the answer has {known + len(answer.token_ids)} tokens, want {len(golden)}")
        agreed, tied = _agreement(answer, golden, logprobs, known, tolerance)
        known, ties = known + agreed + tied, ties + tied
        if ties > ties_max:
            raise Wrong(f"{ties} of the first {known} tokens differ: more than near ties")


def _agreement(
    answer: Answer, golden: list[int], logprobs: list[float], known: int, tolerance: float
) -> tuple[int, bool]:
    """How many tokens of `answer` agree from place `known` on, and whether a near tie ended that. Wrong: no tie."""
    for at, (token, logprob) in enumerate(zip(answer.token_ids, answer.logprobs, strict=True)):
        place = known + at
        if abs(logprob - logprobs[place]) > tolerance:
            raise Wrong(
                f"token {place}: logprob {logprob:.3f}, want {logprobs[place]:.3f} within {tolerance:g}"
                + ("" if token == golden[place] else f", and token {token}, want {golden[place]}")
            )
        if token != golden[place]:
            return at, True
    return len(answer.token_ids), False


def default_prompts(chat: bool) -> Iterator[Prompt]:
    """What a version without golden questions is asked; `chat`: it has a template."""
    for text in ("The", "1, 2, 3,"):
        yield Prompt(prompt=text, max_tokens=8)
    if chat:
        yield Prompt(messages=[{"role": "user", "content": "Hello!"}], max_tokens=8)
