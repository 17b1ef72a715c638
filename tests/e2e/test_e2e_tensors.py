"""A tensor model behind the same door as a language model: batches, deadlines, tenants' terms, versions, rollout."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from e2e_rollout import Operator
from e2e_server import Server
from onnx import TensorProto, helper, numpy_helper
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from aruntime.control.repository import publish

SETTINGS = """
[limits]
replicas = 2
[batching]
batch_max = 16
preferred = [8]
delay_s = 0.02
[rollout]
window_s = 1.0
requests_min = 20
bake_s = 0.5
shadow_share = 1.0
steps = [0.5, 1.0]
"""


def look_up(folder: Path, *table: float) -> Path:
    """y [n] = table[x [n]]; a number outside of the table fails its request."""
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(table, np.float32), "table")],
    )
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    publish(look_up(tmp_path / "first", 1, 10, 100, 1000), root, "demo")
    (root / "demo" / "model.toml").write_text(SETTINGS)
    return root


@pytest.fixture
def server(repository: Path, tmp_path: Path) -> Iterator[Server]:
    with Server(repository, tmp_path / "server.log") as running:
        yield running


def rows(*numbers: int) -> list[InferInput]:
    array = np.array(numbers, np.int64)
    return [InferInput("x", list(array.shape), "INT64").set_data_from_numpy(array)]


def test_an_unmodified_client_is_answered_and_what_waits_together_runs_together(server: Server) -> None:
    with InferenceServerClient(server.url.removeprefix("http://"), concurrency=16) as client:
        assert client.get_model_metadata("demo")["inputs"] == [{"name": "x", "datatype": "INT64", "shape": [-1]}]
        assert client.infer("demo", rows(3, 0)).as_numpy("y").tolist() == [1000, 1]
        before = server.metric("aruntime_steps_total", model="demo")
        asked = [client.async_infer("demo", rows(i % 4)) for i in range(64)]
        assert [one.get_result().as_numpy("y").tolist() for one in asked] == [[10.0 ** (i % 4)] for i in range(64)]
        assert server.metric("aruntime_steps_total", model="demo") - before < 64
        for wrong, words in (
            ([InferInput("z", [1], "INT64").set_data_from_numpy(np.array([1], np.int64))], "inputs.0.name"),
            ([InferInput("x", [1], "FP32").set_data_from_numpy(np.array([1], np.float32))], "inputs.0.datatype"),
            (rows(*range(17)), "a batch has at most 16"),
        ):
            with pytest.raises(InferenceServerException, match=words):
                client.infer("demo", wrong)
        with pytest.raises(InferenceServerException) as broken:
            client.infer("demo", rows(9))
        assert broken.value.status() == "500"
        assert client.infer("demo", rows(1)).as_numpy("y").tolist() == [10]


def test_a_deadline_that_cannot_be_met_is_told_and_text_is_not_taken(server: Server) -> None:
    with InferenceServerClient(server.url.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException) as late:
            client.infer("demo", rows(1), timeout=1)  # a microsecond
        assert late.value.status() in ("504", "400")
    body = {"model": "demo", "prompt": "Hello"}
    assert httpx.post(f"{server.url}/v1/completions", json=body).json()["error"]["param"] == "model"


async def test_a_version_that_fails_requests_goes_back_and_one_that_does_not_stays(
    repository: Path, tmp_path: Path, server: Server
) -> None:
    operator, failed, stop = Operator(server), [], asyncio.Event()

    async def ask_again(client: httpx.AsyncClient, number: int) -> None:
        while not stop.is_set():
            tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [number]}
            reply = await client.post("/v2/models/demo/infer", json={"inputs": [tensor]})
            if reply.status_code != 200 or reply.json()["outputs"][0]["data"] != [10.0**number]:
                failed.append(reply.text)
            await asyncio.sleep(0.01)

    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        asking = [asyncio.create_task(ask_again(client, number % 4)) for number in range(8)]
        publish(look_up(tmp_path / "short", 1, 10), repository, "demo")
        await operator.until(lambda: operator.state(2) == "verified")
        assert operator.act("POST", "/rollout", version=2).status_code == 200
        await operator.until(lambda: operator.stage() == "" and operator.state(2) == "unloaded")
        assert operator.ends(2) == ["preparing", "shadow", "rolled back"]
        publish(look_up(tmp_path / "good", 1, 10, 100, 1000, 10_000), repository, "demo")
        await operator.until(lambda: operator.state(3) == "verified")
        assert operator.act("POST", "/rollout", version=3).status_code == 200
        await operator.until(lambda: operator.model()["labels"] == {"stable": 3})
        stop.set()
        await asyncio.gather(*asking)
    assert failed == []
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [4]}
    url = f"{server.url}/v2/models/demo/infer"
    reply = await asyncio.to_thread(httpx.post, url, json={"inputs": [tensor]}, timeout=30)
    assert reply.json()["outputs"][0]["data"] == [10_000.0]


def test_load_and_unload_by_the_protocol_wait_until_it_is_done(server: Server) -> None:
    with InferenceServerClient(server.admin_url.removeprefix("http://")) as operator:
        assert operator.get_model_repository_index()[0]["state"] == "READY"
        operator.unload_model("demo")
        assert not operator.is_model_ready("demo")
        assert server.engines() == []
        operator.load_model("demo")
        assert operator.infer("demo", rows(2)).as_numpy("y").tolist() == [100]
    deadline_s = time.monotonic() + 10
    while len(server.engines()) < 2:
        assert time.monotonic() < deadline_s
