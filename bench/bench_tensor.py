"""What dynamic batching gains: a burst of 64 requests of one row to a real tensor engine, together and one at a time.

    python -m pytest bench/bench_tensor.py --benchmark-enable

The engine is a process of its own, with one thread; requests and results cross real rings, without HTTP. Weights are
random. Compare within a group: the first line of each runs one request at a time.
"""

import math
import multiprocessing
import os
import select
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from aruntime.engine.tensor_replica import load_tensors
from aruntime.engine.tensor_session import MODEL_FILE
from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, TABLE_ROWS
from aruntime.queue.records import FinishReason
from aruntime.queue.table import create_table
from aruntime.wire.control import Batching, Bounds, Load
from aruntime.wire.tensors import Tensor, encode

BURST = 64
SHAPES = {"mlp": (256,), "conv": (3, 32, 32)}


def save(folder: Path, nodes: list[Any], shape: tuple[int, ...], weights: dict[str, tuple[int, ...]]) -> None:
    """Write a model of input x [n, *shape] and output y [n, 10]."""
    random = np.random.default_rng(1)
    values = [
        numpy_helper.from_array(random.normal(0, 0.05, size).astype(np.float32), name) for name, size in weights.items()
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])
    graph = helper.make_graph(nodes, "graph", [x], [y], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / MODEL_FILE).write_bytes(model.SerializeToString())


def mlp(folder: Path) -> None:
    """Three layers, 1.3 million weights."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "w3"], ["y"]),
    ]
    save(folder, nodes, SHAPES["mlp"], {"w1": (256, 1024), "w2": (1024, 1024), "w3": (1024, 10)})


def conv(folder: Path) -> None:
    """Two convolutions of 32 x 32 pixels, a mean, a layer."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"]),
    ]
    save(folder, nodes, SHAPES["conv"], {"w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (32, 10)})


class Engine:
    """A tensor engine in a process of its own, and this process as its front end."""

    def __init__(self, folder: Path, batch_max: int) -> None:
        self.bell, self.front_bell = create_bell(), create_bell()
        self.channel, self.table = create_channel(1, 1 << 16, 1 << 12, 1 << 12), create_table(TABLE_ROWS, COLUMNS)
        self.ready, self.control = os.pipe(), os.pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self._serve, args=(folder, batch_max))
        self.process.start()
        os.read(self.ready[0], 1)
        self.front = FrontEndChannel(self.channel, self.bell, 1)

    def _serve(self, folder: Path, batch_max: int) -> None:
        bounds = Bounds(waiting_max=2 * BURST, waiting_tokens_max=1 << 20, ttft_s=60.0, itl_s=1.0)
        order = Load(
            replica=0, model="m", version=1, folder=str(folder), device="cpu", dtype="checkpoint",
            cache_dtype="checkpoint", cache_bytes=1, block_tokens=16, sequences_max=batch_max,
            step_tokens_max=batch_max, bounds=bounds, threads=1, engine="onnx", batching=Batching(batch_max=batch_max),
        )  # fmt: skip
        replica = load_tensors(order, self.table, self.bell)
        replica.warm()
        replica.loop.exchange.attach(1, EngineChannel(self.channel, self.front_bell, 1))
        os.write(self.ready[1], b"x")

        def on_control() -> None:
            replica.loop.stop = bool(select.select([self.control[0]], [], [], 0)[0])

        replica.loop.run(self.control[0], on_control)

    def ask(self, payload: bytes) -> int:
        """A burst, and all of its answers; how many were right."""
        for slot in range(BURST):
            assert self.front.try_submit(
                slot=slot, generation=1, arrived_s=time.monotonic(), deadline_s=math.inf, prompt=array("i", [0]),
                max_tokens=1, min_tokens=0, tenant=0, priority=1, attempt=1, stop_token_ids=(), request_id=b"r",
                temperature=1.0, top_p=1.0, min_p=0.0, presence_penalty=0.0, frequency_penalty=0.0,
                repetition_penalty=1.0, top_k=0, ignore_eos=False, seed=0, payload=payload,
            )  # fmt: skip
        ends: list[int] = []
        while len(ends) < BURST:
            if self.front.prepare_sleep():
                select.select([self.front_bell], [], [], 10.0)
                self.front.awake()
            ends += [record[4] for record in self.front.take()]
            self.front.take_results()
        return ends.count(FinishReason.LENGTH)

    def close(self) -> None:
        os.write(self.control[1], b"x")
        self.process.join()
        for fd in [self.bell, self.front_bell, self.channel, self.table, *self.ready, *self.control]:
            os.close(fd)


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    make, batch_max = request.param
    make(tmp_path)
    made = Engine(tmp_path, batch_max)
    yield made
    made.close()


def burst(benchmark: Any, engine: Engine, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).normal(size=(1, *shape)).astype(np.float32)
    payload = encode([Tensor("x", "FP32", values.shape, values.tobytes())])
    assert benchmark.pedantic(engine.ask, args=(payload,), rounds=30, warmup_rounds=3) == BURST


@pytest.mark.parametrize("engine", [(mlp, size) for size in (1, 8, 32)], indirect=True, ids=["alone", "by_8", "by_32"])
@pytest.mark.benchmark(group="64 requests to a multilayer perceptron")
def test_mlp(benchmark: Any, engine: Engine) -> None:
    burst(benchmark, engine, SHAPES["mlp"])


@pytest.mark.parametrize("engine", [(conv, size) for size in (1, 8, 32)], indirect=True, ids=["alone", "by_8", "by_32"])
@pytest.mark.benchmark(group="64 requests to a convolution")
def test_conv(benchmark: Any, engine: Engine) -> None:
    burst(benchmark, engine, SHAPES["conv"])
