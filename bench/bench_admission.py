"""What the door costs a request: yes with a budget and without, and no.

    python -m pytest bench/bench_admission.py --benchmark-enable

The whole of `Door.admit` with a full set of 63 front ends' rows, but for the submit ring's write. Goal: a few
microseconds.
"""

import os
import random
import time
from array import array
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aruntime.admission.ask import Ask
from aruntime.admission.door import Door
from aruntime.admission.limits import RouteLimits
from aruntime.admission.route import Route
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.base.errors import Overloaded
from aruntime.queue.columns import COLUMNS, ENGINE_ROW, TABLE_ROWS, Column
from aruntime.queue.table import Table, create_table

BUDGETS = Tenant(1, "one", requests_per_minute=10**9, tokens_per_minute=10**12, sequences_max=10**6)


@pytest.fixture
def route() -> Iterator[Route]:
    fd = create_table(TABLE_ROWS, COLUMNS)
    table = Table(fd)
    table.set(ENGINE_ROW, Column.PREFILL_TOKENS_PER_S, 20_000)
    table.set(ENGINE_ROW, Column.STEP_US, 10_000)
    channel = SimpleNamespace(
        submit_cells_free=1 << 14,
        try_submit=lambda **_: True,
        **dict.fromkeys(("try_cancel", "try_pause", "try_resume"), lambda *_: True),
    )
    yield Route(0, 1, cast(Any, channel), table, RouteLimits(64, 256, 4096, 1000))
    os.close(fd)


@pytest.mark.parametrize("tenant", [NOBODY, BUDGETS], ids=["no_budgets", "three_budgets"])
def test_a_request_is_let_in_and_ends(benchmark: Any, route: Route, tenant: Tenant) -> None:
    door = Door(0, time.monotonic, random.Random(1))
    door.tenants = (NOBODY, BUDGETS)
    ask = Ask("r", [array("i", range(300))], 100, time.monotonic(), tenant=tenant)

    def turn() -> None:
        door.admit(route, ask).close()
        for slot, holder in enumerate(route._holder[:1]):
            if holder is not None:
                route._release(slot, holder)

    benchmark(turn)
    assert route.table.sum(Column.IN_FLIGHT) == 0


def test_a_request_is_refused(benchmark: Any, route: Route) -> None:
    door = Door(0, time.monotonic, random.Random(1))
    route.table.set(2, Column.IN_FLIGHT, 320)
    ask = Ask("r", [array("i", range(300))], 100, time.monotonic())

    def turn() -> bool:
        try:
            door.admit(route, ask)
        except Overloaded:
            return True
        return False

    assert benchmark(turn)


def test_the_verdict(benchmark: Any, route: Route) -> None:
    assert benchmark(route.gate.judge, 1, 1.0, 1, 1, 300, 1, 0.0, 5.0, 0.0, True).refusal == 0
