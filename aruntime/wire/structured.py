"""What an answer must look like: the fields of a request that say so. Each becomes a grammar (wire/grammars.py).

    response_format                                                          OpenAI: text, json_object, json_schema
    structured_outputs {json, regex, choice, grammar, json_object}           vLLM
    guided_json, guided_regex, guided_choice, guided_grammar                 vLLM's older names

At most one of them may.
"""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from aruntime.wire.body import NotServed, Strict, wrong
from aruntime.wire.grammars import (
    GRAMMAR_BYTES_MAX,
    Constraint,
    check_bytes,
    check_schema,
    choice_grammar,
    json_grammar,
    regex_grammar,
)

OPTIONS_MAX = 1_000
REGEX_CHARACTERS_MAX = 8 << 10
_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def _read(value: Any) -> Any:
    """A schema may come as JSON in a string."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None


def _check_regex(regex: str) -> str:
    regex_grammar(regex)
    return regex


def _check_text(text: str) -> str:
    return check_bytes([text])[0]


Schema = Annotated[dict[str, Any] | bool, AfterValidator(check_schema)]
SchemaOrText = Annotated[Schema, BeforeValidator(_read)]
Regex = Annotated[str, Field(min_length=1, max_length=REGEX_CHARACTERS_MAX), AfterValidator(_check_regex)]
Options = Annotated[list[str], Field(min_length=1, max_length=OPTIONS_MAX, fail_fast=True), AfterValidator(check_bytes)]
GrammarText = Annotated[str, Field(min_length=1, max_length=GRAMMAR_BYTES_MAX), AfterValidator(_check_text)]


class JsonSchema(Strict):
    """`json_schema` of `response_format`. Its name and description are labels: the model is not shown them."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: Annotated[str, Field(max_length=4096)] | None = None
    schema_: Annotated[Schema | None, Field(alias="schema")] = None
    strict: bool | None = None

    @property
    def grammar(self) -> str:
        """The grammar of what it describes."""
        return json_grammar(_ANY_OBJECT if self.schema_ is None else self.schema_, strict=bool(self.strict))


class TextFormat(Strict):
    """Anything."""

    type: Literal["text"]


class JsonObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Strict):
    """vLLM's `structured_outputs`: exactly one of its members."""

    not_served = {  # noqa: RUF012
        "disable_additional_properties": NotServed("the schema says it", False),
        "disable_any_whitespace": NotServed("whitespace is bounded always", False),
        "structural_tag": NotServed("a grammar can say it"),
        "whitespace_pattern": NotServed("whitespace is bounded always"),
    }

    json_: Annotated[SchemaOrText | None, Field(alias="json")] = None
    regex: Regex | None = None
    choice: Options | None = None
    grammar: GrammarText | None = None
    json_object: bool | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.grammars) != 1:
            raise ValueError("want exactly one of json, regex, choice, grammar and json_object")
        return self

    @property
    def grammars(self) -> dict[str, str]:
        """The grammar of each member that is given."""
        any_object = {"json_object": json_grammar(_ANY_OBJECT)} if self.json_object else {}
        return _grammars("", self.json_, self.regex, self.choice, self.grammar) | any_object


class StructuredFields(Strict):
    """The fields of a request that say what its answer must look like."""

    response_format: Annotated[
        ResponseFormat | None, Field(description="text, json_object, or json_schema, which is obeyed")
    ] = None
    structured_outputs: Annotated[
        StructuredOutputs | None, Field(description="one of json, regex, choice, grammar, json_object")
    ] = None
    guided_json: Annotated[SchemaOrText | None, Field(description="a schema, or one as text")] = None
    guided_regex: Annotated[Regex | None, Field(description="a regular expression that matches the answer whole")] = (
        None
    )
    guided_choice: Annotated[Options | None, Field(description="texts, one of which is the answer")] = None
    guided_grammar: Annotated[GrammarText | None, Field(description="a grammar in llguidance's dialect of Lark")] = None

    @property
    def constraint(self) -> Constraint | None:
        """What the answer must look like; None: anything."""
        return next((Constraint(grammar, field) for field, grammar in self._by_field().items()), None)

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        fields = list(self._by_field())
        if len(fields) > 1:
            first = fields[0].split(".")[0]
            raise wrong(fields[1], f"{first} says already what the answer looks like")
        return self

    def _by_field(self) -> dict[str, str]:
        found = _grammars("guided_", self.guided_json, self.guided_regex, self.guided_choice, self.guided_grammar)
        if self.structured_outputs is not None:
            found |= {f"structured_outputs.{name}": text for name, text in self.structured_outputs.grammars.items()}
        match self.response_format:
            case JsonObjectFormat():
                found["response_format"] = json_grammar(_ANY_OBJECT)
            case JsonSchemaFormat(json_schema=described):
                found["response_format.json_schema.schema"] = described.grammar
        return found


def _grammars(
    prefix: str,
    schema: dict[str, Any] | bool | None,
    regex: str | None,
    options: list[str] | None,
    grammar: str | None,
) -> dict[str, str]:
    """The grammar of each that is given, by the name of its field."""
    made = {
        "json": None if schema is None else json_grammar(schema),
        "regex": None if regex is None else regex_grammar(regex),
        "choice": None if options is None else choice_grammar(options),
        "grammar": grammar,
    }
    return {prefix + name: text for name, text in made.items() if text is not None}
