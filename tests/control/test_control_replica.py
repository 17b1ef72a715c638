"""A replica is ready when its golden questions are answered: a fake engine, a fake or a real prober, real rings."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from aruntime.control import replica as replica_room
from aruntime.control.launcher import LocalChild, LocalLauncher
from aruntime.control.probe import prober as prober_room
from aruntime.control.replica import Replica
from aruntime.queue.columns import PROBER_ROW
from aruntime.wire.control import Bounds, Life, Load, Probed

ENGINE, PROBER = "aruntime.engine.main", "aruntime.control.probe.probing"
FAKES = {ENGINE: "control_fake_engine", PROBER: "control_fake_prober"}


class Launcher(LocalLauncher):
    """Starts fakes, but for the modules in `real`, and remembers what it started."""

    def __init__(self) -> None:
        self.started: dict[str, list[LocalChild]] = {ENGINE: [], PROBER: []}
        self.real: set[str] = set()

    def start(
        self, module: str, arguments: Sequence[str], keep: Sequence[int], on_end: Callable[[int], None]
    ) -> LocalChild:
        name = module if module in self.real else FAKES[module]
        self.started[module].append(super().start(name, arguments, keep, on_end))
        return self.started[module][-1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it looks at other processes
            await asyncio.sleep(0.01)


class House:
    """One replica of the version in `folder`, and the lives that it has had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.launcher = Launcher()
        self.lives: list[Life] = []
        self.replica = Replica(0, "demo", 1, self.launcher, time.monotonic, self._on_change)

    def start(self, how: str = "passes") -> None:
        (self.folder / "probe.txt").write_text(how)
        order = Load(
            replica=0, model="demo", version=1, folder=str(self.folder), device="cpu", dtype="float32",
            cache_dtype="float32", cache_bytes=1, block_tokens=16, sequences_max=4, step_tokens_max=16,
            bounds=Bounds(waiting_max=4, waiting_tokens_max=100, ttft_s=1.0, itl_s=0.1), threads=1,
        )  # fmt: skip
        self.replica.start(order, 0)

    def _on_change(self, replica: Replica) -> None:
        if not self.lives or self.lives[-1] != replica.life:
            self.lives.append(replica.life)

    async def until(self, *lives: Life) -> None:
        await until(lambda: self.replica.life in lives)

    async def probe(self) -> Probed:
        done: asyncio.Future[Probed] = asyncio.get_running_loop().create_future()
        self.replica.probe(done.set_result)
        return await asyncio.wait_for(done, 10)

    async def close(self) -> None:
        if self.replica.life != "failed":
            self.replica.stop()
        await until(lambda: self.replica.gone)
        for child in [child for started in self.launcher.started.values() for child in started]:
            assert child._process.returncode is not None


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    await made.close()


async def test_it_is_ready_when_its_questions_are_answered(house: House) -> None:
    house.start()
    await house.until("ready")
    assert house.lives == ["warming", "probing", "ready"]
    assert not house.replica.wrong


async def test_an_engine_that_is_told_to_leave_while_it_loads_is_not_waited_for(house: House) -> None:
    house.start()
    house.replica.stop()
    await until(lambda: house.replica.gone)
    assert house.launcher.started[ENGINE][0]._process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("how", "words", "lives"),
    [
        ("wrong", "the probe: token 3 is 5, want 4", ["warming", "probing", "failed"]),
        ("wrong-early", "the probe: another tokenizer", None),
    ],
)
async def test_a_wrong_answer_fails_it_for_good(house: House, how: str, words: str, lives: list[Life] | None) -> None:
    house.start(how)
    await house.until("failed", "ready")
    assert house.replica.reason == words
    assert house.replica.wrong
    assert lives is None or house.lives == lives
    assert len(house.launcher.started[PROBER]) == 1


async def test_a_prober_that_is_killed_proves_nothing_and_is_started_again_so_many_times(house: House) -> None:
    house.start("dies")
    await house.until("failed", "ready")
    assert house.replica.reason == "the probe: the prober was killed by signal 9"
    assert not house.replica.wrong
    assert len(house.launcher.started[PROBER]) == replica_room.PROBES_MAX
    assert len(house.launcher.started[ENGINE]) == 1


async def test_a_prober_that_says_passed_unasked_proves_nothing(house: House) -> None:
    house.start("passes-early")
    await house.until("failed", "ready")
    assert house.replica.reason == "the probe: the prober said that it passed before it was asked"
    assert not house.replica.wrong
    assert len(house.launcher.started[PROBER]) == replica_room.PROBES_MAX


