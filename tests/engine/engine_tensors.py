"""Small ONNX models, and a tensor engine over real rings that is played turn by turn in the test's own thread."""

import contextlib
import os
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aruntime.engine.tensor_replica import load_tensors
from aruntime.engine.tensor_session import MODEL_FILE, to_array
from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, TABLE_ROWS
from aruntime.queue.records import FinishReason
from aruntime.queue.table import Table, create_table
from aruntime.wire.control import Batching, Bounds, Load
from aruntime.wire.tensors import Tensor, decode, encode, join_bytes

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING
WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)
TABLE = np.array([1.0, 10.0, 100.0, 1000.0], np.float32)

Shape = Sequence[int | str]
Value = tuple[str, int, Shape]


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[Value],
    outputs: list[Value],
    weights: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Write a model, unchecked: one that is wrong is a test too."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())
    return folder


def matmul(folder: Path, rows: int | str = "n") -> Path:
    """y [n, 2] = x [n, 3] @ WEIGHT."""
    weight = numpy_helper.from_array(WEIGHT, "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(folder, [node], [("x", FLOAT, [rows, 3])], [("y", FLOAT, [rows, 2])], [weight])


def add(folder: Path) -> Path:
    """sum [n, k] = a [n, k] + b [n, k], for any k."""
    node = helper.make_node("Add", ["a", "b"], ["sum"])
    shape: Shape = ["n", "k"]
    return save(folder, [node], [("a", FLOAT, shape), ("b", FLOAT, shape)], [("sum", FLOAT, shape)])


def echo(folder: Path) -> Path:
    """y [n] = x [n], text."""
    return save(folder, [helper.make_node("Identity", ["x"], ["y"])], [("x", STRING, ["n"])], [("y", STRING, ["n"])])


def look_up(folder: Path) -> Path:
    """y [n] = TABLE[x [n]]; a number outside of it fails the run."""
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    table = numpy_helper.from_array(TABLE, "table")
    return save(folder, [node], [("x", INT64, ["n"])], [("y", FLOAT, ["n"])], [table])


def total(folder: Path) -> Path:
    """y [] = the sum of x [n]: there are no rows."""
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    return save(folder, [node], [("x", FLOAT, ["n"])], [("y", FLOAT, [])])


def softmax(folder: Path) -> Path:
    """y [n] = softmax of x [n]: a free first size that is no batch."""
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    return save(folder, [node], [("x", FLOAT, ["n"])], [("y", FLOAT, ["n"])])


def spread(folder: Path) -> Path:
    """y [n, 1024] = x [n, 1] repeated: the result is large."""
    shape = numpy_helper.from_array(np.array([1, 1024], np.int64), "shape")
    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    return save(folder, [node], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1024])], [shape])


def tensor(name: str, value: object) -> Tensor:
    """Numbers or text as what crosses the rings."""
    data = np.asarray(value)
    if data.dtype.kind == "U":
        return Tensor(name, "BYTES", data.shape, join_bytes(str(text).encode() for text in data.ravel()))
    kinds = {"f": ("FP32", np.float32), "i": ("INT64", np.int64)}
    datatype, dtype = kinds[data.dtype.kind]
    return Tensor(name, datatype, data.shape, data.astype(dtype).tobytes())


def order(
    folder: Path, *, batch_max: int = 8, preferred: Sequence[int] = (), delay_s: float = 0.0, waiting_max: int = 64
) -> Load:
    """What the supervisor says to load a tensor model."""
    return Load(
        replica=0, model="m", version=1, folder=str(folder), device="cpu", dtype="checkpoint", cache_dtype="checkpoint",
        cache_bytes=1 << 20, block_tokens=16, sequences_max=batch_max, step_tokens_max=batch_max,
        bounds=Bounds(waiting_max=waiting_max, waiting_tokens_max=1 << 20, ttft_s=2.0, itl_s=0.1), threads=1,
        engine="onnx", batching=Batching(batch_max=batch_max, preferred=list(preferred), delay_s=delay_s),
    )  # fmt: skip


