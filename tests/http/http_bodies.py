"""Bodies for the language endpoints: valid ones, made from /openapi.json, which are then broken; and what must hold of
whatever answers them."""

import copy
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st

from aruntime.wire.openapi import OPERATIONS, document

DOCUMENT = json.loads(document())
PATHS = [operation.path for operation in OPERATIONS]
WAITED_FOR = {"overloaded", "model_not_ready", "draining", "deadline_exceeded"}
"""Codes of 503 and 504: the server's state, and the client's own deadline."""

_CALL = '<tool_call>\n{"name": "f", "arguments": %s}\n</tool_call>'
_SAID = st.text(max_size=20) | st.sampled_from(
    ["yes", "<think>a</think>b", "</think>", _CALL, _CALL % "{}" * 3, _CALL % '{"a": [1e999, 1000000000000000000000]}',
     _CALL % '"a"', "<tool_call>\n[", _CALL % '{"a": "\\ud800"}', "[TOOL_CALLS]", _CALL % "{}" + "<think>"]
)  # fmt: skip
ENDS = {"message_stop", "response.completed", "response.incomplete"}
"""The last events of streams that have no [DONE]."""

_TEXTS = st.text(max_size=12) | st.sampled_from(["", "\x00", "<|user|>", "😀é\u202e", "x" * 300, " ", "{", "[1"])
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_DEEP: Any = []
for _ in range(200):
    _DEEP = [_DEEP]
_STRANGE = st.sampled_from(
    [None, True, False, 0, -1, 1, 16, 17, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, 0.5, -0.0, 1e308,
     5e-324, float("nan"), float("inf"), "", "auto", "none", "\ud800", "x" * 5000, [], {}, [[[]]], [None] * 500,
     {"": {}}, {"type": "text"}, {"type": []}, {"$ref": "#"}, _DEEP]
).map(copy.deepcopy)  # fmt: skip


def of(schema: Any) -> st.SearchStrategy[Any]:
    """Values that a JSON schema allows; those with many optional fields have few of them."""
    if "$ref" in schema:
        return st.deferred(lambda: of(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]))
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return st.one_of([of(option) for option in options])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    kind = schema.get("type")
    if kind == "object":
        return _objects(schema)
    if kind == "array":
        return st.lists(of(schema.get("items", {})), min_size=schema.get("minItems", 0), max_size=3)
    if kind == "string":
        return _texts(schema)
    if kind in ("integer", "number"):
        return _numbers(schema)
    return {"boolean": st.booleans(), "null": st.none()}.get(kind, _ANYTHING)


def _objects(schema: Any) -> st.SearchStrategy[Any]:
    properties = {name: of(inner) for name, inner in schema.get("properties", {}).items()}
    if not properties:
        names = of({"type": "string", **schema.get("propertyNames", {})})
        more = schema.get("additionalProperties", True)
        return st.dictionaries(names, _ANYTHING if more is True else of(more or {}), max_size=3)
    if "model" in properties:
        properties["model"] = st.just("demo")
    required = set(schema.get("required", ()))
    optional = sorted(set(properties) - required)

    @st.composite
    def some(draw: st.DrawFn) -> dict[str, Any]:
        chosen = draw(st.lists(st.sampled_from(optional), max_size=4, unique=True)) if optional else []
        return {name: draw(properties[name]) for name in properties if name in required or name in chosen}

    return some()


def _texts(schema: Any) -> st.SearchStrategy[str]:
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    least, most = schema.get("minLength", 0), schema.get("maxLength", 1 << 20)
    return _TEXTS.filter(lambda text: least <= len(text) <= most)


def _numbers(schema: Any) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if schema["type"] == "number":
        return st.floats(least, most, allow_nan=False, allow_infinity=False)
    most = schema["exclusiveMaximum"] - 1 if "exclusiveMaximum" in schema else most
    near = st.integers(0 if least is None else least, 40 if most is None else min(most, (least or 0) + 40))
    return near | st.integers(least, most)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree."""
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *_places(value[key])]
    return found


@st.composite
def _broken(draw: st.DrawFn, body: Any) -> Any:
    """`body` with up to three things in it changed, taken away, added or repeated."""
    body = copy.deepcopy(body)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
        if not (places := _places(body)):
            break
        where, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["change", "drop", "add", "repeat"])):
            case "change":
                where[key] = draw(_STRANGE | _ANYTHING)
            case "drop":
                del where[key]
            case "add" if isinstance(where, dict):
                where[draw(st.text(max_size=6) | st.sampled_from(["type", "logprobs", "tools", "stop"]))] = draw(
                    _STRANGE
                )
            case "repeat" if isinstance(where, list):
                where.extend(copy.deepcopy(where[key]) for _ in range(draw(st.integers(1, 40))))
            case _:
                where[key] = [where[key]]
    return body


@st.composite
def _cut(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a piece of it replaced by other bytes."""
    begin, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    return data[:begin] + draw(st.binary(max_size=8)) + data[end:]


_SCHEMAS = {
    path: of(DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]) for path in PATHS
}


_STREAMS = {operation.path for operation in OPERATIONS if operation.streams}


class Asked(NamedTuple):
    """A path, a body, and what the model says if it is asked."""

    path: str
    body: bytes
    said: str


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """A body that is valid, or not quite, or mere bytes."""
    path = draw(st.sampled_from(PATHS))
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return Asked(path, draw(st.binary(max_size=60)), "")
    made = draw(_SCHEMAS[path])
    if "messages" in made and draw(st.booleans()):
        made["messages"] = [{"role": "user", "content": draw(_TEXTS)}]  # what fits together whatever else there is
    if path in _STREAMS and draw(st.booleans()):
        made["stream"] = True
    body = json.dumps(draw(_broken(made))).encode()
    return Asked(path, draw(_cut(body)) if kind < 3 else body, draw(_SAID))


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def judge(answer: Answer) -> str:
    """An answer's status and code, once it is found to be whole. AssertionError: it is not, or it blames the server."""
    if answer.status != 200:
        return f"{answer.status} {_blame(answer.status, json.loads(answer.body)['error'])}"
    if not answer.headers["content-type"].startswith("text/event-stream"):
        assert isinstance(json.loads(answer.body), dict)
        return "200"
    events = [event.rpartition("data: ")[2] for event in answer.body.decode().removesuffix("\n\n").split("\n\n")]
    told = [json.loads(event) for event in events if event != "[DONE]"]
    assert all(isinstance(one, dict) for one in told)
    failed = told[-1].get("error") or (told[-1].get("response") or {}).get("error")
    if failed:
        return f"200, then {_blame(500, failed)}"
    assert events[-1] == "[DONE]" or told[-1]["type"] in ENDS
    return "200 as a stream"


def _blame(status: int, error: Any) -> str:
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["param"] is None or isinstance(error["param"], str)
    blamed = error["code"] if status < 500 or error["code"] in WAITED_FOR else error["type"]
    assert status < 500 or blamed in WAITED_FOR, error  # a response that failed has its own codes, and ours as its type
    return str(blamed)
