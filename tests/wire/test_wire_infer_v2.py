"""The Open Inference Protocol's bodies: requests against golden files, answers byte for byte, and both ways at random.

A golden file of requests has blocks: what it is, the JSON, `+ hex` of binary data after it, and what is made of it.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from aruntime.base.errors import DeadlineExceeded, InvalidRequest
from aruntime.wire.answers import Usage
from aruntime.wire.control import TensorSpec
from aruntime.wire.infer_v2 import InferRequest, parse_infer, write_infer
from aruntime.wire.infer_v2_models import check_inputs, check_outputs, config, metadata, select_outputs
from aruntime.wire.infer_v2_text import GenerateAnswer, GenerateBody, TextAnswer, parse_generate, read_text
from aruntime.wire.said import Answered, Finish, Said, Text
from aruntime.wire.tensors import BYTES_ELEMENTS_MAX, Tensor, join_bytes

GOLDEN = Path(__file__).parent / "golden_v2"
NO_USAGE = Usage(prompt=0, completion=0)


def answered(text: str) -> Answered:
    return Answered(Said([Text(text)]), Finish("stop"))


def blocks(name: str) -> list[Any]:
    """The blocks of a golden file: name, body, JSON bytes when binary data follows, expected lines."""
    found = []
    for block in (GOLDEN / name).read_text().rstrip("\n").split("\n\n"):
        title, text, *lines = block.splitlines()
        binary = bytes.fromhex(lines.pop(0)[2:]) if lines and lines[0].startswith("+ ") else None
        body = text.encode()
        json_bytes = None if binary is None else len(body)
        found.append(pytest.param(body + (binary or b""), json_bytes, lines, id=title))
    return found


def told(read: Any) -> list[str]:
    """What `read` makes of a request, in the golden files' words."""
    try:
        return list(read())
    except InvalidRequest as error:
        return [f"400 {error.param}: {error.message.removeprefix(f'{error.param}: ')}"]


def told_infer(body: bytes, json_bytes: int | None) -> list[str]:
    def read() -> list[str]:
        request = parse_infer(body, json_bytes)
        said = request.parameters.model_dump(exclude_defaults=True)
        tensors = [f"{one.name} {one.datatype} {list(one.shape)} {bytes(one.data).hex()}" for one in request.inputs]
        outputs = [f"wants {name} {'binary' if request.is_binary(name) else 'JSON'}" for name in request.outputs]
        return [*tensors, *outputs, f"id {request.id!r} says {said} custom {request.custom}"]

    return told(read)


def told_generate(body: bytes) -> list[str]:
    def read() -> list[str]:
        asked, parameters = parse_generate(body)
        return [f"{asked.model_dump(exclude_defaults=True)} says {parameters.model_dump(exclude_defaults=True)}"]

    return told(read)


@pytest.mark.parametrize(("body", "json_bytes", "expected"), blocks("infer_requests.txt"))
def test_an_infer_request_is_read_as_its_golden_file_says(
    body: bytes, json_bytes: int | None, expected: list[str]
) -> None:
    assert told_infer(body, json_bytes) == expected


@pytest.mark.parametrize(("body", "_json_bytes", "expected"), blocks("generate_requests.txt"))
def test_a_generate_request_is_read_as_its_golden_file_says(
    body: bytes, _json_bytes: None, expected: list[str]
) -> None:
    assert told_generate(body) == expected


def infer_body(*inputs: dict[str, object], **more: object) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def one_text(**more: object) -> dict[str, object]:
    return {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["hi"], **more}


def request(**more: object) -> InferRequest:
    return parse_infer(infer_body(one_text(), **more), None)


def test_an_infer_answer_is_its_golden_file_byte_for_byte() -> None:
    outputs = [
        Tensor("f", "FP32", (1, 2), struct.pack("<2f", 0.1, float("nan"))),
        Tensor("i", "INT64", (2,), struct.pack("<2q", -1, 2**62)),
        Tensor("b", "BOOL", (2,), b"\x01\x00"),
        Tensor("t", "BYTES", (2,), join_bytes([b'a "b"', "é".encode()])),
        Tensor("n", "FP64", (0,), b""),
    ]
    plain, _ = write_infer(request(id="r1"), "demo", 3, outputs)
    wanted = [{"name": "i", "parameters": {"binary_data": True}}, {"name": "t", "parameters": {"binary_data": True}}]
    mixed, json_bytes = write_infer(request(outputs=wanted), "demo", 3, outputs)
    assert json_bytes is not None
    lines = [plain.decode(), mixed[:json_bytes].decode(), f"+ {mixed[json_bytes:].hex()}"]
    assert "\n".join(lines) + "\n" == (GOLDEN / "infer_answers.txt").read_text()