async def test_a_probe_that_comes_to_a_result_at_last_counts(house: House) -> None:
    house.start("dies-once")
    await house.until("failed", "ready")
    assert house.replica.life == "ready"
    assert len(house.launcher.started[PROBER]) == 2


async def test_a_prober_that_takes_too_long_is_killed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_room, "PROBE_S_MAX", 0.1)
    monkeypatch.setattr(prober_room, "_LAST_WORDS_S", 0.1)
    house.start("waits")
    await house.until("failed", "ready")
    assert house.replica.reason == "the probe: the prober took too long to ask the questions"
    assert not house.replica.wrong


async def test_every_life_of_the_engine_is_probed(house: House) -> None:
    house.start()
    await house.until("ready")
    house.launcher.started[ENGINE][0].kill()
    await house.until("down", "starting")
    await house.until("ready")
    assert house.lives[-4:] == ["starting", "warming", "probing", "ready"]
    (house.folder / "probe.txt").write_text("wrong")
    house.launcher.started[ENGINE][1].kill()
    await house.until("down", "starting")
    await house.until("ready", "failed")
    assert house.replica.life == "failed"


async def test_an_engine_that_dies_while_it_is_probed_is_down_and_not_wrong(house: House) -> None:
    house.start("waits")
    await house.until("probing")
    (house.folder / "probe.txt").write_text("passes")
    house.launcher.started[ENGINE][0].kill()
    await house.until("down")
    await house.until("ready")
    assert len(house.launcher.started[PROBER]) == 2


async def test_a_ready_replica_can_be_asked_again_and_stays_as_it_is(house: House) -> None:
    house.start()
    assert (await house.probe()).reason == "the replica is not ready, or is being probed"
    await house.until("ready")
    assert (await house.probe()).passed
    (house.folder / "probe.txt").write_text("wrong")
    assert (await house.probe()).wrong
    assert house.replica.life == "ready"
    (house.folder / "probe.txt").write_text("waits")
    asking = asyncio.create_task(house.probe())
    await asyncio.sleep(0)
    assert not (await house.probe()).passed  # one after the other
    house.launcher.started[ENGINE][0].kill()
    assert (await asking) == Probed(passed=False, reason="the engine ended")


# The real prober asks the fake engine, whose answer is 0, 1, 2, …


def write_version(folder: Path, text: str, template: str | None = None) -> None:
    """A tokenizer of the digits' words, and one golden question."""
    tokenizer = """{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}, "unk_token": "a"}}"""
    (folder / "tokenizer.json").write_text(tokenizer)
    (folder / "golden").mkdir()
    asked = '"prompt": "c b"'
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
        asked = '"messages": [{"role": "user", "content": "c"}]'
    (folder / "golden" / "a.jsonl").write_text(f'{{{asked}, "max_tokens": 3, "text": "{text}"}}\n')


async def test_the_real_prober_asks_over_the_rings_and_what_it_counts_does_not_stay(house: House) -> None:
    house.launcher.real = {PROBER}
    write_version(house.folder, "a b c")
    house.start()
    await house.until("ready", "failed")
    assert house.replica.reason == ""
    assert house.replica.engine is not None
    assert not any(house.replica.engine.table.row(PROBER_ROW))
    assert (await house.probe()) == Probed(passed=True, questions=1)
    assert not any(house.replica.engine.table.row(PROBER_ROW))


@pytest.mark.parametrize(
    ("text", "template", "words"),
    [
        ("a b a", None, "a.jsonl:1: the answer is another text"),
        ("a b c", "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}", "too long"),
        ("a b c", "{{ raise_exception('no such role') }}", "a.jsonl:1: no such role"),
        ("a b c", "{% if %}", "does not compile"),
    ],
)
async def test_the_real_prober_says_what_is_wrong(house: House, text: str, template: str | None, words: str) -> None:
    house.launcher.real = {PROBER}
    write_version(house.folder, text, template)
    house.start()
    await house.until("ready", "failed")
    assert words in house.replica.reason
    assert house.replica.wrong


async def test_a_missing_tokenizer_is_wrong(house: House) -> None:
    house.launcher.real = {PROBER}
    house.start()
    await house.until("ready", "failed")
    assert house.replica.reason == "the probe: tokenizer.json is missing"
    assert house.replica.wrong


async def test_a_prober_ends_when_the_supervisor_hangs_up(house: House) -> None:
    house.launcher.real = {PROBER}
    write_version(house.folder, "a b c")
    house.start()
    prober = house.replica._prober
    assert prober is not None
    prober._line.close()
    await until(lambda: house.launcher.started[PROBER][0]._process.returncode == 0)
