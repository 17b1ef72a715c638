"""A request body becomes a checked value, or an InvalidRequest that names the first wrong field.

Fields that OpenAI documents and this server does not serve are refused by name unless they hold the value that changes
nothing; fields that nobody documents are refused as unknown. Nothing is ignored in silence.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from aruntime.base.errors import InvalidRequest

Model = TypeVar("Model", bound=BaseModel)


def parse(body: bytes, model: type[Model], neutral: Mapping[str, tuple[object, ...]]) -> Model:
    """Read `body` as `model`. `neutral`: the fields that are not served, each with the values that may stand there.

    null may stand in every one of them. JSON deeper than 1,024 levels is refused by the parser (orjson's bound).
    """
    try:
        raw = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(raw, dict):
        raise InvalidRequest("the body must be a JSON object")
    for name, values in neutral.items():
        value = raw.pop(name, None)
        if value is not None and not any(type(value) is type(one) and value == one for one in values):
            raise InvalidRequest(f"{name} is not supported by this server", param=name)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _refusal(error, raw) from None


def _refusal(error: ValidationError, raw: dict[str, Any]) -> InvalidRequest:
    first = min(error.errors(include_url=False, include_context=False), key=lambda e: _order(e, list(raw)))
    param = ".".join(str(part) for part in _path(first["loc"], raw))
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"unknown field {param[:200]}", param=param[:200])
    if first["type"] == "missing":
        return InvalidRequest(f"{param} is missing", param=param)
    message = first["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{param[:200]}: {message}" if param else message, param=param[:200] or None)


def _order(error: Any, names: list[str]) -> int:
    """Where in the body the error stands; what is missing comes last."""
    first = error["loc"][0] if error["loc"] else ""
    return names.index(first) if first in names else len(names)


def _path(loc: tuple[int | str, ...], raw: object) -> list[int | str]:
    """The part of pydantic's location that is the client's: the names of union members are not."""
    path: list[int | str] = []
    for part in loc:
        if isinstance(raw, dict) and (part in raw or part is loc[-1]):
            raw = raw.get(part)
        elif isinstance(raw, list) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
        else:
            continue
        path.append(part)
    return path
