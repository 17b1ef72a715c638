"""Writes the tables of a request's fields into the documentation, from the classes that read the request.

python -m aruntime.wire.reference [docs]      each table between its marks, in every file that has them:

    <!-- fields of openai.ChatBody -->
    | field | | value | |
    <!-- /fields -->
"""

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, get_args

import orjson
from pydantic.fields import FieldInfo

from aruntime.wire.body import Ignored, Strict

_TABLE = re.compile(r"(?<=<!-- fields of )(\w+)\.(\w+)( -->\n).*?(?=<!-- /fields -->)", re.DOTALL)
_BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
_WORDS = {"string": "text"}
_UNITS = {"string": ("Length", "characters"), "array": ("Items", "items"), "object": ("Properties", "entries")}


class Row(NamedTuple):
    """A field: `handling` is served, ignored or refused; `value` what it may hold; `note` what it does, or why not."""

    field: str
    handling: str
    value: str
    note: str


def rows(body: type[Strict], within: str = "") -> Iterator[Row]:
    """Every field of `body` and of the objects in it, in their order; then what is not served."""
    schema = body.model_json_schema()
    for own, field in body.model_fields.items():
        name = field.alias or own
        path = f"{within}{name}"
        value = _value(schema["properties"][name])
        ignored = next((mark for mark in field.metadata if isinstance(mark, Ignored)), None)
        if ignored is not None:
            yield Row(path, "ignored", value, ignored.why)
            continue
        yield Row(path, "served", f"{value}, required" if field.is_required() else value, _note(field))
        for suffix, inner in _objects(field.annotation):
            yield from rows(inner, f"{path}{suffix}.")
    for name, refused in body.not_served.items():
        neutral = ", ".join(f"`{orjson.dumps(one).decode()}`" for one in refused.neutral)
        yield Row(f"{within}{name}", "refused", f"only {neutral}" if neutral else "", refused.why)


def table(body: type[Strict]) -> str:
    """The rows as a table in Markdown."""
    lines = ["| field | | value | |", "| --- | --- | --- | --- |"]
    lines += [f"| `{row.field}` | {row.handling} | {row.value} | {row.note} |" for row in rows(body)]
    return "\n".join([*lines, ""])


def rewrite(text: str) -> str:
    """The text with its tables as the classes have them."""
    return _TABLE.sub(lambda at: f"{at[1]}.{at[2]}{at[3]}{table(_body(at[1], at[2]))}", text)


def _body(module: str, name: str) -> type[Strict]:
    found: type[Strict] = getattr(import_module(f"aruntime.wire.{module}"), name)
    return found


def _note(field: FieldInfo) -> str:
    return field.description or ""


def _objects(annotation: Any, suffix: str = "") -> Iterator[tuple[str, type[Strict]]]:
    """The objects in a field, each with what leads to it: nothing, or [] in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        yield suffix, annotation
    suffix += "[]" if getattr(annotation, "__origin__", None) is list else ""
    for part in get_args(annotation):
        yield from _objects(part, suffix)


def _value(schema: Mapping[str, Any]) -> str:
    """What a JSON Schema lets through, in a few words."""
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_value(kind) for kind in kinds if kind.get("type") != "null"))
    kind = schema.get("type", "object" if "$ref" in schema else "any")
    bounds = _range(schema)
    if kind in _UNITS:
        bounds += _sizes(schema, *_UNITS[kind])
    words = f"list of ({_value(schema['items'])})" if kind == "array" and "items" in schema else str(kind)
    return ", ".join([_WORDS.get(words, words), *bounds])


def _range(schema: Mapping[str, Any]) -> list[str]:
    if "minimum" in schema and "maximum" in schema:
        return [f"{_short(schema['minimum'])} to {_short(schema['maximum'])}"]
    return [text.format(_short(schema[name])) for name, text in _BOUNDS.items() if name in schema]


def _sizes(schema: Mapping[str, Any], suffix: str, unit: str) -> list[str]:
    least, most = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if least is None and most is None:
        return []
    return [f"{least or 0} to {_short(most)} {unit}" if most is not None else f"at least {least} {unit}"]


def _short(number: float) -> str:
    """Powers of two beyond a million as such."""
    if isinstance(number, int) and abs(number) >= 1 << 20 and number & (abs(number) - 1) == 0:
        return f"{'-' if number < 0 else ''}2^{abs(number).bit_length() - 1}"
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def main(folder: Path) -> None:
    """Write all of them anew."""
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text()
        if (written := rewrite(text)) != text:
            path.write_text(written)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