def test_generate_is_answered_as_its_golden_file_says_byte_for_byte() -> None:
    plain = GenerateAnswer(GenerateBody(text_input="Say: "), "demo", 3)
    bare = GenerateAnswer(GenerateBody(text_input="Say: ", id="7", exclude_input_in_output=True), "demo", 3)
    said = [one.whole([answered('a "b"\n')], NO_USAGE).decode() + "\n" for one in (plain, bare)]
    stream = [bare.add(0, answered(piece).said) for piece in ("a\n\nb", "é")]
    stream = [bare.begin(), *stream, bare.end(0, Finish("stop")), bare.done(NO_USAGE)]
    failed = bare.failed(DeadlineExceeded("0.5 s passed"))
    assert "".join(said) + b"".join([*stream, failed]).decode() == (GOLDEN / "generate_answers.txt").read_text()


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "BYTES"])
def test_an_output_without_a_form_in_json_is_refused_by_name(datatype: str) -> None:
    data = join_bytes([b"\xff"]) if datatype == "BYTES" else b"\x00\x3c"
    with pytest.raises(InvalidRequest) as refused:
        write_infer(request(), "demo", 3, [Tensor("x", datatype, (1,), data)])
    assert refused.value.param == "outputs.x"
    binary = request(parameters={"binary_data_output": True})
    body, json_bytes = write_infer(binary, "demo", 3, [Tensor("x", datatype, (1,), data)])
    assert body[json_bytes:] == data


def test_the_length_of_the_json_must_lie_in_the_body() -> None:
    body = infer_body(one_text())
    for wrong in (0, len(body) + 1):
        with pytest.raises(InvalidRequest) as refused:
            parse_infer(body, wrong)
        assert refused.value.param == "inference-header-content-length"


def test_binary_inputs_are_views_of_the_body() -> None:
    head = json.dumps(
        {"inputs": [{"name": "a", "datatype": "INT8", "shape": [4], "parameters": {"binary_data_size": 4}}]}
    )
    (tensor,) = parse_infer(head.encode() + b"\x01\x02\x03\x04", len(head)).inputs
    assert isinstance(tensor.data, memoryview)


def test_more_texts_than_may_be_in_one_tensor_are_refused_in_both_forms() -> None:
    size = 4 * (BYTES_ELEMENTS_MAX + 1)
    shape = [BYTES_ELEMENTS_MAX + 1]
    with pytest.raises(InvalidRequest, match=f"more than {BYTES_ELEMENTS_MAX} elements"):
        parse_infer(infer_body({"name": "a", "datatype": "BYTES", "shape": shape, "data": [""] * shape[0]}), None)
    head = infer_body({"name": "a", "datatype": "BYTES", "shape": shape, "parameters": {"binary_data_size": size}})
    with pytest.raises(InvalidRequest, match=f"more than {BYTES_ELEMENTS_MAX} elements"):
        parse_infer(head + bytes(size), len(head))


NUMBERS = {"BOOL": "?", "UINT8": "u1", "UINT64": "<u8", "INT16": "<i2", "INT64": "<i8", "FP32": "<f4", "FP64": "<f8"}


@given(st.data(), st.sampled_from(sorted(NUMBERS)), st.booleans(), st.booleans())
def test_numbers_go_in_and_come_out_as_they_are(data: st.DataObject, datatype: str, nested: bool, binary: bool) -> None:
    shapes = npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
    finite: dict[str, Any] = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    array = data.draw(npst.arrays(np.dtype(NUMBERS[datatype]), shapes, elements=finite or None))
    listed = array.tolist() if nested and array.size else array.ravel().tolist()
    body = infer_body({"name": "a", "datatype": datatype, "shape": array.shape, "data": listed})
    (tensor,) = parse_infer(body, None).inputs
    assert bytes(tensor.data) == array.tobytes()
    answer, json_bytes = write_infer(request(parameters={"binary_data_output": binary}), "demo", 1, [tensor])
    if binary:
        assert answer[json_bytes:] == array.tobytes()
    else:
        (output,) = json.loads(answer)["outputs"]
        assert np.array(output["data"], array.dtype).reshape(output["shape"]).tobytes() == array.tobytes()


@given(st.lists(st.text()), st.booleans())
def test_texts_go_in_and_come_out_as_they_are(rows: list[str], binary: bool) -> None:
    body = infer_body({"name": "a", "datatype": "BYTES", "shape": [len(rows)], "data": rows})
    (tensor,) = parse_infer(body, None).inputs
    assert bytes(tensor.data) == join_bytes(row.encode() for row in rows)
    answer, json_bytes = write_infer(request(parameters={"binary_data_output": binary}), "demo", 1, [tensor])
    if binary:
        assert answer[json_bytes:] == bytes(tensor.data)
    else:
        assert json.loads(answer)["outputs"][0]["data"] == rows


@given(st.binary(max_size=200), st.integers(-1, 200))
def test_no_bytes_are_worse_than_a_refusal(body: bytes, json_bytes: int) -> None:
    for length in (None, json_bytes):
        told_infer(body, length)  # type: ignore[arg-type]
    told_generate(body)


def refused_text(*inputs: dict[str, object], **more: object) -> str | None:
    with pytest.raises(InvalidRequest) as refused:
        read_text(parse_infer(infer_body(*inputs, **more), None))
    return refused.value.param


