"""The unmodified tritonclient on a real server: every call that this server takes, and how the others are refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from e2e_server import Server, completion, h2c
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, aio
from tritonclient.utils import InferenceServerException

SAMPLING = {"max_tokens": 8, "temperature": 0, "ignore_eos": True}
CODINGS = [None, "gzip", "deflate"]


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.url.removeprefix("http://"), concurrency=4) as made:
        yield made


@pytest.fixture(scope="module")
def operator(server: Server) -> Iterator[InferenceServerClient]:
    """A client of the admin listener."""
    with InferenceServerClient(server.admin_url.removeprefix("http://")) as made:
        yield made


def texts(*rows: str, binary: bool = True, name: str = "text_input") -> InferInput:
    array = np.array([row.encode() for row in rows], dtype=np.object_)
    return InferInput(name, list(array.shape), "BYTES").set_data_from_numpy(array, binary_data=binary)


def said(result: Any) -> list[str]:
    return [text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("text_output")]


def openai_text(server: Server, prompt: str) -> str:
    """What /v1/completions says to a prompt: the same model, the same sampling."""
    body = completion(8, stream=False) | {"prompt": prompt}
    text: str = httpx.post(f"{server.url}/v1/completions", json=body).raise_for_status().json()["choices"][0]["text"]
    return text


def test_it_sees_that_the_server_and_the_model_are_there(client: InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "9")
    assert not client.is_model_ready("nothing")


def test_metadata_and_config_say_what_the_model_takes(client: InferenceServerClient) -> None:
    assert client.get_server_metadata()["name"] == "aruntime"
    metadata = client.get_model_metadata("tiny")
    assert (metadata["name"], metadata["versions"]) == ("tiny", ["1"])
    assert metadata["inputs"][0] == {"name": "text_input", "datatype": "BYTES", "shape": [-1]}
    assert metadata["outputs"] == [{"name": "text_output", "datatype": "BYTES", "shape": [-1]}]
    config = client.get_model_config("tiny", "1")
    assert config["input"][0] == {"name": "text_input", "data_type": "TYPE_STRING", "dims": [-1]}
    assert all(one["optional"] for one in config["input"][1:])


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("request_coding", CODINGS)
@pytest.mark.parametrize("response_coding", CODINGS)
def test_infer_says_the_same_in_every_encoding(
    client: InferenceServerClient,
    server: Server,
    binary: bool,
    request_coding: str | None,
    response_coding: str | None,
) -> None:
    prompt = "hello " * 50
    result = client.infer(
        "tiny",
        [texts(prompt, binary=binary)],
        outputs=[InferRequestedOutput("text_output", binary_data=binary)],
        request_id="r-1",
        parameters=SAMPLING,
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    assert said(result) == [prompt + openai_text(server, prompt)]
    assert result.get_response()["id"] == "r-1"


def test_a_long_answer_is_compressed_when_its_client_asks(server: Server) -> None:
    body = {"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["word " * 400]}]}
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", json=body, headers={"accept-encoding": "gzip"})
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
    assert int(answer.headers["content-length"]) < 500 < len(answer.json()["outputs"][0]["data"][0])


def test_rows_are_prompts_of_one_request(client: InferenceServerClient, server: Server) -> None:
    array = np.array([[b"hello"], [b"good bye"]], dtype=np.object_)
    inputs = [
        InferInput("text_input", [2, 1], "BYTES").set_data_from_numpy(array),
        texts('{"max_tokens": 8, "temperature": 0, "ignore_eos": true}', name="sampling_parameters"),
        InferInput("exclude_input_in_output", [1], "BOOL").set_data_from_numpy(np.array([True])),
    ]
    output = client.infer("tiny", inputs, model_version="1").as_numpy("text_output")
    assert output.shape == (2, 1)
    assert [text.decode() for text in output[:, 0]] == [openai_text(server, "hello"), openai_text(server, "good bye")]


def test_async_infer_answers_several_at_once(client: InferenceServerClient) -> None:
    under_way = [client.async_infer("tiny", [texts(f"number {i}")], parameters=SAMPLING) for i in range(8)]
    for i, one in enumerate(under_way):
        assert said(one.get_result())[0].startswith(f"number {i}")


def test_priority_and_timeout_are_parameters(client: InferenceServerClient) -> None:
    assert said(client.infer("tiny", [texts("hello")], priority=1, timeout=20_000_000, parameters=SAMPLING))
    with pytest.raises(InferenceServerException, match="deadline") as late:
        client.infer("tiny", [texts("hello")], timeout=1, parameters=SAMPLING)
    assert late.value.status() == "504"


def test_statistics_count_what_was_answered_and_what_failed(client: InferenceServerClient) -> None:
    def stats() -> Any:
        (found,) = client.get_inference_statistics("tiny", "1")["model_stats"]
        return found

    before = stats()
    client.infer("tiny", [texts("hello")], parameters=SAMPLING)
    with pytest.raises(InferenceServerException):
        client.infer("tiny", [texts("hello")], parameters={"temperature": 9})
    after = stats()
    assert (after["name"], after["version"]) == ("tiny", "1")
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    assert after["inference_stats"]["fail"]["count"] == before["inference_stats"]["fail"]["count"] + 1
    assert after["execution_count"] > before["execution_count"]
    assert client.get_inference_statistics()["model_stats"][0]["name"] == "tiny"


Ask = Callable[[InferenceServerClient], object]
REFUSED: dict[str, tuple[Ask, str, str]] = {
    "model": (lambda c: c.infer("nothing", [texts("a")]), "404", "nothing"),
    "version": (lambda c: c.infer("tiny", [texts("a")], model_version="7"), "404", "tiny"),
    "metadata": (lambda c: c.get_model_metadata("nothing"), "404", "nothing"),
    "input": (lambda c: c.infer("tiny", [texts("a", name="other")]), "400", "inputs.0.name"),
    "output": (
        lambda c: c.infer("tiny", [texts("a")], outputs=[InferRequestedOutput("other")]),
        "400",
        "outputs.0.name",
    ),
    "classification": (
        lambda c: c.infer("tiny", [texts("a")], outputs=[InferRequestedOutput("text_output", class_count=3)]),
        "400",
        "outputs.0.parameters.classification",
    ),
    "sequence": (lambda c: c.infer("tiny", [texts("a")], sequence_id=5), "400", "parameters.sequence_id"),
    "shared memory": (
        lambda c: c.infer("tiny", [InferInput("text_input", [1], "BYTES").set_shared_memory("region", 8)]),
        "400",
        "inputs.0.parameters.shared_memory_region",
    ),
    "parameter": (lambda c: c.infer("tiny", [texts("a")], parameters={"nobody": 1}), "400", "nobody"),
    "admin only": (lambda c: c.get_model_repository_index(), "404", "no such path"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_so_by_name_in_its_shape(client: InferenceServerClient, what: str) -> None:
    ask, status, words = REFUSED[what]
    with pytest.raises(InferenceServerException) as refused:
        ask(client)
    assert (refused.value.status(), words in refused.value.message()) == (status, True)


def test_operators_see_the_repository_and_set_the_log(operator: InferenceServerClient) -> None:
    assert operator.get_model_repository_index() == [{"name": "tiny", "version": "1", "state": "READY", "reason": ""}]
    assert operator.get_log_settings()["log_verbose_level"] == 0
    assert operator.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert operator.update_log_settings({"log_verbose_level": 0})["log_verbose_level"] == 0
    with pytest.raises(InferenceServerException, match="log_file"):
        operator.update_log_settings({"log_file": "anywhere"})


def test_operators_unload_and_load(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "server.log") as server:
        operator = InferenceServerClient(server.admin_url.removeprefix("http://"), network_timeout=60)
        operator.unload_model("tiny")
        assert not operator.is_model_ready("tiny")
        (entry,) = operator.get_model_repository_index()
        assert (entry["state"], entry["reason"] != "") == ("UNAVAILABLE", True)
        with pytest.raises(InferenceServerException) as refused:
            operator.infer("tiny", [texts("hello")])
        assert refused.value.status() == "503"
        operator.load_model("tiny")
        assert operator.is_model_ready("tiny")
        assert said(operator.infer("tiny", [texts("hello")], parameters=SAMPLING))
        with pytest.raises(InferenceServerException, match="config"):
            operator.load_model("tiny", config="{}")
        with pytest.raises(InferenceServerException) as unknown:
            operator.load_model("nothing")
        assert unknown.value.status() == "404"


def test_there_is_no_tracing_and_no_shared_memory(operator: InferenceServerClient) -> None:
    assert operator.get_trace_settings() == {"trace_level": ["OFF"]}
    assert operator.get_trace_settings("tiny") == {"trace_level": ["OFF"]}
    with pytest.raises(InferenceServerException, match="trace_level"):
        operator.update_trace_settings("tiny", {"trace_level": ["TIMESTAMPS"]})
    assert operator.get_system_shared_memory_status() == []
    assert operator.get_cuda_shared_memory_status() == []
    operator.unregister_system_shared_memory()
    operator.unregister_cuda_shared_memory()
    with pytest.raises(InferenceServerException, match="shared memory") as refused:
        operator.register_system_shared_memory("region", "/region", 64)
    assert refused.value.status() == "400"


async def test_its_asyncio_client_gets_the_same(server: Server, client: InferenceServerClient) -> None:
    async with aio.InferenceServerClient(server.admin_url.removeprefix("http://")) as other:
        assert await other.is_model_ready("tiny")
        assert (await other.get_model_repository_index())[0]["state"] == "READY"
        result = await other.infer("tiny", [texts("hello")], parameters=SAMPLING, response_compression_algorithm="gzip")
        with pytest.raises(InferenceServerException) as refused:
            await other.infer("nothing", [texts("hello")])
    assert said(result) == said(client.infer("tiny", [texts("hello")], parameters=SAMPLING))
    assert refused.value.status() == "404"


def test_generate_and_generate_stream_over_http2(server: Server) -> None:
    body = {"text_input": "hello", "parameters": {**SAMPLING, "exclude_input_in_output": True}}
    with h2c(server.url) as client:
        whole = client.post("/v2/models/tiny/generate", json=body)
        with client.stream("POST", "/v2/models/tiny/versions/1/generate_stream", json=body) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = [line.removeprefix("data: ") for line in stream.iter_lines() if line]
    assert whole.http_version == "HTTP/2"
    expected = {"model_name": "tiny", "model_version": "1", "text_output": openai_text(server, "hello")}
    assert whole.json() == expected
    pieces = [httpx.Response(200, content=line).json() for line in lines]
    assert "".join(piece["text_output"] for piece in pieces) == expected["text_output"]
    assert whole.headers["x-model-version"] == "tiny@1"
