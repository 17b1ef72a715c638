"""The ledger between processes, and between the requests of one door."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest
from admission_spender import NOW_S, PER_MINUTE, TENANT
from hypothesis import given
from hypothesis import strategies as st

from aruntime.admission.budgets import private_ledger
from aruntime.admission.ledger import REQUESTS, TOKENS, Ledger
from aruntime.queue.columns import BUCKETS_ROW, LEDGER_COLUMNS, LEDGER_ROWS, LedgerColumn, ledger_column
from aruntime.queue.table import Table, create_table

SPENDER = str(Path(__file__).with_name("admission_spender.py"))


@pytest.fixture
def fd() -> Iterator[int]:
    made = create_table(LEDGER_ROWS, LEDGER_COLUMNS)
    yield made
    os.close(made)


def spender(fd: int, what: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, SPENDER, str(fd), what], pass_fds=[fd], stdout=PIPE, text=True)


def test_processes_spend_exactly_what_there_is(fd: int) -> None:
    spent = [int(process.communicate(timeout=60)[0]) for process in [spender(fd, "drain") for _ in range(4)]]
    assert sum(spent) == PER_MINUTE


def test_a_killed_spender_takes_no_more_with_it_than_it_held(fd: int) -> None:
    chance, kills = random.Random(1), 12
    for _ in range(kills // 2):
        pair = [spender(fd, "churn") for _ in range(2)]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == "churning\n"
        time.sleep(chance.random() * 0.02)
        for process in pair:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    left, ledger = 0, Ledger(Table(fd), 2)
    while ledger.try_spend(TENANT, TOKENS, 1, PER_MINUTE, NOW_S) == 0:
        left += 1
    assert PER_MINUTE - kills <= left <= PER_MINUTE
    assert ledger.try_spend(TENANT, TOKENS, 1, PER_MINUTE, NOW_S + 0.0021) == 0  # and it fills again


@given(
    moves=st.lists(st.tuples(st.integers(1, 500), st.floats(0, 20), st.floats(0, 1)), max_size=60),
    per_minute=st.integers(500, 5000),
)
def test_no_minute_sees_more_than_a_bucket_and_what_came_in(
    moves: list[tuple[int, float, float]], per_minute: int
) -> None:
    ledger, now_s, kept = private_ledger(), 1e6, []
    for amount, pause_s, used in moves:
        now_s += pause_s
        wait_s = ledger.try_spend(3, TOKENS, amount, per_minute, now_s)
        if wait_s == 0:
            part = int(amount * used)
            ledger.refund(3, TOKENS, amount, part, per_minute)
            kept.append((now_s, part))
        else:
            assert 0 < wait_s <= 60
            assert ledger.try_spend(3, TOKENS, amount, per_minute, now_s + wait_s + 1e-6) == 0
            ledger.refund(3, TOKENS, amount, 0, per_minute)
    for from_s, _ in kept:
        spent = sum(part for at_s, part in kept if from_s <= at_s <= from_s + 60)
        assert spent <= 2 * per_minute + 1  # a full bucket, and what a minute brings


def test_budgets_and_tenants_do_not_share_a_bucket() -> None:
    ledger = private_ledger()
    assert ledger.try_spend(1, TOKENS, 10, 10, NOW_S) == 0
    assert ledger.try_spend(1, TOKENS, 1, 10, NOW_S) == pytest.approx(6)
    assert ledger.level(1, TOKENS, NOW_S + 30) == pytest.approx(0.5)
    assert ledger.level(1, REQUESTS, NOW_S) == ledger.level(2, TOKENS, NOW_S) == 1


def test_sequences_are_counted_over_all_front_ends_and_go_with_one(fd: int) -> None:
    table = Table(fd)
    one, other = Ledger(table, 1), Ledger(table, 2)
    assert one.try_hold(7, 3, 4)
    assert not other.try_hold(7, 2, 4)
    assert other.try_hold(7, 1, 4)
    assert one.held(7) == 4
    table.zero(1)
    assert other.held(7) == 1
    assert table.get(BUCKETS_ROW, ledger_column(7, LedgerColumn.SEQUENCES)) == 0


def test_refusals_are_counted_by_code_over_all_front_ends() -> None:
    fd = create_table(LEDGER_ROWS, LEDGER_COLUMNS)
    one, other = Ledger(Table(fd), 1), Ledger(Table(fd), 62)
    os.close(fd)
    one.refused("not_found")
    other.refused("not_found")
    assert (one.refusals("not_found"), one.refusals("ok")) == (2, 0)
    with pytest.raises(ValueError, match="not in tuple"):
        one.refused("secret")


def test_a_tenant_beyond_the_ledger_is_an_error() -> None:
    with pytest.raises(IndexError):
        private_ledger().try_hold(256, 1)
