"""The prober's process: `python -m aruntime.control.probe.probing --control-fd N --folder VERSION`.

    read golden questions and tokenizer, encode every prompt ──► Prepared ──► Probe comes ──► ask ──► Probed, exit
                    └─ a fault ──► Probed(wrong)                                               └─ Probed(wrong)

It asks as front end PROBER_ROW, through a door and rings like any other. It is a process of its own because it is the
first to run what a version brings along: a template that never ends, a tokenizer that takes its process down. With
`--record PROMPTS --into FILE` it asks those prompts instead and writes the answers down as golden questions.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from array import array
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aruntime.admission.ask import Ask, Sampling
from aruntime.admission.door import Door
from aruntime.admission.limits import RouteLimits
from aruntime.admission.route import Route
from aruntime.base import log
from aruntime.base.errors import Overloaded, ServingError
from aruntime.control.probe.golden import (
    Answer,
    Attempt,
    Examination,
    GoldenRefused,
    Prompt,
    Question,
    Setting,
    Wrong,
    check_sound,
    default_prompts,
    examine,
    examine_unrecorded,
    read_golden,
    read_lines,
)
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.channel import FrontEndChannel
from aruntime.queue.columns import PROBER_ROW
from aruntime.queue.post import Letter, Post
from aruntime.queue.table import Table
from aruntime.wire.control import Message, Prepared, Probe, Probed, decode, encode

# Questions under way together on a CPU, where a row's bits depend on nobody else's. On a GPU one after the other.
AT_ONCE = 8
# The prober is let in while others fill the queue: the engine has the last word.
_WAITING_MAX = 4096
_RETRY_S = 0.2
_LOGPROB_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Exam:
    """One question, encoded. `begin` starts its examination under given conditions."""

    where: str
    prompt: list[int]
    begin: Callable[[Setting], Examination]


@dataclass(slots=True)
class Recorder:
    """Writes down what is answered to the prompts of one file."""

    into: Path
    tokenizer: Tokenizer
    lines: dict[str, str] = field(default_factory=dict)  # by where the prompt stands

    def record(self, where: str, asked: Prompt, prompt: list[int], here: Setting) -> Examination:
        """An examination that cannot go wrong but by a broken or empty answer."""
        answer = yield Attempt(prompt, asked.max_tokens)
        check_sound(answer, here.vocab)
        if not answer.token_ids:
            raise Wrong("the answer is empty: it would prove nothing")
        question = Question(
            **asked.model_dump(),
            text=answer.text,
            prompt_token_ids=prompt,
            token_ids=answer.token_ids,
            logprobs=[round(logprob, _LOGPROB_DIGITS) for logprob in answer.logprobs],
            target=here.target,
            precision=here.precision,
        )
        _check_text(self.tokenizer, question)
        self.lines[where] = question.model_dump_json(exclude_none=True)

    def write(self, exams: Sequence[Exam]) -> None:
        """Write the file, in the order of the prompts."""
        self.into.parent.mkdir(exist_ok=True)
        with self.into.open("x", encoding="utf-8") as file:
            file.writelines(f"{self.lines[exam.where]}\n" for exam in exams)
            file.flush()
            os.fsync(file.fileno())


def prepare(folder: Path, tokenizer: Tokenizer) -> list[Exam]:
    """The questions of a version. ValueError says what is wrong with them, the tokenizer or the template."""
    exams = [_exam(where, question, tokenizer) for where, question in read_golden(folder, Question)]
    return exams or [_default_exam(prompt, tokenizer) for prompt in default_prompts(tokenizer.has_template)]


def prepare_recording(file: Path, recorder: Recorder) -> list[Exam]:
    """The prompts of `file`, whose answers `recorder` writes down. ValueError as in `prepare`."""
    exams = []
    for where, asked in read_lines(file, Prompt):
        prompt = _encode(where, asked, recorder.tokenizer)
        exams.append(Exam(where, prompt, partial(recorder.record, where, asked, prompt)))
    return exams


def _exam(where: str, question: Question, tokenizer: Tokenizer) -> Exam:
    prompt = _encode(where, question, tokenizer)
    if question.prompt_token_ids is not None and prompt != question.prompt_token_ids:
        raise GoldenRefused(
            f"{where}: the prompt has other token ids than were recorded: the tokenizer or the chat template is another"
        )
    try:
        _check_text(tokenizer, question)
    except Wrong as wrong:
        raise GoldenRefused(f"{where}: {wrong}") from None
    return Exam(where, prompt, partial(examine, question, prompt))


def _default_exam(asked: Prompt, tokenizer: Tokenizer) -> Exam:
    where = "a message" if asked.messages else "a prompt"
    prompt = _encode(where, asked, tokenizer)
    return Exam(where, prompt, partial(examine_unrecorded, prompt, asked.max_tokens))


def _encode(where: str, asked: Prompt, tokenizer: Tokenizer) -> list[int]:
    try:
        ids = tokenizer.encode_chat(asked.messages) if asked.messages else tokenizer.encode(asked.prompt or "")
    except ValueError as error:
        raise GoldenRefused(f"{where}: {error}") from None
    if not ids:
        raise GoldenRefused(f"{where}: the prompt has no tokens")
    return ids


def _check_text(tokenizer: Tokenizer, question: Question) -> None:
    if question.token_ids is not None and _text(tokenizer, question.token_ids) != question.text:
        raise Wrong("the recorded tokens are another text to this tokenizer")


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    detokenizer = tokenizer.detokenizer()
    return "".join([*map(detokenizer.push, ids), detokenizer.finish()])


class Asker:
    """Puts questions to one replica, greedily, until `order.timeout_s` from now. Owns the four descriptors."""

    def __init__(self, order: Probe, fds: Sequence[int], tokenizer: Tokenizer) -> None:
        channel, engine_bell, table, bell = fds
        limits = RouteLimits(
            sequences_max=order.sequences_max,
            waiting_max=_WAITING_MAX,
            context_max=order.context_max,
            vocab=order.vocab,
            blocks=order.blocks,
            block_tokens=order.block_tokens,
            ttft_s=order.timeout_s,
        )
        ring = FrontEndChannel(channel, engine_bell, order.epoch)
        self._route = Route(order.replica, PROBER_ROW, ring, Table(table), limits)
        self._door = Door(bell, time.monotonic, random.Random(0))
        self._door.open()
        self._door.attach(self._route)
        self._turn = asyncio.Semaphore(min(AT_ONCE, order.sequences_max) if order.target == "cpu" else 1)
        self._here = Setting(order.target, order.precision, order.vocab, order.alone)
        self._deadline_s = time.monotonic() + order.timeout_s
        self._tokenizer = tokenizer

    async def examine(self, exam: Exam) -> None:
        """Ask one question. Wrong: it was not answered as it must be; ServingError: it was not answered."""
        async with self._turn:
            try:
                steps = exam.begin(self._here)
                attempt = next(steps)
                while True:
                    attempt = steps.send(await self._answer(attempt))
            except StopIteration:
                return
            except Wrong as wrong:
                raise Wrong(f"{exam.where}: {wrong}") from None

    def close(self) -> None:
        """End what is in flight; nothing more is written to the table."""
        self._door.close()

    async def _answer(self, attempt: Attempt) -> Answer:
        while True:
            ask = Ask(
                request_id="probe",
                prompts=[array("i", attempt.prompt)],
                max_tokens=attempt.max_tokens,
                arrived_s=time.monotonic(),
                deadline_s=self._deadline_s,
                sampling=Sampling(temperature=0.0, ignore_eos=attempt.ignore_eos),
            )
            try:
                return await self._ask(ask)
            except Overloaded:
                await asyncio.sleep(_RETRY_S)

    async def _ask(self, ask: Ask) -> Answer:
        answer = Answer([], [], "")
        async with self._door.admit(self._route, ask) as ticket:
            async for output in ticket:
                answer.token_ids.extend(output.token_ids)
                answer.logprobs.extend(output.logprobs)
        return Answer(answer.token_ids, answer.logprobs, _text(self._tokenizer, answer.token_ids))


async def ask_all(order: Probe, fds: Sequence[int], tokenizer: Tokenizer, exams: Sequence[Exam]) -> Probed:
    """Ask every question; the first that is not answered rightly decides."""
    asker = Asker(order, fds, tokenizer)
    try:
        async with asyncio.timeout(order.timeout_s):
            await asyncio.gather(*map(asker.examine, exams))
        return Probed(passed=True, questions=len(exams))
    except Wrong as wrong:
        return Probed(passed=False, wrong=True, questions=len(exams), reason=str(wrong)[:2000])
    except ServingError as error:
        return Probed(passed=False, questions=len(exams), reason=f"a question was not answered: {error.message}"[:2000])
    except TimeoutError:
        return Probed(passed=False, questions=len(exams), reason=f"no answer within {order.timeout_s:g} s")
    finally:
        asker.close()


async def _while_connected(post: Post, work: Coroutine[Any, Any, Probed]) -> Probed:
    """What `work` returns; CancelledError when the supervisor hangs up first: it says nothing more until then."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    loop.add_reader(post.fileno(), task.cancel)
    try:
        return await task
    finally:
        loop.remove_reader(post.fileno())


