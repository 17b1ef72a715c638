"""One house a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from http_house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    yield made
    made.close()
