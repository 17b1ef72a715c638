"""Golden questions: what a file may say, and which answers are right."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.control.probe import golden
from aruntime.control.probe.golden import (
    LOGPROB_TOLERANCE,
    Answer,
    Attempt,
    Examination,
    GoldenRefused,
    Prompt,
    Question,
    Setting,
    TensorQuestion,
    Wrong,
    examine,
    examine_unrecorded,
    read_golden,
)
from aruntime.wire.control import Dtype

PROMPT = [1, 2, 3]
TOKENS = [10, 11, 12, 13]
LOGPROBS = [-0.1, -0.2, -0.3, -0.4]
RECORDED = {
    "prompt": "p", "max_tokens": 4, "text": "abcd", "token_ids": TOKENS, "logprobs": LOGPROBS, "target": "cpu",
    "precision": "float32",
}  # fmt: skip
HERE = Setting("cpu", "float32", vocab=100, alone=True)
ELSEWHERE = Setting("cuda", "float32", vocab=100, alone=True)


def question(**changes: object) -> Question:
    return Question.model_validate({**RECORDED, **changes})


class Engine:
    """Says `tokens` whatever the prompt, each with its logprob, and goes on where a forced prompt ends."""

    def __init__(self, tokens: list[int], logprobs: list[float], text: str = "abcd") -> None:
        self.tokens, self.logprobs, self.text = tokens, logprobs, text
        self.asked: list[Attempt] = []

    def answer(self, attempt: Attempt) -> Answer:
        self.asked.append(attempt)
        first = len(attempt.prompt) - len(PROMPT)
        last = first + attempt.max_tokens
        return Answer(self.tokens[first:last], self.logprobs[first:last], self.text)


def conduct(steps: Examination, engine: Engine) -> list[Attempt]:
    """Ask to the end; what was asked."""
    attempt = next(steps)
    try:
        while True:
            attempt = steps.send(engine.answer(attempt))
    except StopIteration:
        return engine.asked


def test_where_it_was_recorded_the_answer_is_exact() -> None:
    assert conduct(examine(question(), PROMPT, HERE), Engine(TOKENS, [-9.0] * 4)) == [Attempt(PROMPT, 4)]


@pytest.mark.parametrize(
    ("tokens", "text", "words"),
    [
        ([10, 11, 99, 13], "abcd", "token 2 is 99, want 12"),
        ([10, 11], "abcd", "the answer has 2 tokens, want 4"),
        (TOKENS, "abce", "another text"),
    ],
)
def test_where_it_was_recorded_another_answer_is_wrong(tokens: list[int], text: str, words: str) -> None:
    with pytest.raises(Wrong, match=words):
        conduct(examine(question(), PROMPT, HERE), Engine(tokens, [-0.1] * len(tokens), text))


def test_a_question_of_text_alone_is_compared_by_its_text_everywhere() -> None:
    plain = Question(prompt="p", max_tokens=4, text="abcd")
    assert len(conduct(examine(plain, PROMPT, ELSEWHERE), Engine([7], [-0.1]))) == 1
    with pytest.raises(Wrong, match="another text"):
        conduct(examine(plain, PROMPT, ELSEWHERE), Engine([7], [-0.1], "x"))


def test_elsewhere_logprobs_may_differ_by_the_tolerance_and_no_more() -> None:
    near = [logprob + 0.009 for logprob in LOGPROBS]
    assert conduct(examine(question(), PROMPT, ELSEWHERE), Engine(TOKENS, near)) == [Attempt(PROMPT, 4, True)]
    far = [*LOGPROBS[:2], LOGPROBS[2] - 0.011, LOGPROBS[3]]
    with pytest.raises(Wrong, match=r"token 2: logprob -0.311, want -0.300 within 0.01"):
        conduct(examine(question(), PROMPT, ELSEWHERE), Engine(TOKENS, far))


@pytest.mark.parametrize(("recorded", "here"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_the_coarser_precision_decides(recorded: Dtype, here: Dtype) -> None:
    shifted = [logprob + 0.2 for logprob in LOGPROBS]
    conduct(examine(question(precision=recorded), PROMPT, Setting("cpu", here, 100, True)), Engine(TOKENS, shifted))


def test_a_near_tie_is_forced_and_the_rest_is_asked_again() -> None:
    asked = conduct(examine(question(), PROMPT, ELSEWHERE), Engine([10, 99, 12, 13], LOGPROBS))
    assert asked == [Attempt(PROMPT, 4, True), Attempt([*PROMPT, 10, 11], 2, True)]


def test_another_token_that_is_no_tie_is_wrong() -> None:
    with pytest.raises(Wrong, match=r"token 1: .* and token 99, want 11"):
        conduct(examine(question(), PROMPT, ELSEWHERE), Engine([10, 99, 12, 13], [-0.1, -0.02, -0.3, -0.4]))


def test_many_ties_are_another_model() -> None:
    many = question(max_tokens=100, token_ids=[1] * 100, logprobs=[-0.1] * 100)
    engine = Engine([2] * 100, [-0.1] * 100)
    with pytest.raises(Wrong, match="more than near ties"):
        conduct(examine(many, PROMPT, ELSEWHERE), engine)
    assert len(engine.asked) == golden.TIES_MAX + 1


def test_a_gpu_that_serves_others_is_held_to_the_tolerance_and_a_cpu_to_the_bit() -> None:
    tie = Engine([10, 99, 12, 13], LOGPROBS)
    conduct(examine(question(target="cuda"), PROMPT, Setting("cuda", "float32", 100, alone=False)), tie)
    for busy in (Setting("cuda", "float32", 100, alone=True), Setting("cpu", "float32", 100, alone=False)):
        with pytest.raises(Wrong):
            conduct(examine(question(target=busy.target), PROMPT, busy), tie)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("here", [HERE, ELSEWHERE])
def test_a_logprob_that_is_no_number_is_wrong_everywhere(broken: float, here: Setting) -> None:
    with pytest.raises(Wrong, match="numbers are broken"):
        conduct(examine(question(), PROMPT, here), Engine(TOKENS, [-0.1, broken, -0.3, -0.4]))
    with pytest.raises(Wrong, match="numbers are broken"):
        conduct(examine_unrecorded(PROMPT, 4, here), Engine(TOKENS, [-0.1, broken, -0.3, -0.4]))


def test_an_id_outside_the_vocabulary_is_wrong() -> None:
    with pytest.raises(Wrong, match="token 1 is 100"):
        conduct(examine_unrecorded(PROMPT, 2, HERE), Engine([1, 100], [-0.1, -0.1]))


def test_without_questions_the_same_is_asked_twice_and_must_come_back() -> None:
    assert conduct(examine_unrecorded(PROMPT, 4, HERE), Engine(TOKENS, LOGPROBS)) == [Attempt(PROMPT, 4, True)] * 2
    steps = examine_unrecorded(PROMPT, 4, HERE)
    next(steps)
    steps.send(Answer(TOKENS, LOGPROBS, ""))
    with pytest.raises(Wrong, match="token 0 is 9, want 10"):
        steps.send(Answer([9, 11, 12, 13], LOGPROBS, ""))


ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.floats(-3, 0)), min_size=1, max_size=40)


@given(ANSWERS, st.data())
def test_whatever_the_engine_says_the_questions_end_and_pass_only_what_is_near(
    recorded: list[tuple[int, float]], data: st.DataObject
) -> None:
    tokens, logprobs = [token for token, _ in recorded], [logprob for _, logprob in recorded]
    tolerance = LOGPROB_TOLERANCE["bfloat16"]
    said = [data.draw(st.integers(0, 3)) if data.draw(st.booleans()) else token for token in tokens]
    shifts = st.floats(-1.2 * tolerance, 1.2 * tolerance) if data.draw(st.booleans()) else st.floats(-0.1, 0.1)
    likely = [logprob + data.draw(shifts) for logprob in logprobs]
    asked = question(max_tokens=40, token_ids=tokens, logprobs=logprobs, precision="bfloat16")
    engine = Engine(said, likely)
    differ = sum(one != other for one, other in zip(tokens, said, strict=True))
    near = all(abs(one - other) <= tolerance for one, other in zip(logprobs, likely, strict=True))
    try:
        conduct(examine(asked, PROMPT, ELSEWHERE), engine)
        passed = True
    except Wrong:
        passed = False
    assert passed == (near and differ <= min(golden.TIES_MAX, 1 + len(tokens) // golden.TOKENS_A_TIE))
    assert len(engine.asked) <= golden.TIES_MAX + 1


@given(ANSWERS)
def test_an_engine_that_repeats_what_was_recorded_passes_on_any_hardware(recorded: list[tuple[int, float]]) -> None:
    tokens, logprobs = [token for token, _ in recorded], [logprob for _, logprob in recorded]
    asked = question(max_tokens=40, token_ids=tokens, logprobs=logprobs)
    for here in (HERE, ELSEWHERE):
        conduct(examine(asked, PROMPT, here), Engine(tokens, logprobs))


def write(version: Path, *lines: object, name: str = "a.jsonl") -> Path:
    (version / "golden").mkdir(exist_ok=True)
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (version / "golden" / name).write_text(text)
    return version


def test_questions_are_read_in_the_order_of_files_and_lines(tmp_path: Path) -> None:
    write(tmp_path, RECORDED, "\n", {"messages": [{"role": "user"}], "max_tokens": 1, "text": ""}, name="b.jsonl")
    write(tmp_path, {"prompt": "x", "max_tokens": 1, "text": "y"})
    found = read_golden(tmp_path, Question)
    assert [where for where, _ in found] == ["a.jsonl:1", "b.jsonl:1", "b.jsonl:3"]
    assert read_golden(tmp_path / "nowhere", Question) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({**RECORDED, "more": 1}, "a.jsonl:1: more: Extra"),
        ({**RECORDED, "prompt": None}, "want one of messages and prompt"),
        ({**RECORDED, "messages": [{"role": "user"}]}, "want one of messages and prompt"),
        ({**RECORDED, "max_tokens": 1025}, "max_tokens"),
        ({**RECORDED, "target": None}, "belong together"),
        ({**RECORDED, "logprobs": [0.0]}, "as many logprobs"),
        ({**RECORDED, "logprobs": [0.0, 0.0, 0.0, math.nan]}, "logprobs"),
        ({**RECORDED, "precision": "checkpoint"}, "precision"),
        ({**RECORDED, "token_ids": []}, "token_ids"),
        ({**RECORDED, "text": 1}, "text"),
        ("{]\n", "Invalid JSON"),
        ("", "0 questions"),
        ("\n".join([json.dumps(RECORDED)] * 65), "65 questions"),
    ],
)
def test_a_line_that_is_not_a_question_is_refused_by_its_place(tmp_path: Path, line: object, words: str) -> None:
    with pytest.raises(GoldenRefused, match=words):
        read_golden(write(tmp_path, line), Question)


def test_files_are_bounded(tmp_path: Path) -> None:
    for number in range(golden.FILES_MAX + 1):
        write(tmp_path, RECORDED, name=f"{number}.jsonl")
    with pytest.raises(GoldenRefused, match="17 files"):
        read_golden(tmp_path, Question)
    write(tmp_path, "x" * (golden.FILE_BYTES_MAX + 1))
    with pytest.raises(GoldenRefused, match="longer than"):
        golden.read_lines(tmp_path / "golden" / "a.jsonl", Prompt)


def test_a_tensor_s_data_are_as_many_as_its_shape_says(tmp_path: Path) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1]}
    ((_, asked),) = read_golden(write(tmp_path, {"inputs": [tensor], "outputs": [tensor]}), TensorQuestion)
    assert (asked.tolerance, asked.inputs[0].data) == (1e-5, [0.5, 1])
    for wrong in ({"shape": [3]}, {"datatype": "FLOAT"}, {"data": [0.5, None]}):
        with pytest.raises(GoldenRefused):
            read_golden(write(tmp_path, {"inputs": [{**tensor, **wrong}], "outputs": [tensor]}), TensorQuestion)
