"""One house a test."""

from collections.abc import AsyncIterator

import pytest
from admission_house import House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    made.door.open()
    yield made
    made.close()
