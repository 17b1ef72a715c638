"""Grammars as texts, in llguidance's dialect of Lark, which holds a JSON schema as `%json {...}`.

    json_grammar(schema)      regex_grammar("[a-z]+")      choice_grammar(["yes", "no"])
    pieces_grammar([['<tool_call>{"name": "x", "arguments": ', Json(schema), "}</tool_call>"], …], repeated=True)

`aruntime.model.grammar` compiles them. What is too large is refused here, before anybody does; docs/limits.md says
where each bound comes from.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

GRAMMAR_BYTES_MAX = 64 << 10
SCHEMA_DEPTH_MAX = 100
# Between two parts of a JSON value: nothing, a space, or a new line and its indentation. What a model may repeat for
# ever it does repeat for ever, sooner or later.
_WHITESPACE = r"\n[ \t]{0,40}| "


@dataclass(frozen=True, slots=True)
class Constraint:
    """The grammar of an answer, and which field of the request it comes from."""

    grammar: str
    field: str


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value in a grammar. What its schema says and no grammar can hold is refused if `strict`, else let be."""

    schema: dict[str, Any] | bool
    strict: bool = True

    def __str__(self) -> str:
        schema = self.schema if isinstance(self.schema, dict) else {} if self.schema else {"enum": []}
        guidance = {"whitespace_pattern": _WHITESPACE, "lenient": not self.strict}
        return "%json " + orjson.dumps({**schema, "x-guidance": guidance}).decode()


def json_grammar(schema: dict[str, Any] | bool, *, strict: bool = True) -> str:
    """The grammar of a JSON value."""
    return f"start: {Json(schema, strict)}"


def regex_grammar(regex: str) -> str:
    """The grammar of a text that a regular expression matches whole. ValueError: it ends in the middle of an escape."""
    return f"start: /{''.join(_slashes_escaped(regex))}/"


def choice_grammar(choices: Iterable[str]) -> str:
    """The grammar of one of these texts."""
    return f"start: CHOICE\nCHOICE: {' | '.join(map(_literal, choices))}"


def pieces_grammar(
    alternatives: Sequence[Sequence[str | Json]],
    *,
    before: str = "",
    between: str = "",
    after: str = "",
    repeated: bool = False,
) -> str:
    """The grammar of one of these rows of texts and JSON values; or, if `repeated`, of one or more, `between` them.

    What may be said is: before, row, (between, row)*, after.
    """
    rows = [
        " ".join(_literal(piece) if isinstance(piece, str) else str(piece) for piece in row) for row in alternatives
    ]
    names = [f"row_{number}" for number in range(len(rows))]
    more = f" ({_literal(between)} row)*" if repeated else ""
    lines = [f"start: {_literal(before)} row{more} {_literal(after)}", f"row: {' | '.join(names)}"]
    return "\n".join(lines + [f"{name}: {row}" for name, row in zip(names, rows, strict=True)])


def check_schema(schema: dict[str, Any] | bool) -> dict[str, Any] | bool:
    """The schema itself. ValueError when it is too large or too deep to be looked at."""
    check_bytes([orjson.dumps(schema).decode()])
    level: list[Any] = [schema]
    for _ in range(SCHEMA_DEPTH_MAX):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return schema
    raise ValueError(f"more than {SCHEMA_DEPTH_MAX} levels deep")


def check_bytes(texts: list[str]) -> list[str]:
    """The texts themselves. ValueError when they are more, together, than a grammar may be."""
    size = sum(len(text.encode()) for text in texts)
    if size > GRAMMAR_BYTES_MAX:
        raise ValueError(f"{size} bytes, at most {GRAMMAR_BYTES_MAX}")
    return texts


def _inside(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _literal(text: str) -> str:
    return orjson.dumps(text).decode()


def _slashes_escaped(regex: str) -> Iterator[str]:
    characters = iter(regex)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            if not following:
                raise ValueError("it ends with a single backslash")
            yield character + following
        else:
            yield "\\/" if character == "/" else character
