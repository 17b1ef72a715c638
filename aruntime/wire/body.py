"""A request body becomes a checked value, or an InvalidRequest that names the first wrong field.

Fields that a protocol documents and this server does not serve are refused by name, with the reason, unless they hold
the value that changes nothing; fields that nobody documents are refused as unknown. Nothing is ignored in silence: the
few fields that have no effect, because they are documented so, are marked `Ignored`.

No body is worth more than a few milliseconds of refusing: lists stop at their first wrong item, a model at its first
unknown field, so a body of a million wrong things costs what one costs.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError, from_json

from aruntime.base.errors import InvalidRequest

# Those in strings are counted too, which is why there may be so many: each list or object costs some 100 bytes.
BRACKETS_MAX = 1 << 18
_PARAM_CHARACTERS_MAX = 200
_INFINITE_BYTES_MAX = 16 << 10  # for longer ones a millisecond would not do


class NotServed:
    """Why a documented field is not served, and the values of it that change nothing; null is one of them always."""

    def __init__(self, why: str, *neutral: object) -> None:
        self.why = why
        self.neutral = neutral

    def takes(self, given: object) -> bool:
        """Whether a value changes nothing."""
        return given is None or any(_same(given, one) for one in self.neutral)


@dataclass(frozen=True, slots=True)
class Ignored:
    """Marks a field (as `Annotated[..., Ignored(why)]`) that is checked and changes no answer, as it is documented."""

    why: str


class Strict(BaseModel):
    """An object of a request. A boolean is no integer, a string no number, nothing is infinite.

    `not_served` names the documented fields that this server does not serve.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, allow_inf_nan=False, json_schema_extra={"additionalProperties": False}
    )
    not_served: ClassVar[Mapping[str, NotServed]] = {}
    _names: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls._names = frozenset(field.alias or name for name, field in cls.__pydantic_fields__.items())

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_served(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise PydanticCustomError("not_an_object", "Input should be an object")
        for name, given in value.items():
            if name in cls._names:
                continue
            if (refused := cls.not_served.get(name)) is None:
                raise PydanticCustomError("unknown_field", "unknown field", {"name": name})
            if not refused.takes(given):
                raise unserved(name, refused.why)
        return value


Body = TypeVar("Body", bound=Strict)


def parse(body: bytes, model: type[Body]) -> Body:
    """Read `body` as `model`. JSON deeper than 1,024 levels is refused by the parser (orjson's bound)."""
    return check(load_object(body), model)


def load_object(body: bytes | memoryview, name: str = "the body") -> dict[str, Any]:
    """Read a JSON object, called `name` in what is said of it. InvalidRequest."""
    text = bytes(body)
    if text.count(b"[") + text.count(b"{") > BRACKETS_MAX:
        raise InvalidRequest(f"{name} has more than {BRACKETS_MAX} opening brackets")
    try:
        raw = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if (path := _infinite(text)) is not None:
            raise refusal(path, "want a finite number") from None
        raise InvalidRequest(f"{name} is not JSON: {error.msg} at character {error.pos}") from None
    if not isinstance(raw, dict):
        raise InvalidRequest(f"{name} must be a JSON object")
    return raw


def _infinite(text: bytes) -> str | None:
    """Where NaN, an infinity or 1e400 stands in what is JSON but for that; None where all is finite, or it is long."""
    if len(text) > _INFINITE_BYTES_MAX:
        return None
    try:
        parsed = from_json(text, allow_inf_nan=True)
    except ValueError:
        return None
    level = [(str(name), value) for name, value in parsed.items()] if isinstance(parsed, dict) else []
    while level:
        for path, value in level:
            if isinstance(value, float) and not math.isfinite(value):
                return path
        level = [(f"{path}.{name}", item) for path, value in level for name, item in _items(value)]
    return None


def _items(value: Any) -> Iterable[tuple[object, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def check(raw: dict[str, Any], model: type[Body], within: str = "") -> Body:
    """`raw` as `model`; `within` is where in the body it stood. InvalidRequest names the first wrong field."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _refusal(error, raw, within) from None


def unserved(name: str, why: str) -> PydanticCustomError:
    """The field `name` of the object at hand is documented and not served."""
    return PydanticCustomError("not_served", "not supported by this server: {why}", {"name": name, "why": why})


def refusal(param: str, text: str) -> InvalidRequest:
    """What is wrong with one field."""
    param = param[:_PARAM_CHARACTERS_MAX]
    return InvalidRequest(f"{param}: {text}", param=param)


def wrong(name: str, why: str) -> PydanticCustomError:
    """What a validator of ours finds wrong with the field `name` of the object, or list, at hand."""
    return PydanticCustomError("wrong", "{why}", {"name": name, "why": why})


def _refusal(error: ValidationError, raw: dict[str, Any], within: str) -> InvalidRequest:
    first = min(error.errors(include_url=False, include_input=False), key=lambda one: _order(one, list(raw)))
    param = ".".join(map(str, [within, *_path(first, raw)] if within else _path(first, raw)))
    text = "missing" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
    return refusal(param, text)


def _order(error: ErrorDetails, names: list[str]) -> int:
    """Where in the body the error stands; what is missing comes last."""
    first = error["loc"][0] if error["loc"] else ""
    return names.index(first) if first in names else len(names)


def _path(error: ErrorDetails, raw: Any) -> list[int | str]:
    """The part of pydantic's location that is the client's: the names of union members are not."""
    path: list[int | str] = []
    for part in error["loc"]:
        if (isinstance(raw, dict) and part in raw) or (isinstance(raw, list) and isinstance(part, int)):
            raw = raw[part]  # type: ignore[index]
            path.append(part)
    if error["type"] == "missing":
        path.append(error["loc"][-1])
    name = error.get("ctx", {}).get("name")
    return [*path, name] if isinstance(name, str) else path


def _same(given: object, neutral: object) -> bool:
    """Equal as JSON: True is not 1."""
    return type(given) is type(neutral) and given == neutral
