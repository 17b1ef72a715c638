"""/v2 over ASGI: infer for language and tensor models, generate, what is said of models; the test plays the engine."""

import asyncio
import gzip
import json
import struct
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from http_house import COMMANDS, Client, House, demo

from aruntime.admission.ask import Ask
from aruntime.admission.route import Route
from aruntime.admission.ticket import Output
from aruntime.base.errors import ModelError
from aruntime.control.commands import Commands
from aruntime.http.app import build_app
from aruntime.http.compression import accepted
from aruntime.http.limits import HttpLimits
from aruntime.queue.columns import RESULT_CODES, Column
from aruntime.queue.post import read_enclosure
from aruntime.queue.records import FinishReason, Priority
from aruntime.wire.control import Outcome, TensorSpec
from aruntime.wire.tensors import Tensor, decode, encode, join_bytes

INFER = "/v2/models/demo/infer"
GENERATE = "/v2/models/demo/generate"


def text(*rows: str) -> dict[str, object]:
    return {"name": "text_input", "datatype": "BYTES", "shape": [len(rows)], "data": list(rows)}


def infer(house: House, headers: dict[str, str] | None = None, /, **more: object) -> Client:
    return house.client(INFER, {"inputs": [text("hi")], **more}, headers)


def generate(house: House, headers: dict[str, str] | None = None, /, *, stream: bool = False, **more: object) -> Client:
    path = GENERATE + "_stream" if stream else GENERATE
    return house.client(path, {"text_input": "hi", **more}, headers)


async def get(house: House, path: str, *, admin: bool = False, method: str = "GET", body: bytes = b"") -> Client:
    app = build_app(house.view, commands=COMMANDS if admin else None)
    return await Client(app, path, body, [("host", "localhost")], method).done()


def results(house: House) -> dict[str, int]:
    counts = {code: house.table.sum(Column.RESULTS + i) for i, code in enumerate(RESULT_CODES)}
    return {code: count for code, count in counts.items() if count}


async def test_infer_goes_on_from_every_row(house: House) -> None:
    client = infer(house, inputs=[text("one", "two")], id="7", parameters={"max_tokens": 3, "temperature": 0.0})
    first, second = await house.submitted(), await house.submitted()
    assert (first[2]["prompt"], second[2]["prompt"]) == (house.ids("one"), house.ids("two"))
    assert first[2]["max_tokens"] == 3
    house.say(second[:2], "yyy", FinishReason.LENGTH)
    house.say(first[:2], "x", FinishReason.STOP)
    reply = await client.done()
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "id": "7",
        "model_name": "demo",
        "model_version": "3",
        "outputs": [{"name": "text_output", "datatype": "BYTES", "shape": [2], "data": ["onex", "twoyyy"]}],
    }
    assert reply.headers["x-model-version"] == "demo@3"
    assert results(house) == {"ok": 1}


async def test_binary_texts_go_in_and_out_behind_the_json(house: House) -> None:
    data = join_bytes(["é".encode()])
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    sent = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    client = house.client(INFER, head + data, sent)
    at = await house.submitted()
    assert at[2]["prompt"] == house.ids("é")
    house.say(at[:2], "x", FinishReason.STOP)
    reply = await client.done()
    assert reply.headers["content-type"] == "application/octet-stream"
    json_bytes = int(reply.headers["inference-header-content-length"])
    assert json.loads(reply.body[:json_bytes])["outputs"][0]["parameters"] == {"binary_data_size": 7}
    assert reply.body[json_bytes:] == join_bytes(["éx".encode()])


async def test_generate_has_the_tokens_of_a_completion_and_repeats_its_prompt_unless_told(house: House) -> None:
    for more, said in (({}, "hiabc"), ({"parameters": {"exclude_input_in_output": True}}, "abc")):
        client = generate(house, **more)
        slot, generation, head = await house.submitted()
        assert head["max_tokens"] == 16
        house.say((slot, generation), "abc", FinishReason.STOP)
        reply = await client.done()
        assert reply.json == {"model_name": "demo", "model_version": "3", "text_output": said}


async def test_generate_stream_is_events_without_a_last_word(house: House) -> None:
    client = generate(house, stream=True, parameters={"stream": True, "stop": "c"})
    at = (await house.submitted())[:2]
    house.say(at, "ab")
    await asyncio.sleep(0.02)
    house.say(at, "c", FinishReason.LENGTH)
    reply = await client.done()
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [event["text_output"] for event in reply.events] == ["ab"]


