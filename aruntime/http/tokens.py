"""POST /tokenize and /detokenize: what a model's tokenizer makes of a text. No engine is asked, nothing is admitted."""

from starlette.requests import Request
from starlette.responses import Response

from aruntime.base.errors import InvalidRequest
from aruntime.base.names import ModelRef
from aruntime.http.context import Context
from aruntime.http.questions import find, read, tokenizer_of
from aruntime.http.requests import read_terms
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.tokens import TokenizeChat, TokenizeText, parse_detokenize, parse_tokenize, write_text, write_tokens

# Beyond so many characters' worth of ids it is done in a thread; an id stands for a few of them.
_CHARACTERS_PER_TOKEN = 4


async def tokenize(request: Request) -> Response:
    """The ids of a text or a conversation. 400 the body is wrong; 403, 404, 503 the model; 503 too many long texts."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_tokenize)
    served = await find(request, context, terms, ModelRef.parse(body.model))
    tokenizer, max_model_len = tokenizer_of(served), served.route.limits.context_max
    ids = await _encode(context, tokenizer, body)

    def write() -> bytes:
        names = [tokenizer.name(token) for token in ids] if body.return_token_strs else None
        return write_tokens(ids, names, max_model_len)

    return _json(await context.encoder.run(_CHARACTERS_PER_TOKEN * len(ids), write))


async def detokenize(request: Request) -> Response:
    """The text of ids, special tokens spelled out. Errors as in `tokenize`; 400 an id is not the model's."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_detokenize)
    served = await find(request, context, terms, ModelRef.parse(body.model))
    tokenizer, vocab = tokenizer_of(served), served.route.limits.vocab
    if (highest := max(body.tokens, default=0)) >= vocab:
        raise InvalidRequest(f"tokens: token {highest} is not below {vocab}", param="tokens")

    def write() -> bytes:
        return write_text(tokenizer.decode(body.tokens, special=True))

    return _json(await context.encoder.run(_CHARACTERS_PER_TOKEN * len(body.tokens), write))


async def _encode(context: Context, tokenizer: Tokenizer, body: TokenizeText | TokenizeChat) -> "list[int]":
    if isinstance(body, TokenizeText):
        ids = await context.encoder.text(tokenizer, body.prompt, add_bos=body.add_special_tokens)
    else:
        ids = await context.encoder.chat(tokenizer, body.conversation, add_generation_prompt=body.add_generation_prompt)
    return ids.tolist()


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
