"""The error table, over every language endpoint: the right status and code, all four keys, and the field at fault."""

import json
import re
from typing import Any

import pytest
from http_house import Client, House
from starlette.routing import Route

from aruntime.http.app import build_app
from aruntime.http.limits import HttpLimits
from aruntime.wire.openapi import OPERATIONS, document

EXAMPLES = {operation.path: operation.example for operation in OPERATIONS}
PATHS = list(EXAMPLES)
# Fields that may be as long as the context.
LONG: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "x" * 300},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x" * 300}]},
    "/v1/responses": {"input": "x" * 300},
    "/v1/messages": {"messages": [{"role": "user", "content": "x" * 300}]},
}
BODIES = [
    pytest.param(operation.path, name, id=f"{operation.path}-{name}")
    for operation in OPERATIONS
    for name in operation.bodies[0].model_fields
]


def json_of(path: str, **changes: Any) -> dict[str, Any]:
    """The least that a path takes, changed."""
    return {"model": "demo", **EXAMPLES[path], **changes}


def refused(client: Client, status: int, code: str) -> Any:
    """The error, which must be whole."""
    assert client.status == status, client.body
    assert client.headers["content-type"] == "application/json"
    error = client.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]
    assert error["type"]
    return error


def test_every_path_that_takes_a_body_is_in_the_document(house: House) -> None:
    app: Any = build_app(house.view)
    while not hasattr(app, "routes"):
        app = app._app
    routes = [route for route in app.routes if isinstance(route, Route) and "POST" in (route.methods or ())]
    taken = {route.path for route in routes if not route.path.startswith("/v2") and "{" not in route.path}
    assert taken == set(PATHS)


def test_every_path_of_a_kept_answer_is_in_the_document(house: House) -> None:
    app: Any = build_app(house.view)
    while not hasattr(app, "routes"):
        app = app._app
    routes = [route for route in app.routes if isinstance(route, Route) and "{id}" in route.path]
    served = {(route.path, method) for route in routes for method in route.methods or () if method != "HEAD"}
    told = json.loads(document())["paths"]
    named = {(re.sub(r"{\w+}", "{id}", path), method.upper()) for path in told for method in told[path]}
    assert served == {(path, method) for path, method in named if "{id}" in path and "models" not in path}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"a"',
        b"null",
        b'{"a": nan}',
        b"1e400",
        b'{"a": 01}',
        b"{'a': 1}",
        b"\xff\xfe",
        b'{"a":' * 2000,
        b"[" * 300_000,
    ],
    ids=["empty", "cut", "list", "text", "null", "nan", "infinite", "octal", "quotes", "not utf-8", "deep", "brackets"],
)
async def test_what_is_not_a_json_object_is_400_without_a_field(house: House, path: str, body: bytes) -> None:
    error = refused(await house.client(path, body).done(), 400, "invalid_request_error")
    assert error["param"] is None


@pytest.mark.parametrize(("path", "field"), BODIES)
async def test_a_field_of_the_wrong_type_is_named(house: House, path: str, field: str) -> None:
    error = refused(await house.client(path, json_of(path, **{field: [[["x"]]]})).done(), 400, "invalid_request_error")
    assert error["param"].split(".")[0] == field
    assert error["message"].startswith(error["param"])


NUMBERS = [
    pytest.param(operation.path, name, id=f"{operation.path}-{name}")
    for operation in OPERATIONS
    for name, schema in operation.bodies[0].model_json_schema()["properties"].items()
    if {"integer", "number"} & {one.get("type") for one in schema.get("anyOf", [schema])}
]


@pytest.mark.parametrize(("path", "field"), NUMBERS)
@pytest.mark.parametrize(
    "value",
    [b"true", b'"1"', b"NaN", b"-Infinity", b"1e400", b"-1e400", b"18446744073709551616", b"-9223372036854775809"],
)
async def test_a_number_is_finite_in_range_and_neither_a_text_nor_a_boolean(
    house: House, path: str, field: str, value: bytes
) -> None:
    body = json.dumps(json_of(path, **{field: "HERE"})).encode().replace(b'"HERE"', value)
    error = refused(await house.client(path, body).done(), 400, "invalid_request_error")
    assert error["param"] == field


@pytest.mark.parametrize("path", PATHS)
async def test_an_unknown_field_is_named(house: House, path: str) -> None:
    error = refused(await house.client(path, json_of(path, fancy=1)).done(), 400, "invalid_request_error")
    assert (error["param"], error["message"]) == ("fancy", "fancy: unknown field")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["other", "demo@9", "demo@canary", "demo:adapter"])
async def test_an_unknown_model_version_label_or_adapter_is_404(house: House, path: str, model: str) -> None:
    error = refused(await house.client(path, json_of(path, model=model)).done(), 404, "model_not_found")
    assert error["param"] == "model"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["", "x" * 201, "De mo", "../demo", "demo@", "demo@" + "9" * 30, "demo:", "\x00"])
async def test_a_model_s_name_that_is_none_names_its_field(house: House, path: str, model: str) -> None:
    client = await house.client(path, json_of(path, model=model)).done()
    assert client.status in (400, 404)
    assert client.json["error"]["param"] == "model"


@pytest.mark.parametrize("path", LONG)
async def test_too_long_a_context_is_400_by_a_code_of_its_own(house: House, path: str) -> None:
    error = refused(await house.client(path, json_of(path) | LONG[path]).done(), 400, "context_length_exceeded")
    assert error["param"] == next(iter(LONG[path]))


# A GET of this path asks for a response of that name.
@pytest.mark.parametrize("path", [path for path in PATHS if path != "/v1/responses/input_tokens"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
async def test_another_method_is_405_and_says_which_is_allowed(house: House, path: str, method: str) -> None:
    client = await house.client(path, json_of(path), method=method).done()
    refused(client, 405, "method_not_allowed")
    assert client.headers["allow"] == "POST"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_another_content_type_is_415(house: House, path: str, kind: str) -> None:
    refused(await house.client(path, json_of(path), {"content-type": kind}).done(), 415, "unsupported_media_type")


@pytest.mark.parametrize("path", PATHS)
async def test_too_large_a_body_is_413_whether_its_length_is_told_or_found(house: House, path: str) -> None:
    house.app = build_app(house.view, limits=HttpLimits(body_bytes_max=100))
    refused(await house.client(path, b"", {"content-length": "101"}).done(), 413, "request_too_large")
    refused(await house.client(path, b" " * 101).done(), 413, "request_too_large")
