"""What the language endpoints take, for machines: an OpenAPI document that is made of the bodies' own types.

A field that is refused by name stands in no schema; what a schema allows may still be refused where fields do not fit
together, or the model cannot do it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from pydantic.json_schema import models_json_schema

from aruntime.wire.anthropic import CountBody, MessagesBody
from aruntime.wire.body import Strict
from aruntime.wire.embeddings import EmbeddingBody
from aruntime.wire.openai import ChatBody
from aruntime.wire.openai_completions import CompletionBody
from aruntime.wire.responses import InputTokensBody, ResponseBody
from aruntime.wire.responses_kept import ItemsQuery, ShowQuery
from aruntime.wire.tokens import Detokenize, TokenizeChat, TokenizeText


@dataclass(frozen=True, slots=True)
class Operation:
    """What one path takes by POST: one of `bodies`, the least of which is `example` (and the model).

    `streams` says that it answers with events when asked to.
    """

    path: str
    summary: str
    bodies: tuple[type[Strict], ...]
    example: Mapping[str, Any]
    streams: bool = False
    error: str = "Error"


_TALK = {"messages": [{"role": "user", "content": "hi"}]}
OPERATIONS = (
    Operation("/v1/completions", "Go on from prompts", (CompletionBody,), {"prompt": "hi"}, streams=True),
    Operation("/v1/chat/completions", "Go on from a conversation", (ChatBody,), _TALK, streams=True),
    Operation("/v1/responses", "Go on from items", (ResponseBody,), {"input": "hi"}, streams=True),
    Operation("/v1/responses/input_tokens", "Count their tokens", (InputTokensBody,), {"input": "hi"}),
    Operation(
        "/v1/messages",
        "Go on from a conversation",
        (MessagesBody,),
        {**_TALK, "max_tokens": 9},
        streams=True,
        error="AnthropicError",
    ),
    Operation("/v1/messages/count_tokens", "Count its tokens", (CountBody,), _TALK, error="AnthropicError"),
    Operation("/v1/embeddings", "The vectors of texts", (EmbeddingBody,), {"input": "hi"}),
    Operation("/tokenize", "The ids of a text or a conversation", (TokenizeText, TokenizeChat), {"prompt": "hi"}),
    Operation("/detokenize", "The text of ids", (Detokenize,), {"tokens": [1]}),
)

# The error table of the design; what each status means is in its `code`.
_STATUSES = (400, 401, 403, 404, 405, 408, 413, 415, 429, 500, 503, 504)

_TEXT = {"type": "string"}
_NULLABLE = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["message", "type", "param", "code"],
    "properties": {"message": _TEXT, "type": _TEXT, "param": _NULLABLE, "code": _TEXT},
}
_ERRORS = {
    "Error": {"type": "object", "required": ["error"], "properties": {"error": _ERROR}},
    "AnthropicError": {
        "type": "object",
        "required": ["type", "error", "request_id"],
        "properties": {"type": {"const": "error"}, "error": _ERROR, "request_id": _TEXT},
    },
}
_HEADERS = {
    "x-request-id": _TEXT,
    "x-request-timeout-ms": {"type": "integer", "minimum": 1},
    "x-request-priority": {"enum": ["interactive", "standard", "batch"]},
    "x-session-id": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{0,128}$"},
}
_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


@cache
def document() -> bytes:
    """The document, as JSON: OpenAPI 3.1."""
    bodies = [body for operation in OPERATIONS for body in operation.bodies]
    _, made = models_json_schema([(body, "validation") for body in bodies], ref_template=_ref("{model}"))
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "aruntime", "version": "1"},
            "security": [{name: []} for name in _KEYS],
            "paths": {one.path: {"post": _operation(one)} for one in OPERATIONS} | _LISTS | _KEPT,
            "components": {"schemas": made["$defs"] | _ERRORS, "securitySchemes": _KEYS},
        }
    )


def _operation(one: Operation) -> dict[str, Any]:
    schemas = [{"$ref": _ref(body.__name__)} for body in one.bodies]
    body = {"schema": {"anyOf": schemas}, "example": {"model": "demo", **one.example}}
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if one.streams:
        answer["text/event-stream"] = {}
    return {
        "summary": one.summary,
        "parameters": [{"name": name, "in": "header", "schema": schema} for name, schema in _HEADERS.items()],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": _responses(answer, one.error),
    }


def _responses(answer: dict[str, Any], error: str = "Error") -> dict[str, Any]:
    refused = {"description": "refused", "content": {"application/json": {"schema": {"$ref": _ref(error)}}}}
    return {"200": {"description": "the answer", "content": answer}} | {str(status): refused for status in _STATUSES}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


_MODELS = _responses({"application/json": {"schema": {"type": "object", "required": ["object"]}}})
_LISTS = {
    "/v1/models": {"get": {"summary": "The models that are ready", "responses": _MODELS}},
    "/v1/models/{model}": {
        "get": {
            "summary": "One of them",
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": _TEXT}],
            "responses": _MODELS,
        }
    },
}


def _kept(name: str, summary: str, query: type[Strict] | None = None) -> dict[str, Any]:
    """What a path takes that names a kept answer by `name`."""
    fields = query.model_json_schema()["properties"] if query is not None else {}
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if "stream" in fields:
        answer["text/event-stream"] = {}
    return {
        "summary": summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT},
            *({"name": field, "in": "query", "schema": schema} for field, schema in fields.items()),
        ],
        "responses": _responses(answer),
    }


_KEPT = {
    "/v1/responses/{response_id}": {
        "get": _kept("response_id", "A kept response, or its events", ShowQuery),
        "delete": _kept("response_id", "Forget it"),
    },
    "/v1/responses/{response_id}/cancel": {"post": _kept("response_id", "End one in the background")},
    "/v1/responses/{response_id}/input_items": {"get": _kept("response_id", "What it goes on from", ItemsQuery)},
    "/v1/chat/completions/{completion_id}": {
        "get": _kept("completion_id", "A kept chat, or its events", ShowQuery),
        "delete": _kept("completion_id", "Forget it"),
    },
}