def test_a_language_model_s_first_wrong_input_is_named() -> None:
    flag = {"name": "stream", "datatype": "BOOL", "shape": [1], "data": [False]}
    sampling = {"name": "sampling_parameters", "datatype": "BYTES", "shape": [1], "data": ["{}"]}
    assert refused_text(one_text(name="prompt")) == "inputs.0.name"
    assert refused_text(one_text(datatype="INT8", data=[1])) == "inputs.0.datatype"
    assert refused_text(one_text(shape=[1, 1, 1])) == "inputs.0.shape"
    assert refused_text(one_text(shape=[1, 2], data=["a", "b"])) == "inputs.0.shape"
    assert refused_text(one_text(shape=[65], data=["a"] * 65)) == "inputs.0.shape"
    assert refused_text(one_text(shape=[0], data=[])) == "inputs.0.shape"
    assert refused_text(one_text(), flag | {"shape": [2], "data": [True, True]}) == "inputs.1.shape"
    assert refused_text(flag) == "inputs"
    assert refused_text(one_text(), sampling | {"data": ['{"top_p": 3}']}) == "top_p"
    assert refused_text(one_text(), sampling | {"data": ['{"seed": 3}']}, parameters={"seed": 3}) == "parameters.seed"
    assert refused_text(one_text(), outputs=[{"name": "text_input"}]) == "outputs.0.name"


def test_a_text_answer_has_the_shape_of_its_prompts_and_begins_with_them() -> None:
    asked = parse_infer(infer_body(one_text(shape=[2, 1], data=["a", "b"])), None)
    answer = TextAnswer(asked, read_text(asked), "demo", 3)
    (output,) = json.loads(answer.whole([answered("x"), answered("y")], NO_USAGE))["outputs"]
    assert (output["shape"], output["data"]) == ([2, 1], ["ax", "by"])


IMAGE = TensorSpec(name="image", datatype="FP32", shape=[-1, 2])
SCALE = TensorSpec(name="scale", datatype="INT8", shape=[1])
SCORES = TensorSpec(name="scores", datatype="FP16", shape=[-1, 3])


def image(rows: int, **more: object) -> dict[str, object]:
    return {"name": "image", "datatype": "FP32", "shape": [rows, 2], "data": [0.0] * rows * 2, **more}


def scale(**more: object) -> dict[str, object]:
    return {"name": "scale", "datatype": "INT8", "shape": [1], "data": [1], **more}


def test_a_tensor_model_s_rows_are_its_free_first_dimension() -> None:
    assert check_inputs(parse_infer(infer_body(image(5), scale()), None), [IMAGE, SCALE]) == 5
    assert check_inputs(parse_infer(infer_body(scale()), None), [SCALE]) == 1


@pytest.mark.parametrize(
    ("inputs", "specs", "param"),
    [
        ([image(1)], [IMAGE, SCALE], "inputs"),
        ([image(1, name="other")], [IMAGE], "inputs.0.name"),
        ([image(1, datatype="FP64")], [IMAGE], "inputs.0.datatype"),
        ([image(1, shape=[2, 1])], [IMAGE], "inputs.0.shape"),
        ([image(1, shape=[1, 2, 1])], [IMAGE], "inputs.0.shape"),
        ([image(0)], [IMAGE], "inputs.0.shape"),
        ([image(2), image(3, name="mask")], [IMAGE, IMAGE.model_copy(update={"name": "mask"})], "inputs.1.shape"),
    ],
)
def test_a_tensor_model_s_first_wrong_input_is_named(
    inputs: list[dict[str, object]], specs: list[TensorSpec], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_inputs(parse_infer(infer_body(*inputs), None), specs)
    assert refused.value.param == param


def test_outputs_come_in_the_order_in_which_they_are_asked_for() -> None:
    made = [Tensor(name, "BOOL", (1,), b"\x01") for name in ("a", "b", "c")]
    asked = request(outputs=[{"name": "c"}, {"name": "a"}])
    assert [tensor.name for tensor in select_outputs(asked, made)] == ["c", "a"]
    assert select_outputs(request(), made) == made


def test_half_precision_must_be_asked_for_as_binary_data_before_it_is_computed() -> None:
    with pytest.raises(InvalidRequest, match="scores is FP16: ask for it as binary data"):
        check_outputs(request(), [SCORES])
    check_outputs(request(parameters={"binary_data_output": True}), [SCORES])
    with pytest.raises(InvalidRequest, match=r"outputs\.0\.name"):
        check_outputs(request(outputs=[{"name": "other"}]), [SCORES])


def test_metadata_and_config_have_the_protocol_s_words() -> None:
    assert metadata("m", [1, 2], "onnx", [IMAGE], [SCORES]) == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "scores", "datatype": "FP16", "shape": [-1, 3]}],
    }
    said = config("m", "onnx", [IMAGE], [SCORES])
    assert said["input"] == [{"name": "image", "data_type": "TYPE_FP32", "dims": [-1, 2]}]
    assert (said["backend"], said["max_batch_size"]) == ("onnxruntime", 0)
