"""Ready means it: real engines on checkpoints that are right, and on some that are wrong in one thing each."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aruntime.cli.main import main
from aruntime.control.host import Settings
from aruntime.control.launch_order import launch_order
from aruntime.control.launcher import LocalLauncher
from aruntime.control.replica import Replica
from aruntime.control.repository import Repository
from aruntime.wire.control import Precision, Probed

Arrays = dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]
PROMPTS = [
    {"messages": [{"role": "user", "content": "What is a canary?"}], "max_tokens": 24},
    {"prompt": "one two three", "max_tokens": 24},
]


@pytest.fixture(scope="module")
def recorded(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one version of `tiny`, its answers recorded by the command line."""
    root = tmp_path_factory.mktemp("probe")
    (root / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in PROMPTS))
    options = ["--repository", str(root / "repository"), "--golden", str(root / "prompts.jsonl")]
    options += ["--device", "cpu", "--threads", "1", "--cache-bytes", "4M"]
    assert main(["models", "add", "tiny", str(checkpoint), *options]) == 0
    return root / "repository"


@pytest.fixture
def version(recorded: Path, tmp_path: Path) -> Path:
    """The folder of a version to spoil; nobody verifies it again."""
    return Path(shutil.copytree(recorded / "tiny" / "1", tmp_path / "1"))


def start(folder: Path, recorded: Path, precision: Precision = "checkpoint") -> tuple[Replica, asyncio.Event]:
    settings = Settings(recorded, "cpu", threads=1, cache_bytes=4 << 20, drain_timeout_s=1)
    order = launch_order(Repository(recorded).open("tiny", 1), settings)
    changed = asyncio.Event()
    replica = Replica(0, "tiny", 1, LocalLauncher(), time.monotonic, lambda _: changed.set())
    replica.start(order.model_copy(update={"folder": str(folder), "dtype": precision}), 0)
    return replica, changed


async def until(replica: Replica, changed: asyncio.Event, done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            changed.clear()
            await changed.wait()


async def life_of(folder: Path, recorded: Path, precision: Precision = "checkpoint", *, again: bool = False) -> Replica:
    """What becomes of a replica of `folder`; `again`: once ready, it is probed a second time."""
    replica, changed = start(folder, recorded, precision)
    try:
        await until(replica, changed, lambda: replica.life in ("ready", "failed", "down"))
        assert replica.life != "down"
        if again:
            done: asyncio.Future[Probed] = asyncio.get_running_loop().create_future()
            replica.probe(done.set_result)
            assert await asyncio.wait_for(done, 30) == Probed(passed=True, questions=2)
        life = replica.life
    finally:
        if replica.life != "failed":
            replica.stop()
        await until(replica, changed, lambda: replica.gone)
    replica.life = life
    return replica


def weights(folder: Path, change: Callable[[Arrays], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def questions(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "golden" / "recorded.jsonl").read_text().splitlines()]


def test_a_recorded_question_has_all_that_was_seen(recorded: Path) -> None:
    first, second = questions(recorded / "tiny" / "1")
    assert (first["target"], first["precision"]) == ("cpu", "float32")
    for question in (first, second):
        assert len(question["token_ids"]) == len(question["logprobs"]) >= 1  # type: ignore[arg-type]
        assert question["text"]
    Repository(recorded).open("tiny", 1).verify()


async def test_the_version_that_was_recorded_becomes_ready_and_passes_again_when_it_serves(
    recorded: Path, version: Path
) -> None:
    assert (await life_of(version, recorded, again=True)).life == "ready"


async def test_another_precision_passes_by_the_tolerance_of_logprobs(recorded: Path, version: Path) -> None:
    assert (await life_of(version, recorded, "bfloat16")).life == "ready"


def nan(tensors: Arrays) -> None:
    tensors["model.layers.1.self_attn.o_proj.weight"][3, 5] = np.nan


def swapped(tensors: Arrays) -> None:
    one, other = "model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"
    tensors[one], tensors[other] = tensors[other], tensors[one]


def permuted(folder: Path) -> None:
    definition = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    names = sorted(vocabulary)
    definition["model"]["vocab"] = dict(zip(names, [vocabulary[name] for name in reversed(names)], strict=True))
    (folder / "tokenizer.json").write_text(json.dumps(definition))


def another_template(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = config["chat_template"].replace("<|end|>", "")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: weights(folder, nan), "the model's numbers are broken"),
        (lambda folder: weights(folder, swapped), "token"),
        (permuted, "the tokenizer or the chat template is another"),
        (another_template, "recorded.jsonl:1: the prompt has other token ids"),
    ],
    ids=["nan", "swapped", "tokenizer", "template"],
)
async def test_what_is_wrong_in_one_thing_never_becomes_ready(
    recorded: Path, version: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(version)
    replica = await life_of(version, recorded)
    assert (replica.life, replica.wrong) == ("failed", True)
    assert replica.reason.startswith("the probe: ")
    assert words in replica.reason


async def test_other_weights_do_not_pass_as_another_precision(recorded: Path, version: Path) -> None:
    weights(version, swapped)
    replica = await life_of(version, recorded, "bfloat16")
    assert (replica.life, replica.wrong) == ("failed", True)


async def test_without_questions_nan_weights_are_found_all_the_same(recorded: Path, version: Path) -> None:
    shutil.rmtree(version / "golden")
    assert (await life_of(version, recorded)).life == "ready"
    weights(version, nan)
    replica = await life_of(version, recorded)
    assert replica.wrong
    assert "the model's numbers are broken" in replica.reason


def test_a_draft_that_breaks_its_own_promises_is_not_published(
    recorded: Path, version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (version / "golden" / "recorded.jsonl").rename(version / "golden" / "promised.jsonl")
    (version / "version.toml").unlink()
    weights(version, swapped)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hello", "max_tokens": 4}\n')
    where = ["--repository", str(tmp_path / "repository"), "--golden", str(prompts), "--device", "cpu"]
    assert main(["models", "add", "tiny", str(version), *where, "--threads", "1"]) == 1
    assert "its golden questions cannot be recorded: the probe: promised.jsonl" in capsys.readouterr().err
    assert Repository(tmp_path / "repository").versions("tiny") == []
