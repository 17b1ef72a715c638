"""A checkpoint, a repository that holds it as `demo`, and houses for it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from control_house import Build, House, write_checkpoint

from aruntime.control import agent as agent_room
from aruntime.control.repository import publish


@pytest.fixture(autouse=True)
def _no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoTokenizer:
        @staticmethod
        def from_folder(folder: Path) -> None:
            if (folder / "broken.txt").exists():
                raise ValueError("the tokenizer cannot be read")

    monkeypatch.setattr(agent_room, "Tokenizer", NoTokenizer)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def root(tmp_path: Path, checkpoint: Path) -> Path:
    publish(checkpoint, tmp_path / "repository", "demo")
    return tmp_path / "repository"


@pytest.fixture
async def build() -> AsyncIterator[Build]:
    """Makes houses, and sees to it that nothing of them is left."""
    houses: list[House] = []

    def make(root: Path, **options: Any) -> House:
        houses.append(House(root, **options))
        return houses[-1]

    yield make
    for made in houses:
        await made.close()


@pytest.fixture
async def house(root: Path, build: Build) -> House:
    return build(root)
