"""The Open Inference Protocol's infer request and answer: JSON, and after it the binary data of tensors in order.

    {"id":…,"inputs":[{"name":…,"datatype":…,"shape":[…],"data":[…] },
                      {"name":…,"datatype":…,"shape":[…],"parameters":{"binary_data_size":N}}],…}N bytes…
    └───────────── as many bytes as the header Inference-Header-Content-Length says ─────────────┘

Source: kserve/open-inference-protocol, and the binary tensor data extension of NVIDIA's server.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field

from aruntime.base.errors import InvalidRequest
from aruntime.wire.body import NotServed, Strict, check, load_object, refusal
from aruntime.wire.infer_v2_json import pack, unpack
from aruntime.wire.tensors import DATATYPES, DIMENSIONS_MAX, NAME_BYTES_MAX, TENSORS_MAX, Tensor, check_data

ELEMENTS_MAX = 1 << 31
PARAMETERS_MAX = 64
Scalar = bool | int | float | str


def _datatype(value: str) -> str:
    if value not in DATATYPES:
        raise ValueError(f"want one of {', '.join(DATATYPES)}")
    return value


def _scalar(value: object) -> object:
    if not isinstance(value, str | int | float):
        raise ValueError("want a text, a number or a boolean")
    return value


def _shape(value: list[int]) -> list[int]:
    if math.prod(max(1, size) for size in value) > ELEMENTS_MAX:
        raise ValueError(f"more than {ELEMENTS_MAX} elements")
    return value


_Name = Annotated[str, Field(min_length=1, max_length=NAME_BYTES_MAX)]
_Size = Annotated[int, Field(ge=0, lt=1 << 63)]
_Shape = Annotated[list[_Size], Field(min_length=1, max_length=DIMENSIONS_MAX, fail_fast=True), AfterValidator(_shape)]
RequestId = Annotated[str, Field(max_length=256)]

_SHARED_MEMORY = {
    name: NotServed("send data in the body")
    for name in ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset")
}
_SEQUENCES = "models here keep no state between requests"


class Parameters(Strict):
    """What the protocol itself says with a request's parameters. `timeout` is in microseconds; 0 says nothing."""

    not_served = {  # noqa: RUF012
        "sequence_id": NotServed(_SEQUENCES, 0, ""),
        "sequence_start": NotServed(_SEQUENCES, False),
        "sequence_end": NotServed(_SEQUENCES, False),
        "triton_enable_empty_final_response": NotServed("every request has one response", False),
    }

    priority: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    timeout: Annotated[int, Field(ge=0, lt=1 << 64)] = 0
    binary_data_output: bool = False


class _InputParameters(Strict):
    not_served = _SHARED_MEMORY

    binary_data_size: _Size | None = None


class _Input(Strict):
    name: _Name
    datatype: Annotated[str, AfterValidator(_datatype)]
    shape: _Shape
    parameters: _InputParameters = _InputParameters()
    data: Any = None


class _OutputParameters(Strict):
    not_served = _SHARED_MEMORY | {"classification": NotServed("scores are not sorted here", 0)}

    binary_data: bool | None = None


class _Output(Strict):
    name: _Name
    parameters: _OutputParameters = _OutputParameters()


