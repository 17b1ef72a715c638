"""Bodies that are compressed on their way, in gzip or deflate (RFC 9110, 8.4.1): bounded, and in threads when long.

A compressed request is at most as large as its limit before and after. An answer is compressed when its client takes it
and it is worth the while.
"""

import zlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from aruntime.base.errors import InvalidRequest, Overloaded, RequestTooLarge, UnsupportedMediaType
from aruntime.http.context import Context

# zlib's word for the format: gzip's header, or zlib's own, which HTTP calls deflate.
_WINDOWS = {"gzip": 31, "deflate": 15}
_LEVEL = 1
_COMPRESSED_BYTES_MIN = 1024  # less does not shorten the way


async def read_plain(request: Request, context: Context, body: bytes) -> bytes:
    """The body as it was before its client compressed it. 400 it is damaged; 413 too large; 415 another coding."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return body
    if coding not in _WINDOWS:
        raise UnsupportedMediaType("want content-encoding: gzip, deflate or none")
    bytes_max = context.limits.body_bytes_max
    return await context.encoder.run(len(body), lambda: decompress(body, coding, bytes_max))


def decompress(body: bytes, coding: str, bytes_max: int) -> bytes:
    """What was compressed. Never makes more than `bytes_max` and one byte more."""
    decompressor = zlib.decompressobj(_WINDOWS[coding])
    try:
        plain = decompressor.decompress(body, bytes_max + 1)
    except zlib.error:
        raise InvalidRequest(f"the body is not {coding}") from None
    if len(plain) > bytes_max:
        raise RequestTooLarge(f"a body has at most {bytes_max} bytes, decompressed too")
    if not decompressor.eof or decompressor.unused_data:
        raise InvalidRequest(f"the body is not one whole {coding} stream")
    return plain


def compress(body: bytes, coding: str) -> bytes:
    """The body in `coding`."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[coding])
    return compressor.compress(body) + compressor.flush()


def accepted(header: str) -> str:
    """The first coding of ours in an Accept-Encoding header that is not ruled out by q=0; empty when there is none."""
    for item in header.lower().split(","):
        coding, _, weight = (part.strip() for part in item.partition(";"))
        if coding in _WINDOWS and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return coding
    return ""


class Compressed(Response):
    """Another answer, which sends its body in one message, as its client wants it."""

    def __init__(self, answer: Response, context: Context) -> None:
        # No super().__init__: it renders a body, and this one is not known yet.
        self.background = None
        self._answer = answer
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        coding = accepted(Request(scope).headers.get("accept-encoding", ""))
        start: Message = {}

        async def send_compressed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            body, headers = await self._pack(message["body"], coding, start["headers"])
            await send({**start, "headers": headers})
            await send({**message, "body": body})

        await self._answer(scope, receive, send_compressed if coding else send)

    async def _pack(
        self, body: bytes, coding: str, headers: list[tuple[bytes, bytes]]
    ) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        headers = [*headers, (b"vary", b"accept-encoding")]
        if len(body) < _COMPRESSED_BYTES_MIN:
            return body, headers
        try:
            packed = await self._context.encoder.run(len(body), lambda: compress(body, coding))
        except Overloaded:
            return body, headers
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        return packed, [*headers, (b"content-length", b"%d" % len(packed)), (b"content-encoding", coding.encode())]
