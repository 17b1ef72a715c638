"""Tensor requests through real rings: batches form, every answer finds its request, and each ends as it must."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_tensors import (
    TABLE,
    WEIGHT,
    add,
    echo,
    look_up,
    matmul,
    order,
    softmax,
    spread,
    tensor,
    tensor_world,
    total,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aruntime.engine.loop import EngineBroken
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.queue.records import FinishReason, Priority
from aruntime.wire.control import TenantTerms

LENGTH, FAILED = FinishReason.LENGTH, FinishReason.MODEL_ERROR


def row(number: float) -> np.ndarray:
    return np.array([[number, 1, 2]], np.float32)


def test_what_waits_shares_a_run_and_everybody_gets_his_own_rows(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path))) as world:
        for slot in range(20):
            world.submit(slot, tensor("x", row(slot)))
        world.finish()
        assert world.rows_run == [8, 8, 4]
        for slot in range(20):
            assert np.allclose(world.results[slot]["y"], row(slot) @ WEIGHT)


def test_a_request_of_many_rows_is_never_split_nor_a_batch_overfilled(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), batch_max=8)) as world:
        for slot, rows in enumerate([3, 3, 3, 8, 1, 5]):
            world.submit(slot, tensor("x", np.repeat(row(slot), rows, axis=0)), rows=rows)
        world.finish()
        assert world.rows_run == [6, 3, 8, 6]
        assert [len(world.results[slot]["y"]) for slot in range(6)] == [3, 3, 3, 8, 1, 5]


def test_more_rows_than_a_batch_are_refused(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), batch_max=8)) as world:
        world.submit(0, tensor("x", np.zeros((9, 3), np.float32)), rows=9)
        world.finish()
        assert world.ends == {0: FinishReason.INVALID}


def test_requests_of_other_shapes_take_runs_of_their_own(tmp_path: Path) -> None:
    with tensor_world(order(add(tmp_path))) as world:
        for slot, width in enumerate([2, 3, 2, 3, 2]):
            values = np.full((1, width), slot, np.float32)
            world.submit(slot, tensor("b", values), tensor("a", values))
        world.finish()
        assert sorted(world.rows_run) == [2, 3]
        for slot, width in enumerate([2, 3, 2, 3, 2]):
            assert world.results[slot]["sum"].tolist() == [[2.0 * slot] * width]


def test_text_goes_in_and_comes_out(tmp_path: Path) -> None:
    with tensor_world(order(echo(tmp_path))) as world:
        world.submit(0, tensor("x", ["", "Grüße"]), rows=2)
        world.submit(1, tensor("x", ["you"]))
        world.finish()
        assert world.rows_run == [3]
        assert [world.results[slot]["y"].tolist() for slot in (0, 1)] == [["", "Grüße"], ["you"]]


@pytest.mark.parametrize(
    ("model", "inputs", "want"),
    [
        (lambda folder: matmul(folder, rows=2), np.repeat(row(1), 2, axis=0), np.repeat(row(1), 2, axis=0) @ WEIGHT),
        (total, np.arange(5, dtype=np.float32), 10.0),
        (softmax, np.zeros(4, np.float32), np.full(4, 0.25)),
    ],
    ids=["fixed rows", "no rows", "a free size that is no rows"],
)
def test_a_model_without_free_rows_runs_each_request_alone(
    tmp_path: Path, model: Callable[[Path], Path], inputs: np.ndarray, want: object
) -> None:
    with tensor_world(order(model(tmp_path))) as world:
        assert world.replica.context_max == 2
        for slot in range(3):
            world.submit(slot, tensor("x", inputs))
        world.finish()
        assert len(world.rows_run) == 3
        for slot in range(3):
            assert np.allclose(world.results[slot]["y"], want)


def test_one_bad_request_fails_alone(tmp_path: Path) -> None:
    with tensor_world(order(look_up(tmp_path))) as world:
        for slot, index in enumerate([0, 1, 9, 3]):
            world.submit(slot, tensor("x", [index]))
        world.finish()
        assert world.ends == {0: LENGTH, 1: LENGTH, 2: FAILED, 3: LENGTH}
        assert [world.results[slot]["y"].item() for slot in (0, 1, 3)] == [TABLE[0], TABLE[1], TABLE[3]]
        assert world.rows_run == [4, 1, 1, 1, 1]


def test_bad_requests_one_after_the_other_do_not_end_the_engine(tmp_path: Path) -> None:
    with tensor_world(order(look_up(tmp_path))) as world:
        for slot in range(6):
            world.submit(slot, tensor("x", [9]))
            world.finish()
        world.submit(6, tensor("x", [3]))
        world.finish()
        assert list(world.ends.values()) == [FAILED] * 6 + [LENGTH]


def test_an_engine_that_computes_nothing_any_more_gives_up(tmp_path: Path) -> None:
    def broken(_: object) -> dict[str, np.ndarray]:
        raise RuntimeError("no")

    with tensor_world(order(look_up(tmp_path))) as world:
        world.replica.session.run = broken  # type: ignore[method-assign, assignment]
        acts = [lambda slot=slot: world.submit(slot, tensor("x", [1])) for slot in range(4)]
        with pytest.raises(EngineBroken):
            world.play(*acts)
        assert set(world.ends.values()) == {FAILED}


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff" * 40, None],
    ids=["nothing", "no tensors", "fewer rows than it says"],
)
def test_a_payload_that_is_not_the_inputs_fails_its_request_only(tmp_path: Path, payload: bytes | None) -> None:
    with tensor_world(order(matmul(tmp_path))) as world:
        world.submit(0, tensor("x", row(1)), payload=payload, rows=2)
        world.submit(1, tensor("y", row(1)))
        world.submit(2, tensor("x", [["a", "b", "c"]]))
        world.submit(3, tensor("x", row(1)))
        world.finish()
        assert world.ends == {0: FAILED, 1: FAILED, 2: FAILED, 3: LENGTH}
        assert world.rows_run == [1]


def test_a_result_larger_than_the_ring_fails_its_request_and_not_the_engine(tmp_path: Path) -> None:
    with tensor_world(order(spread(tmp_path)), result_cells=128) as world:
        world.submit(0, tensor("x", np.ones((2, 1))), rows=2)
        world.submit(1, tensor("x", np.ones((1, 1))))
        world.finish()
        assert world.ends == {0: FAILED, 1: LENGTH}
        assert world.results[1]["y"].shape == (1, 1024)


def test_results_that_do_not_fit_all_at_once_are_all_delivered(tmp_path: Path) -> None:
    with tensor_world(order(spread(tmp_path)), result_cells=128) as world:
        for slot in range(20):
            world.submit(slot, tensor("x", [[float(slot)]]))
        world.finish()
        assert world.rows_run == [8, 8, 4]
        assert all((world.results[slot]["y"] == slot).all() for slot in range(20))


def test_a_front_end_that_reads_nothing_is_not_read_from_beyond_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aruntime.engine.tensor_exchange.HELD_BYTES_MAX", 3000)
    with tensor_world(order(add(tmp_path), delay_s=0.3, batch_max=64), submit_cells=256) as world:
        values = np.zeros((1, 100), np.float32)
        sent = 0
        while world.submit(sent, tensor("a", values), tensor("b", values)):
            sent += 1
        world.play(turns=3)
        waiting = world.table.get(ENGINE_ROW, Column.WAITING)
        assert 0 < waiting < sent
        world.finish()
        assert set(world.ends) == set(range(sent))


def test_a_preferred_size_runs_before_the_delay_is_over(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), preferred=[3], delay_s=60.0)) as world:
        acts = [lambda slot=slot: world.submit(slot, tensor("x", row(slot))) for slot in range(3)]
        world.play(*acts, turns=3)
        world.finish()
        assert world.rows_run == [3]


def test_other_sizes_wait_for_others_until_the_delay_is_over(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), preferred=[3], delay_s=0.3)) as world:
        began = time.monotonic()
        world.play(*[lambda slot=slot: world.submit(slot, tensor("x", row(slot))) for slot in range(2)], turns=3)
        assert world.rows_run == []
        world.finish()
        assert time.monotonic() - began >= 0.3
        assert world.rows_run == [2]


def test_a_request_from_the_future_waits_no_longer_than_the_delay(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), delay_s=0.05)) as world:
        world.submit(0, tensor("x", row(1)), arrived_s=1e12)
        world.finish()
        assert world.ends == {0: LENGTH}


def test_a_deadline_is_not_missed_by_waiting_for_others(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), delay_s=60.0)) as world:
        world.replica.warm()
        world.submit(0, tensor("x", row(1)), deadline_s=time.monotonic() + 0.5)
        world.finish()
        assert world.ends == {0: LENGTH}


def test_a_deadline_that_has_passed_is_not_computed(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path))) as world:
        world.submit(0, tensor("x", row(1)), deadline_s=time.monotonic() - 1)
        world.submit(1, tensor("x", row(1)))
        world.finish()
        assert world.ends == {0: FinishReason.DEADLINE, 1: LENGTH}
        assert world.rows_run == [1]


def test_a_cancelled_request_is_not_computed(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), delay_s=60.0, preferred=[2])) as world:
        world.play(
            lambda: world.submit(0, tensor("x", row(0))),
            lambda: world.front.try_cancel(0, 1),
            lambda: world.submit(1, tensor("x", row(1))),
            lambda: world.submit(2, tensor("x", row(2))),
        )
        world.finish()
        assert world.ends == {0: FinishReason.CANCELLED, 1: LENGTH, 2: LENGTH}
        assert world.rows_run == [2]


def test_a_full_queue_is_an_answer(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), waiting_max=4)) as world:
        for slot in range(6):
            world.submit(slot, tensor("x", row(slot)))
        world.finish()
        assert [world.ends[slot] for slot in range(6)] == [LENGTH] * 4 + [FinishReason.OVERLOADED] * 2


def test_a_higher_class_goes_first(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), batch_max=2)) as world:
        for slot in range(8):
            world.submit(slot, tensor("x", row(slot)), priority=Priority.BATCH)
        world.submit(8, tensor("x", row(8)), priority=Priority.INTERACTIVE)
        world.finish()
        assert 8 in list(world.ends)[:2]


def test_tenants_share_rows_not_requests(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), batch_max=6)) as world:
        for index in (1, 2):
            world.loop.set_tenant(TenantTerms(index=index, prefix_group=index))
        for slot in range(24):
            world.submit(slot, tensor("x", row(slot)), tenant=1)
            if slot < 8:
                world.submit(100 + slot, tensor("x", np.repeat(row(slot), 3, axis=0)), rows=3, tenant=2)
        world.finish()
        rows = np.cumsum([3 if slot >= 100 else -1 for slot in world.ends])
        assert np.abs(rows).max() <= 6


def test_a_front_end_that_is_gone_leaves_nothing_behind(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), delay_s=60.0)) as world:
        world.play(*[lambda slot=slot: world.submit(slot, tensor("x", row(slot))) for slot in range(3)], turns=2)
        world.loop.exchange.detach(1)
        assert world.is_empty
        assert not world.replica.exchange._payloads
        world.replica.scheduler.check_integrity()


@pytest.fixture(scope="module")
def matmul_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matmul(tmp_path_factory.mktemp("matmul"))


ACT = st.one_of(
    st.tuples(st.just("submit"), st.integers(1, 4), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("cancel"), st.integers(0, 15), st.just(0), st.just(0)),
    st.tuples(st.just("turn"), st.just(0), st.just(0), st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(ACT, max_size=30),
    delay_s=st.sampled_from([0.0, 0.002]),
    preferred=st.lists(st.integers(1, 4), max_size=2),
)
def test_however_requests_come_and_go_each_ends_once_with_its_own_result(
    matmul_folder: Path, acts: list[tuple[str, int, int, int]], delay_s: float, preferred: list[int]
) -> None:
    with tensor_world(order(matmul_folder, batch_max=4, delay_s=delay_s, preferred=preferred)) as world:
        asked: dict[int, int] = {}
        cancelled: set[int] = set()

        def act(what: str, number: int, tenant: int, priority: int) -> Callable[[], None]:
            def do() -> None:
                if what == "submit":
                    slot = len(asked)
                    asked[slot] = number
                    inputs = tensor("x", np.repeat(row(slot), number, axis=0))
                    assert world.submit(slot, inputs, rows=number, tenant=tenant, priority=priority)
                elif what == "cancel":
                    cancelled.add(number)
                    world.front.try_cancel(number, 1)

            return do

        world.play(*[act(*one) for one in acts])
        world.finish()
        for slot, rows in asked.items():
            if slot in cancelled and world.ends[slot] == FinishReason.CANCELLED:
                continue
            assert world.ends[slot] == LENGTH
            assert np.allclose(world.results[slot]["y"], np.repeat(row(slot) @ WEIGHT, rows, axis=0))
        assert all(rows <= 4 for rows in world.rows_run)
        assert not world.replica.exchange._payloads
        world.replica.scheduler.check_integrity()


def test_warming_runs_every_size_and_teaches_the_pace(tmp_path: Path) -> None:
    with tensor_world(order(matmul(tmp_path), preferred=[3, 5])) as world:
        world.replica.warm()
        assert set(world.rows_run) == {1, 3, 5, 8}
        assert world.replica.scheduler.stats().prefill_tokens_per_s > 0
        assert world.is_empty