async def test_an_error_after_the_first_event_is_the_last_one(house: House) -> None:
    client = generate(house, stream=True)
    at = (await house.submitted())[:2]
    house.say(at, "ab")
    await asyncio.sleep(0.02)
    house.say(at, [], FinishReason.MODEL_ERROR)
    reply = await client.done()
    assert reply.status == 200
    assert reply.events[-1] == {"error": "the model failed on this request"}
    assert results(house) == {"model_error": 1}


async def test_a_client_that_leaves_has_its_sequence_cancelled(house: House) -> None:
    client = generate(house, stream=True)
    slot, _, _ = await house.submitted()
    client.leave()
    await client.done()
    assert house.engine.receive()[:2] == ("cancel", slot)  # type: ignore[index]
    assert results(house) == {"client_closed": 1}


@pytest.mark.parametrize(
    ("said", "priority"),
    [(0, Priority.BATCH), (1, Priority.INTERACTIVE), (2, Priority.STANDARD), (3, Priority.BATCH), (99, Priority.BATCH)],
)
async def test_priorities_are_levels_and_0_leaves_the_header_s(house: House, said: int, priority: Priority) -> None:
    client = infer(house, {"x-request-priority": "batch"}, parameters={"priority": said})
    slot, generation, head = await house.submitted()
    assert head["priority"] == priority
    house.say((slot, generation), "x", FinishReason.STOP)
    await client.done()


async def test_the_timeout_is_in_microseconds_and_the_nearer_deadline_counts(house: House) -> None:
    for headers, timeout in (({"x-request-timeout-ms": "60000"}, 50_000), ({"x-request-timeout-ms": "50"}, 60_000_000)):
        client = generate(house, headers, parameters={"timeout": timeout})
        await house.submitted()
        reply = await client.done()
        assert reply.status == 504
        assert "0.05 s" in reply.json["error"]


async def test_wrong_words_of_v2_are_400_by_name(house: House) -> None:
    refused: list[tuple[Client, str]] = [
        (infer(house, parameters={"timeout": 86_400_000_001}), "parameters.timeout: "),
        (infer(house, {"inference-header-content-length": "x"}), "inference-header-content-length: "),
        (
            infer(house, inputs=[text("a"), {"name": "stream", "datatype": "BOOL", "shape": [1], "data": [True]}]),
            "stream",
        ),
        (infer(house, inputs=[text("")]), "text_input: "),
        (generate(house, parameters={"stream": True}), "stream: "),
        (generate(house, stream=True, parameters={"stream": False}), "stream: "),
        (generate(house, stream=True, exclude_input_in_output=False), "exclude_input_in_output: "),
        (generate(house, parameters={"max_tokens": 500}), "text_input: "),
        (generate(house, parameters={"n": 2}), "n: not supported"),
    ]
    for client, words in refused:
        reply = await client.done()
        assert (reply.status, list(reply.json)) == (400, ["error"])
        assert reply.json["error"].startswith(words), reply.json
    assert house.engine.receive() is None


@pytest.mark.parametrize("path", ["/v2/models/a@1/infer", "/v2/models/%2e%2e/infer", "/v2/models/demo/versions/x/infer",
                                  "/v2/models/demo/versions/9/infer", "/v2/models/demo/versions/0/generate",
                                  "/v2/models/demo:a/infer"])  # fmt: skip
async def test_only_names_and_versions_that_are_there_are_found(house: House, path: str) -> None:
    body = {"inputs": [text("a")]} if path.endswith("infer") else {"text_input": "a"}
    reply = await house.client(path, body).done()
    assert (reply.status, list(reply.json)) == (404, ["error"])