def probe(post: Post, folder: Path, recording: tuple[Path, Path] | None) -> None:
    """Prepare, wait for the engine, ask, and say how it went."""

    def tell(message: Message) -> None:
        post.send(encode(message))

    try:
        tokenizer = Tokenizer.from_folder(folder)
        recorder = Recorder(recording[1], tokenizer) if recording else None
        exams = prepare_recording(recording[0], recorder) if recording and recorder else prepare(folder, tokenizer)
    except ValueError as error:
        tell(Probed(passed=False, wrong=True, reason=str(error)[:2000]))
        return
    tell(Prepared())
    letter = post.receive()
    if letter is None:
        return
    probed = asyncio.run(_while_connected(post, ask_all(_order(letter), letter.fds, tokenizer, exams)))
    if recorder and probed.passed:
        recorder.write(exams)
    tell(probed)


def _order(letter: Letter) -> Probe:
    order = decode(letter.data, len(letter.fds))
    if not isinstance(order, Probe):
        raise ValueError(f"want probe, got {order.kind}")
    return order


def main() -> int:
    """Run the prober; 0 when it has said its word, or there is nobody to say it to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    log.configure("info")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is the supervisor's to handle
    recording = (options.record, options.into) if options.record and options.into else None
    try:
        probe(Post.from_fd(options.control_fd), options.folder, recording)
    except (BrokenPipeError, asyncio.CancelledError):
        return 0  # the supervisor is gone
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # its word is said: nobody waits for an interpreter to fall apart
