"""Language models in the Open Inference Protocol: texts in and out of infer, and the generate extension.

    infer            text_input BYTES [rows] or [rows, 1], …    ->  text_output BYTES of the same shape
    generate         {"text_input": "…", "parameters": {…}}     ->  {"model_name", "model_version", "text_output"}
    generate_stream  the same                                   ->  data: {…, "text_output": "a piece"}

Names and manners are those of NVIDIA's vLLM backend: an answer that is not streamed begins with its prompt, unless
`exclude_input_in_output`. The fields of sampling are those of /v1/completions, by the same names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationInfo, field_validator

from aruntime.base.errors import ServingError
from aruntime.wire.answers import JSON, AnswerShape, Usage
from aruntime.wire.body import NotServed, check, load_object, refusal
from aruntime.wire.control import TensorSpec
from aruntime.wire.errors import error_event_v2
from aruntime.wire.fields import PROMPTS_MAX, SamplingFields
from aruntime.wire.infer_v2 import InferRequest, Parameters, RequestId, split_parameters, write_infer
from aruntime.wire.said import Answered, Said
from aruntime.wire.tensors import Tensor, join_bytes, split_bytes

TEXT_INPUTS = (
    TensorSpec(name="text_input", datatype="BYTES", shape=[-1]),
    TensorSpec(name="stream", datatype="BOOL", shape=[1]),
    TensorSpec(name="sampling_parameters", datatype="BYTES", shape=[1]),
    TensorSpec(name="exclude_input_in_output", datatype="BOOL", shape=[1]),
)
TEXT_OUTPUTS = (TensorSpec(name="text_output", datatype="BYTES", shape=[-1]),)
OPTIONAL = frozenset({"stream", "sampling_parameters", "exclude_input_in_output"})

_OPENAI = "/v1/completions has it"
_ONE_OUTPUT = "text_output is the only output"

_NOT_SERVED: dict[str, NotServed] = {
    "bad_words": NotServed(_OPENAI, "", [], [""]),
    "best_of": NotServed("there is one answer for each text", 1),
    "image": NotServed("models here read text"),
    "logprobs": NotServed(_OPENAI),
    "lora_name": NotServed("an adapter is a part of the model's name"),
    "n": NotServed(_OPENAI, 1),
    "return_cumulative_logprob": NotServed(_ONE_OUTPUT, False),
    "return_finish_reason": NotServed(_ONE_OUTPUT, False),
    "return_logprobs": NotServed(_ONE_OUTPUT, False),
    "return_num_input_tokens": NotServed(_ONE_OUTPUT, False),
    "return_num_output_tokens": NotServed(_ONE_OUTPUT, False),
    "stop_words": NotServed("its name here is stop", "", [], [""]),
}


class TextFields(SamplingFields):
    """How to go on from a text."""

    not_served = _NOT_SERVED

    stream: bool | None = None
    exclude_input_in_output: bool | None = None

    @field_validator("exclude_input_in_output")
    @classmethod
    def _a_stream_does_not_repeat_its_prompt(cls, value: bool | None, so_far: ValidationInfo) -> bool | None:
        if value is False and so_far.data.get("stream"):
            raise ValueError("a stream does not repeat its prompt")
        return value


class GenerateBody(TextFields):
    """What generate and generate_stream are asked."""

    id: RequestId = ""
    text_input: str


@dataclass(frozen=True, slots=True)
class TextRequest:
    """The prompts of an infer request, in the shape in which they came, and how to go on from them."""

    prompts: list[str]
    shape: tuple[int, ...]
    fields: TextFields


def parse_generate(body: bytes) -> tuple[GenerateBody, Parameters]:
    """Read a generate request; a field may stand beside `text_input` or in `parameters`.

    InvalidRequest names the first wrong field.
    """
    raw = load_object(body)
    inner = raw.pop("parameters", None)
    if inner is None:
        inner = {}
    if not isinstance(inner, dict):
        raise refusal("parameters", "Input should be an object")
    parameters, fields = split_parameters(_joined(raw, inner, "parameters"))
    return check(fields, GenerateBody), parameters


def read_text(request: InferRequest) -> TextRequest:
    """What an infer request asks of a language model. InvalidRequest names the first wrong input."""
    specs = {spec.name: spec for spec in TEXT_INPUTS}
    given: dict[str, list[Any]] = {}
    for i, tensor in enumerate(request.inputs):
        spec = specs.get(tensor.name)
        if spec is None:
            raise refusal(f"inputs.{i}.name", f"no such input: want {', '.join(specs)}")
        if tensor.datatype != spec.datatype:
            raise refusal(f"inputs.{i}.datatype", f"want {spec.datatype}")
        given[tensor.name] = _elements(tensor)
        if tensor.name == "text_input":
            _check_rows(f"inputs.{i}", tensor.shape)
        elif len(given[tensor.name]) != 1:
            raise refusal(f"inputs.{i}.shape", "want one element")
    if "text_input" not in given:
        raise refusal("inputs", "text_input is missing")
    shape = next(tensor.shape for tensor in request.inputs if tensor.name == "text_input")
    fields: dict[str, Any] = {name: given[name][0] for name in ("stream", "exclude_input_in_output") if name in given}
    if "sampling_parameters" in given:
        inner = load_object(given["sampling_parameters"][0].encode(), "sampling_parameters")
        fields = _joined(fields, inner, "sampling_parameters")
    for i, name in enumerate(request.outputs):
        if name != "text_output":
            raise refusal(f"outputs.{i}.name", "no such output: want text_output")
    return TextRequest(given["text_input"], shape, check(_joined(fields, request.custom, "parameters"), TextFields))


def _elements(tensor: Tensor) -> list[Any]:
    if tensor.datatype == "BOOL":
        return [byte != 0 for byte in bytes(tensor.data)]
    try:
        return [element.decode() for element in split_bytes(tensor.data)]
    except UnicodeDecodeError:
        raise refusal(tensor.name, "want UTF-8") from None


def _check_rows(param: str, shape: tuple[int, ...]) -> None:
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)) or not 1 <= shape[0] <= PROMPTS_MAX:
        raise refusal(f"{param}.shape", f"want [rows] or [rows, 1], with 1 to {PROMPTS_MAX} rows")


def _joined(fields: Mapping[str, Any], more: Mapping[str, Any], within: str) -> dict[str, Any]:
    for name in more:
        if name in fields:
            raise refusal(f"{within}.{name}", "this was said already elsewhere in the request")
    return {**fields, **more}


class TextAnswer(AnswerShape):
    """The answer to an infer request of a language model: one text a row. It is never a stream."""

    def __init__(self, request: InferRequest, text: TextRequest, model: str, version: int) -> None:
        self.headers = [JSON]
        self._request = request
        self._model = model
        self._version = version
        self._shape = text.shape
        self._before = [""] * len(text.prompts) if text.fields.exclude_input_in_output else text.prompts

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """JSON, and the texts behind it when they are wanted as binary data."""
        rows = [(before + answer.said.text).encode() for before, answer in zip(self._before, answers, strict=True)]
        output = Tensor("text_output", "BYTES", self._shape, join_bytes(rows))
        body, json_bytes = write_infer(self._request, self._model, self._version, [output])
        self.headers = infer_headers(json_bytes)
        return body


def infer_headers(json_bytes: int | None) -> list[tuple[bytes, bytes]]:
    """What an infer answer says of its body, whose first `json_bytes` are JSON, or all of it."""
    if json_bytes is None:
        return [JSON]
    return [(b"content-type", b"application/octet-stream"), (b"inference-header-content-length", b"%d" % json_bytes)]


class GenerateAnswer(AnswerShape):
    """The answer to generate, or the events of generate_stream: what a text was gone on with."""

    def __init__(self, body: GenerateBody, model: str, version: int) -> None:
        self.headers = [JSON]
        self._before = "" if body.exclude_input_in_output else body.text_input
        said = {"id": body.id} if body.id else {}
        self._head = orjson.dumps({**said, "model_name": model, "model_version": str(version)})[:-1]

    def add(self, choice: int, said: Said) -> bytes:
        """New text."""
        return b"data: " + self._written(said.text) + b"\n\n"

    def failed(self, error: ServingError) -> bytes:
        """The stream's end when the status is spent."""
        return error_event_v2(error)

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """The answer of generate."""
        return self._written(self._before + answers[0].said.text)

    def _written(self, text: str) -> bytes:
        return b'%b,"text_output":%b}' % (self._head, orjson.dumps(text))