async def test_errors_before_any_route_have_the_shape_of_v2_too(house: House) -> None:
    foreign = await Client(house.app, INFER, b"", [("host", "evil.example")], "POST").done()
    no_host = await Client(house.app, INFER, b"", [], "POST").done()
    nowhere = await get(house, "/v2/nothing")
    wrong_method = await get(house, INFER)
    too_large = await house.client(INFER, b"", {"content-length": str(5 << 20)}).done()
    replies = (foreign, no_host, nowhere, wrong_method, too_large)
    assert [reply.status for reply in replies] == [403, 400, 404, 405, 413]
    assert all(isinstance(reply.json["error"], str) for reply in replies)
    assert isinstance((await get(house, "/v2x")).json["error"], dict)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_request_is_read_as_it_was(
    house: House, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(json.dumps({"text_input": "hi"}).encode())
    client = house.client(GENERATE, body, {"content-encoding": coding})
    house.say((await house.submitted())[:2], "x", FinishReason.STOP)
    assert (await client.done()).json["text_output"] == "hix"


async def test_a_bomb_is_413_and_a_damaged_stream_400(house: House) -> None:
    house.app = build_app(house.view, limits=HttpLimits(body_bytes_max=1 << 16))
    whole = gzip.compress(b'{"text_input": "hi"}')
    wrong = [
        (gzip.compress(bytes(64 << 20)), "gzip", 413),
        (b"no gzip at all", "gzip", 400),
        (whole[:-5], "gzip", 400),
        (whole + b"more", "gzip", 400),
        (whole, "deflate", 400),
        (whole, "br", 415),
        (whole, "gzip, gzip", 415),
    ]
    for body, coding, status in wrong:
        for path in (INFER, GENERATE):
            reply = await house.client(path, body, {"content-encoding": coding}).done()
            assert (reply.status, isinstance(reply.json["error"], str)) == (status, True)


@pytest.mark.parametrize(("asks", "unpack"), [("gzip, deflate", gzip.decompress), ("deflate", zlib.decompress)])
async def test_a_long_answer_is_compressed_for_who_asks(
    house: House, asks: str, unpack: Callable[[bytes], bytes]
) -> None:
    prompt = "word " * 30
    for rows in (1, 2):  # more would be too many for this house
        client = infer(house, {"accept-encoding": asks}, inputs=[text(*[prompt] * rows)], id="i" * 200)
        for _ in range(rows):
            house.say((await house.submitted())[:2], "é" * 16 * 10, FinishReason.STOP)
        reply = await client.done()
        packed = "content-encoding" in reply.headers
        assert packed == (rows == 2)
        body = unpack(reply.body) if packed else reply.body
        assert len(json.loads(body)["outputs"][0]["data"]) == rows
        assert int(reply.headers["content-length"]) == len(reply.body)
        assert reply.headers["vary"] == "accept-encoding"


async def test_an_answer_is_not_compressed_when_too_many_wait_for_that(house: House) -> None:
    house.app = build_app(house.view, limits=HttpLimits(inline_characters_max=600, encode_waiting_max=0))
    client = infer(house, {"accept-encoding": "gzip"}, id="i" * 200)
    house.say((await house.submitted())[:2], "\x01" * 150, FinishReason.STOP)
    reply = await client.done()
    assert (reply.status, "content-encoding" in reply.headers) == (200, False)
    assert reply.json["outputs"][0]["data"] == ["hi" + "\x01" * 150]


def test_the_coding_is_the_first_of_ours_that_is_not_ruled_out() -> None:
    assert accepted("br, gzip;q=0.5, deflate") == "gzip"
    assert accepted("gzip;q=0, Deflate ; q=1") == "deflate"
    assert [accepted(header) for header in ("", "identity", "*", "gzip; q=0.0")] == [""] * 4


async def test_a_model_is_described_to_whoever_may_call_it(house: House) -> None:
    assert (await get(house, "/v2")).json["name"] == "aruntime"
    metadata = (await get(house, "/v2/models/demo")).json
    assert (metadata["name"], metadata["versions"], metadata["platform"]) == ("demo", ["3"], "aruntime_decoder")
    assert (await get(house, "/v2/models/demo/versions/3/ready")).json == {"name": "demo", "ready": True}
    assert (await get(house, "/v2/models/demo/versions/3/config")).json["max_batch_size"] == 0
    for path in ("/v2/models/other", "/v2/models/other/stats", "/v2/models/demo/versions/4/ready"):
        assert (await get(house, path)).status == 404


async def test_a_server_that_is_not_ready_says_why(house: House) -> None:
    assert (await get(house, "/v2/health/ready")).status == 200
    house.view.withdraw(0)
    ready = await get(house, "/v2/health/ready")
    assert (ready.status, "demo@3" in ready.json["error"]) == (503, True)
    model = await get(house, "/v2/models/demo/ready")
    assert (model.status, "demo" in model.json["error"]) == (503, True)
    assert (await get(house, "/v2/health/live")).json == {"live": True}


async def test_statistics_are_of_what_was_counted(house: House) -> None:
    client = generate(house)
    house.say((await house.submitted())[:2], "x", FinishReason.STOP)
    await client.done()
    await generate(house, parameters={"max_tokens": 500}).done()
    for path in ("/v2/models/demo/stats", "/v2/models/demo/versions/3/stats", "/v2/models/stats"):
        (stats,) = (await get(house, path)).json["model_stats"]
        assert (stats["name"], stats["version"], stats["inference_count"]) == ("demo", "3", 1)
        assert stats["inference_stats"]["success"]["count"] == 1
        assert stats["inference_stats"]["success"]["ns"] > 0
        assert stats["inference_stats"]["fail"]["count"] == 1


async def test_operators_have_paths_that_the_public_has_not(house: House) -> None:
    for path, method in (
        ("/v2/repository/index", "POST"),
        ("/v2/logging", "GET"),
        ("/v2/trace/setting", "GET"),
        ("/v2/systemsharedmemory/status", "GET"),
        ("/v2/cudasharedmemory/unregister", "POST"),
    ):
        assert (await get(house, path, method=method)).status == 404
        assert (await get(house, path, method=method, admin=True)).status == 200


async def test_the_index_lists_what_is_ready_and_why_the_rest_is_not(house: House) -> None:
    ready = {"name": "demo", "version": "3", "state": "READY", "reason": ""}
    index = "/v2/repository/index"
    assert (await get(house, index, method="POST", admin=True)).json == [ready]
    house.view.withdraw(0)
    state = demo()
    (version,) = state.versions
    for life, reason, told in (
        ("probing", "", ("LOADING", "probing")),
        ("draining", "", ("UNLOADING", "draining")),
        ("failed", "no room", ("UNAVAILABLE", "no room")),
    ):
        changed = version.model_copy(update={"state": life, "reason": reason})
        house.view.model_is(state.model_copy(update={"versions": [changed]}))
        (entry,) = (await get(house, index, method="POST", admin=True)).json
        assert (entry["state"], entry["reason"]) == told
    assert (await get(house, index, method="POST", admin=True, body=b'{"ready": true}')).json == []
    assert (await get(house, index, method="POST", admin=True, body=b'{"raedy": true}')).status == 400


@pytest.mark.parametrize(
    ("path", "parameters", "told"),
    [
        ("load", {}, {"kind": "load", "model": "demo", "version": None}),
        ("unload", {"unload_dependents": False}, {"kind": "unload", "model": "demo", "version": None}),
    ],
)
async def test_operators_load_and_unload(house: House, path: str, parameters: object, told: dict[str, object]) -> None:
    said: list[Any] = []
    commands = Commands(lambda message, fds: said.append((message, read_enclosure(fds[0]))))
    app = build_app(house.view, commands=commands)
    body = json.dumps({"parameters": parameters}).encode()
    client = Client(app, f"/v2/repository/models/demo/{path}", body, [("host", "localhost")], "POST")
    for _ in range(20):
        await asyncio.sleep(0)
    ((message, action),) = said
    assert json.loads(action) == told
    commands.ended(Outcome(number=message.number, code="model_not_ready", message="no room"), -1)
    reply = await client.done()
    assert (reply.status, reply.json) == (503, {"error": "no room"})


async def test_a_load_changes_nothing_of_a_model(house: House) -> None:
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        body = json.dumps({"parameters": parameters}).encode()
        reply = await get(house, "/v2/repository/models/demo/load", method="POST", admin=True, body=body)
        assert (reply.status, next(iter(parameters)) in reply.json["error"]) == (400, True)


IMAGE = TensorSpec(name="image", datatype="FP32", shape=[-1, 2])
SUMS = TensorSpec(name="sums", datatype="FP32", shape=[-1])
NAMES = TensorSpec(name="names", datatype="BYTES", shape=[-1])


class TensorTicket:
    """What the door gives for a tensor model's request: its one output, or its error."""

    attempt = 1

    def __init__(self) -> None:
        self.said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[Output]:
        yield Output(0, [0], FinishReason.STOP, result=await self.said)

    def close(self) -> None:
        self.closed = True


class TensorHouse:
    """A house whose model takes images and gives their sums and names; the test plays the door."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        (served,) = house.view._served.values()
        house.view._served[0] = replace(served, tokenizer=None, engine="onnx", inputs=[IMAGE], outputs=[SUMS, NAMES])
        monkeypatch.setattr(house.view.door, "admit", self._admit)
        self.house = house
        self.ticket = TensorTicket()
        self.asked: asyncio.Future[Ask] = asyncio.get_running_loop().create_future()

    def _admit(self, _route: Route, ask: Ask) -> TensorTicket:
        self.asked.set_result(ask)
        return self.ticket

    def infer(self, **more: object) -> Client:
        image = {"name": "image", "datatype": "FP32", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]}
        return self.house.client(INFER, {"inputs": [image], **more})

    def say(self, *sums: float) -> None:
        names = Tensor("names", "BYTES", (len(sums),), join_bytes([b"n"] * len(sums)))
        data = struct.pack(f"<{len(sums)}f", *sums)
        self.ticket.said.set_result(encode([Tensor("sums", "FP32", (len(sums),), data), names]))


@pytest.fixture
async def tensors(house: House, monkeypatch: pytest.MonkeyPatch) -> TensorHouse:
    return TensorHouse(house, monkeypatch)


async def test_a_tensor_model_s_inputs_go_to_its_engine_and_its_outputs_come_back(tensors: TensorHouse) -> None:
    client = tensors.infer()
    ask = await tensors.asked
    assert ([len(prompt) for prompt in ask.prompts], ask.max_tokens) == ([2], 1)
    (image,) = decode(ask.payload)
    assert (image.name, image.shape, bytes(image.data)) == ("image", (2, 2), struct.pack("<4f", 1, 2, 3, 4))
    tensors.say(3.0, 7.0)
    reply = await client.done()
    outputs = {output["name"]: output["data"] for output in reply.json["outputs"]}
    assert outputs == {"sums": [3.0, 7.0], "names": ["n", "n"]}
    assert tensors.ticket.closed
    assert results(tensors.house) == {"ok": 1}


async def test_only_the_outputs_that_were_asked_for_are_answered(tensors: TensorHouse) -> None:
    client = tensors.infer(outputs=[{"name": "sums", "parameters": {"binary_data": True}}])
    await tensors.asked
    tensors.say(3.0, 7.0)
    reply = await client.done()
    json_bytes = int(reply.headers["inference-header-content-length"])
    (output,) = json.loads(reply.body[:json_bytes])["outputs"]
    assert (output["name"], reply.body[json_bytes:]) == ("sums", struct.pack("<2f", 3, 7))


async def test_a_tensor_model_s_error_is_500_and_a_client_that_leaves_gives_its_ticket_back(
    tensors: TensorHouse,
) -> None:
    client = tensors.infer()
    await tensors.asked
    tensors.ticket.said.set_exception(ModelError("the model failed on this request"))
    reply = await client.done()
    assert (reply.status, reply.json) == (500, {"error": "the model failed on this request"})
    tensors.ticket, tensors.asked = TensorTicket(), asyncio.get_running_loop().create_future()
    client = tensors.infer()
    await tensors.asked
    client.leave()
    await client.done()
    assert tensors.ticket.closed
    assert results(tensors.house) == {"model_error": 1, "client_closed": 1}


async def test_outputs_that_cannot_be_read_are_the_model_s_fault(tensors: TensorHouse) -> None:
    client = tensors.infer()
    await tensors.asked
    tensors.ticket.said.set_result(b"nonsense")
    assert (await client.done()).status == 500


async def test_what_a_tensor_model_does_not_take_is_refused_at_once(tensors: TensorHouse) -> None:
    refused: list[tuple[Client, str]] = [
        (tensors.infer(inputs=[text("a")]), "inputs.0.name: "),
        (tensors.infer(outputs=[{"name": "other"}]), "outputs.0.name: "),
        (tensors.infer(parameters={"max_tokens": 3}), "parameters.max_tokens: "),
        (generate(tensors.house), "model: it takes tensors"),
    ]
    for client, words in refused:
        reply = await client.done()
        assert (reply.status, reply.json["error"].startswith(words)) == (400, True), reply.json
    openai = await tensors.house.complete().done()
    assert (openai.status, openai.json["error"]["param"]) == (400, "model")
    assert not tensors.asked.done()


async def test_a_tensor_model_is_described_by_what_it_takes(tensors: TensorHouse) -> None:
    metadata: Any = (await get(tensors.house, "/v2/models/demo")).json
    assert metadata["inputs"] == [IMAGE.model_dump()]
    assert metadata["outputs"] == [SUMS.model_dump(), NAMES.model_dump()]
    assert (await get(tensors.house, "/v2/models/demo/config")).json["backend"] == "onnxruntime"
