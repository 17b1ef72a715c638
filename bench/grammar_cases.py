"""What bench/grammars.py compiles: schemas as applications send them, and bombs as nobody should.

A case is a kind (json, regex or lark; xgrammar reads lark too) and its text.
"""

import json
from typing import Any

Case = tuple[str, str]

STRING: dict[str, Any] = {"type": "string"}
INTEGER: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}


def closed(**properties: Any) -> dict[str, Any]:
    """An object with all of these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def items(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A list."""
    return {"type": "array", "items": schema, **more}


def schema(value: dict[str, Any]) -> Case:
    """A case of a JSON schema."""
    return "json", json.dumps(value)


ADDRESS = closed(street=STRING, city=STRING, zip={"type": "string", "pattern": "^[0-9]{5}$"}, country=STRING)
NODE = {"$defs": {"node": closed(value=INTEGER, children=items({"$ref": "#/$defs/node"}))}, "$ref": "#/$defs/node"}
LINE = closed(sku=STRING, quantity={"type": "integer", "minimum": 1, "maximum": 999}, price=NUMBER)

WORK: dict[str, Case] = {
    "weather call": schema(closed(city=STRING, unit={"enum": ["celsius", "fahrenheit"]})),
    "calendar event": schema(
        closed(name=STRING, date={"type": "string", "format": "date"}, participants=items(STRING))
    ),
    "steps of a proof": schema(closed(steps=items(closed(explanation=STRING, output=STRING)), final_answer=STRING)),
    "address": schema(ADDRESS),
    "order": schema(
        closed(id=INTEGER, customer=closed(name=STRING, email=STRING, address=ADDRESS), lines=items(LINE, minItems=1))
    ),
    "classification": schema(closed(label={"enum": [f"class_{i}" for i in range(40)]}, confidence=NUMBER)),
    "entities": schema(
        closed(entities=items(closed(text=STRING, type={"enum": ["person", "place", "date"]}, start=INTEGER)))
    ),
    "tree": schema(NODE),
    "anyOf of calls": schema(
        {
            "anyOf": [
                closed(name={"const": f"tool_{i}"}, arguments=closed(**{f"arg_{j}": STRING for j in range(4)}))
                for i in range(16)
            ]
        }
    ),
    "optional fields": schema({**closed(**{f"field_{i}": STRING for i in range(30)}), "required": []}),
    "bounded strings": schema(closed(title={**STRING, "maxLength": 80}, body={**STRING, "maxLength": 400})),
    "free object": schema({"type": "object"}),
    "regex: a date": ("regex", r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"),
    "regex: an email": ("regex", r"[a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,64}\.[a-z]{2,8}"),
    "grammar: arithmetic": (
        "lark",
        'start: sum\nsum: term (("+"|"-") term)*\nterm: factor (("*"|"/") factor)*\n'
        'factor: NUMBER | "(" sum ")"\nNUMBER: /[0-9]{1,9}/\n',
    ),
}


def nested(depth: int) -> Case:
    """Lists in lists."""
    return "json", '{"type":"array","items":' * depth + "{}" + "}" * depth


def doubling(levels: int) -> Case:
    """A schema whose references, followed, are 2^levels schemas."""
    defs: dict[str, Any] = {"l0": STRING}
    for level in range(1, levels + 1):
        one = {"$ref": f"#/$defs/l{level - 1}"}
        defs[f"l{level}"] = {"anyOf": [closed(a=one), closed(b=one)]}
    return schema({"$defs": defs, "$ref": f"#/$defs/l{levels}"})


def intersections(count: int) -> Case:
    """An allOf of anyOfs: multiplied out, 2^count alternatives."""
    one = [{"anyOf": [closed(**{f"a{i}": STRING}), {"properties": {f"b{i}": INTEGER}}]} for i in range(count)]
    return schema({"type": "object", "allOf": one})


BOMBS: dict[str, Case] = {
    "nested 60": nested(60),
    "nested 10,000": nested(10_000),
    "$ref to itself": schema({"$ref": "#"}),
    "$refs in a ring": schema({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    "$refs doubling 30 times": doubling(30),
    "allOf of 20 anyOfs": intersections(20),
    "enum of 100,000": schema({"enum": [f"value number {i}" for i in range(100_000)]}),
    "1 MB of properties": schema({"type": "object", "properties": {f"property {i}": STRING for i in range(30_000)}}),
    "2,000 optional properties": schema({**closed(**{f"p{i}": STRING for i in range(2_000)}), "required": []}),
    "20,000 required properties": schema(closed(**{f"p{i}": INTEGER for i in range(20_000)})),
    "maxLength 1,000,000": schema(closed(a={**STRING, "maxLength": 1_000_000})),
    "minItems 100,000": schema(items(STRING, minItems=100_000)),
    "pattern with a nested star": schema(closed(a={**STRING, "pattern": "^(a*)*b$"})),
    "multipleOf of a tiny fraction": schema(closed(a={"type": "number", "multipleOf": 0.000001234567})),
    "regex (a*)*b": ("regex", "(a*)*b"),
    "regex a{1,100000}": ("regex", "a{1,100000}"),
    "regex ((a{1,100}){1,100}){1,100}": ("regex", "((a{1,100}){1,100}){1,100}"),
    "regex (x+x+)+y 20 deep": ("regex", "(" * 20 + "x+x+" + ")+" * 20 + "y"),
    "regex (.*a){20}.{20}": ("regex", "(.*a.{20}){20}"),
    "regex [ab]*a[ab]{30}": ("regex", "[ab]*a[ab]{30}"),
    "regex of unicode ranges": ("regex", r"(\p{L}\p{N}[\u0400-\u4fff]){1,500}"),
    "regex of 10,000 words": ("regex", "|".join(f"word{i * 7919 % 100_003}" for i in range(10_000))),
    "regex of 10,000 brackets": ("regex", "(" * 10_000 + "a" + ")" * 10_000),
    "regex that never ends": ("regex", "a++++++++++{100}{100}{100}"),
    "lark: left recursion": ("lark", 'start: start start | start start start | "a" |'),
    "lark: cycle of terminals": ("lark", "start: A\nA: B\nB: A\n"),
    "lark: 10,000 brackets": ("lark", "start: " + "(" * 10_000 + '"a"' + ")" * 10_000),
    "lark: ~ of a product": ("lark", "start: A\nA: ~/(.*a.{12}){4}/ & ~/(.*b.{12}){4}/\n"),
    "lark: repetition of rules": ("lark", 'start: (x{1000}){1000}\nx: y{1000}\ny: "a" | "b"\n'),
}
