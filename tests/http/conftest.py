"""One house a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from http_house import House

from aruntime.control.kept import AnswerStore
from aruntime.http.keeper import Keeper


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture
async def kept_house(tmp_path: Path) -> AsyncIterator[House]:
    """One that keeps answers."""
    made = House(tmp_path, context=2000, keeper=Keeper(AnswerStore(tmp_path / "answers.sqlite")))
    yield made
    made.close()