class TensorWorld:
    """An engine and one front end's end of the rings. Nothing turns but what `play` and `finish` turn."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, runs, or has an end that was not delivered yet."""
        stats = self.replica.scheduler.stats()
        return stats.waiting + stats.running + stats.undelivered == 0

    def __init__(
        self, load: Load, *, submit_cells: int = 1 << 12, output_records: int = 64, result_cells: int = 1 << 12
    ) -> None:
        self._fds = [
            create_bell(),
            create_bell(),
            create_channel(1, submit_cells, output_records, result_cells),
            create_table(TABLE_ROWS, COLUMNS),
        ]
        bell, front_bell, channel, table = self._fds
        self.table = Table(table)
        self.replica = load_tensors(load, os.dup(table), bell)
        self.loop = self.replica.loop
        self.loop.exchange.attach(1, EngineChannel(channel, front_bell, 1))
        self.front = FrontEndChannel(channel, bell, 1)
        self.rows_run: list[int] = []  # of each run so far
        self.ends: dict[int, FinishReason] = {}  # by slot, in the order of their coming
        self.results: dict[int, dict[str, np.ndarray]] = {}
        self._unread: dict[int, bytes] = {}
        self._submitted: set[int] = set()
        self._ready, self._always = os.pipe()  # readable for ever, so that an idle loop turns at once
        os.write(self._always, b"x")
        self._count_runs()

    def submit(
        self,
        slot: int,
        *inputs: Tensor,
        rows: int = 1,
        deadline_s: float = float("inf"),
        arrived_s: float | None = None,
        tenant: int = 0,
        priority: int = 1,
        payload: bytes | None = None,
    ) -> bool:
        sent = self.front.try_submit(
            slot=slot, generation=1, arrived_s=time.monotonic() if arrived_s is None else arrived_s,
            deadline_s=deadline_s, prompt=array("i", [0]) * rows, max_tokens=1, min_tokens=0, tenant=tenant,
            priority=priority, attempt=1, stop_token_ids=(), request_id=b"r", temperature=1, top_p=1, min_p=0,
            presence_penalty=0, frequency_penalty=0, repetition_penalty=1, top_k=0, ignore_eos=False, seed=0,
            payload=encode(inputs) if payload is None else payload,
        )  # fmt: skip
        if sent:
            self._submitted.add(slot)
        return sent

    def play(self, *acts: Callable[[], object], turns: int = 1, limit_s: float = 10.0) -> None:
        """One act a turn of the engine's loop, and so many turns more; what has come is read after each turn."""
        script = iter([*acts, *[lambda: None] * turns])
        self._turn(lambda: _next(script), limit_s)

    def finish(self, limit_s: float = 10.0) -> None:
        """Turn until all that was submitted has ended."""
        self._turn(lambda: set(self.ends) < self._submitted, limit_s)

    def close(self) -> None:
        self.front.close()
        for fd in [*self._fds, self._ready, self._always]:
            os.close(fd)

    def _turn(self, goes_on: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s

        def on_control() -> None:
            self._read()
            assert time.monotonic() < deadline, f"only {self.ends}"
            self.loop.stop = not goes_on()

        self.loop.stop = False
        self.loop.run(self._ready, on_control)
        self._read()

    def _read(self) -> None:
        records = self.front.take()
        self._unread.update({slot: result for slot, _, result in self.front.take_results()})
        for slot, _, _, _, finish, *_ in records:
            assert slot not in self.ends, f"{slot} ended twice"
            self.ends[slot] = FinishReason(finish)
            result = self._unread.pop(slot, None)
            assert (result is not None) == (finish == FinishReason.LENGTH)
            if result is not None:
                self.results[slot] = {one.name: to_array(one) for one in decode(result)}

    def _count_runs(self) -> None:
        session = self.replica.session
        run = session.run

        def counted(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            first = next(iter(inputs.values()))
            self.rows_run.append(len(first) if first.ndim else 1)
            return run(inputs)

        session.run = counted  # type: ignore[method-assign]


def _next(script: Iterator[Callable[[], object]]) -> bool:
    act = next(script, None)
    if act is None:
        return False
    act()
    return True


@contextlib.contextmanager
def tensor_world(load: Load, **sizes: int) -> Iterator[TensorWorld]:
    world = TensorWorld(load, **sizes)
    try:
        yield world
    finally:
        world.close()
