"""Texts as vectors: the body and the answer of /v1/embeddings, in OpenAI's shapes.

{model, input, dimensions, encoding_format} -> {object, data: [{object, index, embedding}], model, usage}
"""

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import orjson
from pydantic import Discriminator, Field, Tag

from aruntime.wire.body import Ignored, NotServed, Strict, parse
from aruntime.wire.fields import Label, ModelName, TokenIds, text_ids_or_list, text_or_list

INPUTS_MAX = 2048  # OpenAI's
NUMBERS_MAX = 1 << 22  # of one answer: 16 MiB as they are, some 50 MiB in JSON
_DIMENSIONS_MAX = 1 << 18

_Text = Annotated[str, Field(min_length=1)]
_Input = Annotated[Annotated[_Text, Tag("(text)")] | Annotated[TokenIds, Tag("(list)")], Discriminator(text_or_list)]
_Inputs = Annotated[list[_Input], Field(min_length=1, max_length=INPUTS_MAX, fail_fast=True)]


class EmbeddingBody(Strict):
    """POST /v1/embeddings."""

    not_served = {  # noqa: RUF012
        "messages": NotServed("send input: a text, or token ids"),
        "truncate_prompt_tokens": NotServed("a vector is of the whole input; one beyond the context is refused", -1),
        "truncation_side": NotServed("a vector is of the whole input"),
        "normalize": NotServed("vectors have the length 1", True),
        "use_activation": NotServed("vectors have the length 1", True),
        "embed_dtype": NotServed("numbers are float32", "float32"),
        "endianness": NotServed("base64 is little endian", "little", "native"),
        "priority": NotServed("the header x-request-priority names a class", 0),
        "request_id": NotServed("the header x-request-id names a request"),
        "cache_salt": NotServed("a tenant's prefixes are found by itself only, or by its group"),
        "mm_processor_kwargs": NotServed("models here read and write text only"),
    }

    model: Annotated[ModelName, Field(description="`name`, `name@version` or `name@label`")]
    input: Annotated[
        Annotated[_Text, Tag("(text)")] | Annotated[TokenIds, Tag("(ids)")] | Annotated[_Inputs, Tag("(list)")],
        Discriminator(text_ids_or_list),
        Field(description="a text, token ids, or several of both"),
    ]
    dimensions: Annotated[
        int | None, Field(ge=1, le=_DIMENSIONS_MAX, description="so many of a vector's numbers, at most all")
    ] = None
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Field(description="a list of numbers, or float32, little endian")
    ] = None
    add_special_tokens: Annotated[
        bool | None, Field(description="what the tokenizer puts around a text; true unless told")
    ] = None
    user: Annotated[Label | None, Ignored("a label for the caller's own books")] = None

    @property
    def inputs(self) -> list[tuple[str, str | list[int]]]:
        """What is to be embedded, each with what the client called it."""
        if isinstance(self.input, list) and not isinstance(self.input[0], int):
            return [(f"input.{index}", one) for index, one in enumerate(self.input)]
        return [("input", self.input)]


def parse_embedding(body: bytes) -> EmbeddingBody:
    """Read a request for vectors. InvalidRequest names the first wrong field."""
    return parse(body, EmbeddingBody)


def write_embeddings(body: EmbeddingBody, vectors: Sequence[bytes], prompt_tokens: int) -> bytes:
    """The answer: `vectors` (float32, little endian) cut to `dimensions` and made 1 long, in their order.

    ValueError: one is no direction, since it is 0 or not finite.
    """
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _embedding(body, vector))
        for index, vector in enumerate(vectors)
    )
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    rest = orjson.dumps({"model": body.model, "usage": usage})
    return b'{"object":"list","data":[%b],%b' % (data, rest[1:])


def _embedding(body: EmbeddingBody, vector: bytes) -> bytes:
    numbers = np.frombuffer(vector, "<f4")[: body.dimensions].astype(np.float64)
    length = float(np.linalg.norm(numbers))
    if not 0 < length < np.inf:
        raise ValueError("a vector is 0 or not finite")
    made = (numbers / length).astype("<f4")
    if body.encoding_format == "base64":
        return b'"%b"' % base64.b64encode(made.tobytes())
    return orjson.dumps(made, option=orjson.OPT_SERIALIZE_NUMPY)
