"""POST /v1/embeddings: a vector of each input, of a language model's states.

The steps are those of http/questions.py. An input is a sequence as any other; those of a large request come to the door
a few at a time, so that others' come between them. Nothing is sent before the last vector has come.
"""

from array import array
from collections.abc import Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from aruntime.admission.ask import Ask
from aruntime.admission.limits import RouteLimits
from aruntime.admission.tenants import Tenant
from aruntime.admission.ticket import Ticket
from aruntime.base.errors import ContextLengthExceeded, InvalidRequest, ModelError
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.context import Context
from aruntime.http.encoder import Encoder
from aruntime.http.generation import Admitted
from aruntime.http.meter import Count
from aruntime.http.questions import meet, read, tokenizer_of
from aruntime.http.requests import Terms, read_terms
from aruntime.model.embedding import Embedding
from aruntime.wire.embeddings import NUMBERS_MAX, EmbeddingBody, parse_embedding, write_embeddings
from aruntime.wire.fields import N_MAX

# Inputs that are at the door, or in the engine, at once: as many as a submit ring has room for, whatever their size.
_AT_ONCE = N_MAX


async def create_embedding(request: Request) -> Response:
    """Answer one request for vectors. Errors as in `create_completion`; `param` names the input that is too long."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_embedding)

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        embedding = _embedding_of(served, body)
        prompts = await _encode(context.encoder, served, terms.tenant, body)
        limits = served.route.limits
        step = min(_AT_ONCE, max(1, limits.in_flight_max // 2))
        asks = [
            terms.ask(prompts[first : first + step], 1, field="input", pooling=embedding.pooling)
            for first in range(0, len(prompts), step)
        ]
        return VectorAnswer(asks, lambda ask: context.view.door.admit(served.route, ask), body, count, served, context)

    return await meet(request, context, terms, ModelRef.parse(body.model), reply)


class VectorAnswer(Admitted):
    """The answer to one request for vectors, whose parts are admitted one after the other: the first of `asks` here."""

    def __init__(
        self,
        asks: Sequence[Ask],
        admit: Callable[[Ask], Ticket],
        body: EmbeddingBody,
        count: Count,
        served: ServedVersion,
        context: Context,
    ) -> None:
        super().__init__(admit(asks[0]), asks[0].request_id, count, f"{served.name}@{served.version}")
        self._asks = asks
        self._admit = admit
        self._body = body
        self._encoder = context.encoder

    async def _answer_to(self, send: Send) -> str:
        vectors: list[bytes] = []
        for ask in self._asks:
            if vectors:
                self._ticket = self._admit(ask)
            vectors += await self._part(ask, len(vectors))
        tokens = sum(ask.prompt_tokens for ask in self._asks)

        def write() -> bytes:
            return write_embeddings(self._body, vectors, tokens)

        try:
            body = await self._encoder.run(sum(map(len, vectors)), write)
        except ValueError:
            raise ModelError("the model failed on this request") from None
        await self._send_whole(send, body, [(b"content-type", b"application/json")])
        return "ok"

    async def _part(self, ask: Ask, first: int) -> list[bytes]:
        vectors = [b""] * len(ask.prompts)
        async for output in self._ticket:
            self._count.output(first + output.choice)
            vectors[output.choice] = output.result
        return vectors


def _embedding_of(served: ServedVersion, body: EmbeddingBody) -> Embedding:
    """How the model's vectors are made. InvalidRequest: not at all, or not as many numbers as are asked for."""
    tokenizer_of(served)
    embedding = served.embedding
    if embedding is None or not embedding.pooling:
        why = embedding.refusal if embedding else "it has none"
        raise InvalidRequest(f"model: no vectors of this model: {why}", param="model")
    size = body.dimensions or embedding.size
    if size > embedding.size:
        text = f"dimensions: {size} are more than the {embedding.size} of this model"
        raise InvalidRequest(text, param="dimensions")
    if size * len(body.inputs) > NUMBERS_MAX:
        text = f"input: {len(body.inputs)} vectors of {size} numbers are more than {NUMBERS_MAX} numbers"
        raise InvalidRequest(text, param="input")
    return embedding


async def _encode(encoder: Encoder, served: ServedVersion, tenant: Tenant, body: EmbeddingBody) -> list["array[int]"]:
    """The inputs in tokens, with what the tokenizer puts around a text. The first wrong one is named."""
    tokenizer, limits, inputs = tokenizer_of(served), served.route.limits, body.inputs
    add_bos = body.add_special_tokens is not False

    def encode() -> list["array[int]"]:
        prompts = []
        for name, one in inputs:
            ids = tokenizer.encode(one, add_bos=add_bos) if isinstance(one, str) else one
            _check(ids, name, limits, tenant)
            prompts.append(array("i", ids))
        return prompts

    return await encoder.run(sum(len(one) for _, one in inputs), encode)


def _check(ids: list[int], name: str, limits: RouteLimits, tenant: Tenant) -> None:
    if not ids:
        raise InvalidRequest(f"{name}: want at least one token", param=name)
    if max(ids) >= limits.vocab:
        raise InvalidRequest(f"{name}: token {max(ids)} is not below {limits.vocab}", param=name)
    if len(ids) >= (most := limits.tokens_max(tenant)):
        raise ContextLengthExceeded(f"{name}: {len(ids)} tokens do not fit into the context of {most}", param=name)
