"""Every instruction set that this processor has, one after the other."""

from collections.abc import Iterator

import pytest
from aruntime_kernels import cpu


@pytest.fixture(params=["avx512", "avx2", "portable"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    best = cpu.instruction_set()
    try:
        cpu.use_instruction_set(request.param)
    except ValueError as missing:
        pytest.skip(str(missing))
    yield request.param
    cpu.use_instruction_set(best)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    cpu.set_threads(request.param)
    yield request.param
    cpu.set_threads(1)
