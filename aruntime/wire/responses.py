"""What clients of OpenAI's Responses API ask: the body of POST /v1/responses. The answer is in responses_answers.py."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter, ValidationError, ValidationInfo, field_validator

from aruntime.base.errors import InvalidRequest
from aruntime.queue.steering import TOP_LOGPROBS_MAX
from aruntime.wire import refused
from aruntime.wire.body import Ignored, NotServed, Strict, parse, refusal
from aruntime.wire.conversation import Conversation, Option
from aruntime.wire.fields import SMALL, Label, ModelName, Penalty, SamplingFields, Stops, TokenCount, text_or_list
from aruntime.wire.grammars import Constraint, json_grammar
from aruntime.wire.openai import Metadata
from aruntime.wire.responses_items import ITEMS_MAX, ChosenTools, Item, Items, Tools, chosen, conversed, unanswered
from aruntime.wire.structured import JsonObjectFormat, JsonSchema, TextFormat

_LABEL = "a label for the caller's own books"
LOGPROBS = "message.output_text.logprobs"
_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(Items)


class JsonSchemaFormat(JsonSchema):
    """JSON as a schema says."""

    type: Literal["json_schema"]


class TextConfig(Strict):
    """How a text is to look."""

    not_served = {"verbosity": NotServed("models here have no such switch: ask in a message", "medium")}  # noqa: RUF012

    format: Annotated[
        TextFormat | JsonObjectFormat | JsonSchemaFormat | None,
        Field(discriminator="type", description="anything, any JSON object, or JSON as a schema says"),
    ] = None

    @property
    def constraint(self) -> Constraint | None:
        """What the answer must look like; None: anything."""
        if isinstance(self.format, JsonSchemaFormat):
            return Constraint(self.format.grammar, "text.format.schema")
        if isinstance(self.format, JsonObjectFormat):
            return Constraint(json_grammar({"type": "object"}), "text.format")
        return None


class ReasoningConfig(Strict):
    """How the model is to think."""

    not_served = {  # noqa: RUF012
        "context": NotServed("the template decides what it shows of thoughts", "auto"),
        "generate_summary": NotServed("thoughts are told whole"),
        "mode": NotServed("there is one mode", "standard"),
    }

    effort: Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None,
        Field(description="`reasoning_effort` and `enable_thinking` of the template, where it has them"),
    ] = None
    summary: Annotated[
        Literal["auto", "concise", "detailed"] | None, Ignored("thoughts are told whole, which is more")
    ] = None


class StreamOptions(Strict):
    """How a stream is told."""

    not_served = {"include_obfuscation": refused.STREAM_OPTIONS["include_obfuscation"]}  # noqa: RUF012


class InputTokensBody(Strict):
    """POST /v1/responses/input_tokens: what a response goes on from."""

    not_served = refused.INPUT_TOKENS

    model: Annotated[ModelName, Field(description="`name`, `name@version`, `name@label` or `name:adapter`")]
    input: Annotated[
        Annotated[str, Tag("(text)")] | Annotated[Items, Tag("(list)")],
        Discriminator(text_or_list),
        Field(description="a text, or items, framed by the checkpoint's chat template"),
    ]
    instructions: Annotated[str | None, Field(description="a system message before all others; not carried on")] = None
    previous_response_id: Annotated[
        str | None, Field(max_length=256, description="a stored response to go on from")
    ] = None
    tools: Annotated[Tools | None, Field(description="functions that the model may call")] = None
    tool_choice: Annotated[ChosenTools | None, Field(description="whether it calls, and which")] = None
    parallel_tool_calls: Annotated[bool | None, Field(description="whether it may call several at once")] = None
    text: Annotated[TextConfig | None, Field(description="how a text is to look")] = None
    reasoning: Annotated[ReasoningConfig | None, Field(description="how the model is to think")] = None
    truncation: Annotated[Literal["disabled"] | None, Field(description="too long a prompt is refused")] = None

    @field_validator("tool_choice")
    @classmethod
    def _chooses_among_tools(cls, value: ChosenTools | None, so_far: ValidationInfo) -> ChosenTools | None:
        if "tools" in so_far.data:
            chosen(value, so_far.data["tools"] or ())
        return value

    @property
    def items(self) -> list[dict[str, Any]]:
        """The input as items, each with an id, as they are told again."""
        if isinstance(self.input, str):
            return [told_item({"role": "user", "content": self.input})]
        return [told_item(item.model_dump(exclude_none=True)) for item in self.input]

    def conversation(self, told: Sequence[Mapping[str, Any]]) -> Conversation:
        """What the model goes on from: `items`, after those of a previous response.

        InvalidRequest: a result of no call; a previous response that cannot be gone on from.
        """
        try:
            items = _ITEMS.validate_python(told)
        except ValidationError:
            text = f"what it says cannot be gone on from: more than {ITEMS_MAX} items, or a call that was cut"
            raise refusal("previous_response_id", text) from None
        messages = conversed(self.instructions, items)
        if (lost := unanswered(messages)) is not None:
            raise refusal("input", f"no function_call before it has the call_id {lost[:64]}")
        tools = self.tools or ()
        return Conversation(
            messages=messages,
            tools=[one.tool() for one in tools],
            choice=chosen(self.tool_choice, tools),
            parallel_calls=self.parallel_tool_calls is not False,
            options=self._effort or None,
        )

    @property
    def _effort(self) -> dict[str, Option]:
        effort = self.reasoning.effort if self.reasoning else None
        return {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}


class ResponseBody(InputTokensBody):
    """POST /v1/responses."""

    not_served = refused.RESPONSES

    store: Annotated[bool | None, Field(description="whether it can be asked for again; true")] = None
    background: Annotated[bool | None, Field(description="it goes on by itself; only when stored")] = None
    stream: Annotated[bool | None, Field(description="the answer as server-sent events")] = None
    stream_options: Annotated[StreamOptions | None, Field(description="only with stream")] = None
    max_output_tokens: Annotated[
        TokenCount | None, Field(description="the most tokens of an answer, thoughts too; as many as fit")
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="1; 0 takes the likeliest token")] = None
    top_p: Annotated[float | None, Field(ge=SMALL, le=1, description="the likeliest tokens that have this share")] = (
        None
    )
    top_k: Annotated[int | None, Field(ge=-1, lt=2**31, description="as in chat; so are the next six")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    stop: Stops | None = None
    ignore_eos: bool | None = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=TOP_LOGPROBS_MAX, description="so many of the likeliest at each place")
    ] = None
    include: Annotated[
        list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]] | None,
        Field(max_length=16, description="logprobs; thoughts are told openly whether asked for or not"),
    ] = None
    service_tier: Annotated[Literal["auto", "default"] | None, Field(description="all are served alike")] = None
    metadata: Annotated[Metadata | None, Field(description="told with the response")] = None
    user: Annotated[Label | None, Ignored(_LABEL)] = None
    safety_identifier: Annotated[Label | None, Ignored(_LABEL)] = None
    prompt_cache_key: Annotated[Label | None, Ignored("prefixes are found by their tokens, whoever sends them")] = None

    @field_validator("stream_options")
    @classmethod
    def _stream_options_need_a_stream(cls, value: StreamOptions | None, so_far: ValidationInfo) -> StreamOptions | None:
        if value is not None and not so_far.data.get("stream"):
            raise ValueError("only allowed when stream is true")
        return value

    @field_validator("background")
    @classmethod
    def _background_needs_a_store(cls, value: bool | None, so_far: ValidationInfo) -> bool | None:
        if value and so_far.data.get("store") is False:
            raise ValueError("only allowed when it is stored")
        return value

    @property
    def alternatives(self) -> int | None:
        """How many tokens are told for each place besides the one that was said; None when not even that is."""
        wanted = LOGPROBS in (self.include or ()) or self.top_logprobs
        return (self.top_logprobs or 0) if wanted else None

    @property
    def sampling(self) -> SamplingFields:
        """How tokens are drawn, in the words of all protocols."""
        names = SamplingFields.model_fields.keys() & type(self).model_fields.keys()
        return SamplingFields(**{name: getattr(self, name) for name in names})

    @property
    def _format(self) -> dict[str, Any]:
        chosen_format = self.text.format if self.text else None
        return {"type": "text"} if chosen_format is None else chosen_format.model_dump(by_alias=True)

    @property
    def constraint(self) -> Constraint | None:
        """What the answer must look like; None: anything."""
        return self.text.constraint if self.text else None

    @property
    def echo(self) -> dict[str, Any]:
        """What a response tells of what was asked."""
        choice = self.tool_choice
        return {
            "background": bool(self.background),
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": None,
            "metadata": self.metadata or {},
            "model": self.model,
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": {"effort": self.reasoning.effort if self.reasoning else None, "summary": None},
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {"format": self._format},
            "tool_choice": choice.model_dump() if isinstance(choice, Strict) else choice or "auto",
            "tools": [tool.model_dump() for tool in self.tools or ()],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": "disabled",
            "user": self.user,
        }


_PREFIX = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}


def told_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is listed: with an id, and its content in parts."""
    kind = item.setdefault("type", "message")
    item.setdefault("id", f"{_PREFIX[kind]}_{secrets.token_hex(16)}")
    if kind == "message" and isinstance(item["content"], str):
        said = item["role"] == "assistant"
        item["content"] = [{"type": "output_text" if said else "input_text", "text": item["content"]}]
    if kind == "message":
        item.setdefault("status", "completed")
        for part in item["content"]:
            if part["type"] == "output_text":
                part.setdefault("annotations", [])
    if kind == "reasoning":
        item.setdefault("summary", [])
    return item


def parse_input_tokens(body: bytes) -> InputTokensBody:
    """Read a request for the number of tokens that a response would go on from. InvalidRequest as `parse_response`."""
    return parse(body, InputTokensBody)


def parse_response(body: bytes) -> ResponseBody:
    """Read a request for a response. InvalidRequest names the first wrong field."""
    return parse(body, ResponseBody)


def unstored(body: InputTokensBody) -> InvalidRequest | None:
    """What is wrong with a body where nothing is stored; None when it asks for nothing stored."""
    for name in ("store", "background", "previous_response_id"):
        if getattr(body, name, None):
            return refusal(name, "not supported by this server: answers are not kept here")
    return None