class _InferBody(Strict):
    id: RequestId = ""
    parameters: Annotated[dict[_Name, Annotated[Any, AfterValidator(_scalar)]], Field(max_length=PARAMETERS_MAX)] = {}  # noqa: RUF012
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=TENSORS_MAX, fail_fast=True)]
    outputs: Annotated[list[_Output], Field(max_length=TENSORS_MAX, fail_fast=True)] = []  # noqa: RUF012


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks to infer. The data of binary inputs are views of the body.

    `outputs` are the wanted ones, all when there are none, each with whether it is wanted as binary data. `custom`
    holds the parameters that are the model's own.
    """

    id: str
    inputs: list[Tensor]
    outputs: dict[str, bool | None]
    parameters: Parameters
    custom: dict[str, Scalar]

    def is_binary(self, output: str) -> bool:
        """Whether an output is wanted as binary data."""
        said = self.outputs.get(output)
        return self.parameters.binary_data_output if said is None else said


def parse_infer(body: bytes, json_bytes: int | None) -> InferRequest:
    """Read a request whose JSON is the first `json_bytes` of `body`, or all of it.

    InvalidRequest names the first wrong field.
    """
    if json_bytes is not None and not 0 < json_bytes <= len(body):
        raise refusal("inference-header-content-length", f"want 1 to {len(body)}, the bytes of the body")
    view = memoryview(body)
    read = check(load_object(body if json_bytes is None else view[:json_bytes]), _InferBody)
    parameters, custom = split_parameters(read.parameters)
    return InferRequest(
        id=read.id,
        inputs=_tensors(read.inputs, view[json_bytes:] if json_bytes is not None else view[:0]),
        outputs=_outputs(read.outputs),
        parameters=parameters,
        custom=custom,
    )


def split_parameters(given: Mapping[str, Any]) -> tuple[Parameters, dict[str, Any]]:
    """The protocol's parameters, checked, and the others."""
    ours = Parameters.__pydantic_fields__.keys() | Parameters.not_served.keys()
    protocol = {name: value for name, value in given.items() if name in ours and value is not None}
    custom = {name: value for name, value in given.items() if name not in ours}
    return check(protocol, Parameters, "parameters"), custom


def _tensors(inputs: Sequence[_Input], data: memoryview) -> list[Tensor]:
    found: dict[str, Tensor] = {}
    at = 0
    for i, one in enumerate(inputs):
        if one.name in found:
            raise refusal(f"inputs.{i}.name", "this input was there before")
        size = one.parameters.binary_data_size
        if size is not None and size > len(data) - at:
            text = f"only {len(data) - at} bytes are left after the JSON and the inputs before"
            raise refusal(f"inputs.{i}.parameters.binary_data_size", text)
        found[one.name] = _tensor(f"inputs.{i}", one, None if size is None else data[at : at + size])
        at += size or 0
    if at != len(data):
        raise InvalidRequest(f"{len(data) - at} bytes after the data of the last input")
    return list(found.values())


def _tensor(param: str, one: _Input, binary: memoryview | None) -> Tensor:
    if (one.data is None) == (binary is None):
        raise refusal(f"{param}.data", "want data, or parameters.binary_data_size, not both and not neither")
    try:
        if binary is None:
            return Tensor(one.name, one.datatype, tuple(one.shape), pack(one.datatype, one.shape, one.data))
        tensor = Tensor(one.name, one.datatype, tuple(one.shape), binary)
        check_data(tensor)
        return tensor
    except ValueError as error:
        raise refusal(f"{param}.data", str(error)) from None


def _outputs(outputs: Sequence[_Output]) -> dict[str, bool | None]:
    found: dict[str, bool | None] = {}
    for i, one in enumerate(outputs):
        if one.name in found:
            raise refusal(f"outputs.{i}.name", "this output was there before")
        found[one.name] = one.parameters.binary_data
    return found


def write_infer(request: InferRequest, model: str, version: int, outputs: Sequence[Tensor]) -> tuple[bytes, int | None]:
    """The answer's bytes, and how many of them are JSON when binary data follows.

    InvalidRequest when an output that is wanted as JSON has no such form.
    """
    binary = [tensor.data for tensor in outputs if request.is_binary(tensor.name)]
    head: dict[str, object] = {"id": request.id} if request.id else {}
    head |= {"model_name": model, "model_version": str(version)}
    head["outputs"] = [_written(tensor, request.is_binary(tensor.name)) for tensor in outputs]
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return text, None
    return b"".join([text, *binary]), len(text)


def _written(tensor: Tensor, binary: bool) -> dict[str, object]:
    said: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if binary:
        return said | {"parameters": {"binary_data_size": len(tensor.data)}}
    try:
        return said | {"data": unpack(tensor)}
    except ValueError as error:
        raise refusal(f"outputs.{tensor.name}", str(error)) from None
