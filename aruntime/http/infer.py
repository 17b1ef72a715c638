"""POST /v2/models/{model}[/versions/{version}]/infer, /generate and /generate_stream.

The steps are those of http/questions.py; what differs is how a request is read and its answer written. A tensor model
has no text to tokenize: its inputs are checked against what it takes and go to its engine as they are.
"""

import math
from array import array
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from aruntime.admission.ask import Ask
from aruntime.admission.ticket import Ticket
from aruntime.base.errors import InvalidRequest, ModelError, ModelNotFound
from aruntime.base.names import ModelRef, is_name, is_version
from aruntime.control.view import ServedVersion
from aruntime.http.asks import COMPLETION_TOKENS, Question
from aruntime.http.compression import Compressed, read_plain
from aruntime.http.context import Context
from aruntime.http.generation import Admitted
from aruntime.http.meter import Count
from aruntime.http.questions import answer_text, meet
from aruntime.http.requests import Terms, read_body, read_terms, with_parameters
from aruntime.wire.infer_v2 import InferRequest, parse_infer, write_infer
from aruntime.wire.infer_v2_models import check_inputs, check_outputs, select_outputs
from aruntime.wire.infer_v2_text import (
    GenerateAnswer,
    GenerateBody,
    TextAnswer,
    infer_headers,
    parse_generate,
    read_text,
)
from aruntime.wire.tensors import Tensor, decode, encode


async def infer(request: Request) -> Response:
    """Answer one infer request, of a language model or of a tensor model. Errors as in `create_completion`."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    json_bytes = _json_bytes(request)
    body = await read_plain(request, context, await read_body(request, context.limits))
    # What costs time is JSON; binary data is only looked at.
    asked = await context.encoder.run(json_bytes or len(body), lambda: parse_infer(body, json_bytes))
    terms = with_parameters(terms, asked.parameters, context.limits)

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        if served.engine == "decoder":
            return await _infer_text(context, served, terms, asked, count)
        return _infer_tensors(context, served, terms, asked, count)

    return Compressed(await meet(request, context, terms, model_ref(request), reply), context)


async def generate(request: Request) -> Response:
    """Go on from one text; the whole answer. Errors as in `create_completion`."""
    return await _generate(request, stream=False)


async def generate_stream(request: Request) -> Response:
    """Go on from one text; server-sent events as it comes. Errors as in `create_completion`."""
    return await _generate(request, stream=True)


def model_ref(request: Request) -> ModelRef:
    """The model, and the version if there is one, that a /v2 path names. ModelNotFound when nothing has such a name."""
    name, version = request.path_params["model"], request.path_params.get("version")
    if not is_name(name):
        raise ModelNotFound(f"no model {name[:80]!r}")
    if version is not None and not is_version(version):
        raise ModelNotFound(f"no version {version[:80]!r} of the model {name!r}")
    return ModelRef(name, version=None if version is None else int(version))


async def _generate(request: Request, *, stream: bool) -> Response:
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body, parameters = parse_generate(await read_plain(request, context, await read_body(request, context.limits)))
    terms = with_parameters(terms, parameters, context.limits)
    _check_stream(body, stream)
    question = Question(
        fields=body,
        field="text_input",
        prompts=[body.text_input],
        max_tokens=body.max_tokens,
        tokens_default=COMPLETION_TOKENS,
        stream=stream,
    )

    def shape(served: ServedVersion, _ask: Ask) -> GenerateAnswer:
        return GenerateAnswer(body, served.name, served.version)

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        return await answer_text(context, served, terms, question, count, shape)

    return await meet(request, context, terms, model_ref(request), reply)


def _check_stream(body: GenerateBody, stream: bool) -> None:
    if body.stream is not None and body.stream != stream:
        want = "generate_stream streams" if stream else "generate answers whole; generate_stream streams"
        raise InvalidRequest(f"stream: {want}", param="stream")
    if stream and body.exclude_input_in_output is False:
        text = "exclude_input_in_output: a stream does not repeat its prompt"
        raise InvalidRequest(text, param="exclude_input_in_output")


async def _infer_text(
    context: Context, served: ServedVersion, terms: Terms, asked: InferRequest, count: Count
) -> Response:
    text = read_text(asked)
    if text.fields.stream:
        raise InvalidRequest("stream: infer answers whole; generate_stream streams", param="stream")
    question = Question(
        fields=text.fields,
        field="text_input",
        prompts=text.prompts,
        max_tokens=text.fields.max_tokens,
        tokens_default=COMPLETION_TOKENS,
    )

    def shape(served: ServedVersion, _ask: Ask) -> TextAnswer:
        return TextAnswer(asked, text, served.name, served.version)

    return await answer_text(context, served, terms, question, count, shape)


def _infer_tensors(
    context: Context, served: ServedVersion, terms: Terms, asked: InferRequest, count: Count
) -> Response:
    rows = check_inputs(asked, served.inputs)
    check_outputs(asked, served.outputs)
    if asked.custom:
        param = f"parameters.{next(iter(asked.custom))}"
        raise InvalidRequest(f"{param}: unknown field", param=param)
    limits = served.route.limits
    if limits.context_max == 2:
        rows = 1  # requests never share a run: each counts as one, whatever its shape
    if math.isinf(terms.deadline_s) and limits.timeout_s is not None:
        terms = replace(terms, deadline_s=terms.arrived_s + limits.timeout_s)
    if rows >= limits.context_max:
        raise InvalidRequest(f"inputs: {rows} rows; a batch has at most {limits.context_max - 1}", param="inputs")
    ask = terms.ask([array("i", [0]) * rows], 1, field="inputs", payload=encode(asked.inputs))
    ticket = context.view.door.admit(served.route, ask)
    return TensorAnswer(ticket, asked, count, served, terms.request_id)


class TensorAnswer(Admitted):
    """The answer to one request of a tensor model: its outputs, of those the ones that were asked for."""

    def __init__(
        self, ticket: Ticket, asked: InferRequest, count: Count, served: ServedVersion, request_id: str
    ) -> None:
        super().__init__(ticket, request_id, count, f"{served.name}@{served.version}")
        self._asked = asked
        self._served = served

    async def _answer_to(self, send: Send) -> str:
        result = b""
        async for output in self._ticket:
            self._count.output(output.choice)
            result = output.result or result
        outputs = select_outputs(self._asked, _decoded(result))
        body, json_bytes = write_infer(self._asked, self._served.name, self._served.version, outputs)
        await self._send_whole(send, body, infer_headers(json_bytes))
        return "ok"


def _decoded(result: bytes) -> list[Tensor]:
    try:
        return decode(result)
    except ValueError:
        raise ModelError("the model's outputs cannot be read") from None


def _json_bytes(request: Request) -> int | None:
    """Inference-Header-Content-Length: how much of the body, as it was before it was compressed, is JSON."""
    text = request.headers.get("inference-header-content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise InvalidRequest(
            "inference-header-content-length: want a number of bytes", param="inference-header-content-length"
        )
    return int(text)
