"""No parameter of the Responses API that the openai package knows is left out: served, ignored or refused."""

from typing import Any

import pytest
from openai.types import responses
from openai.types.responses import response_create_params, response_retrieve_params
from openai.types.responses.response_input_item_param import FunctionCallOutput
from openai.types.shared_params import Reasoning

from aruntime.wire.reference import rows
from aruntime.wire.responses import InputTokensBody, ReasoningConfig, ResponseBody, StreamOptions, TextConfig
from aruntime.wire.responses_items import (
    AllowedTools,
    CallItem,
    FunctionChoice,
    FunctionTool,
    MessageItem,
    Part,
    ReasoningItem,
    ResultItem,
)
from aruntime.wire.responses_kept import ItemsQuery, ShowQuery


@pytest.mark.parametrize(
    ("ours", "documented"),
    [
        (ResponseBody, response_create_params.ResponseCreateParamsStreaming),
        (ResponseBody, response_create_params.ResponseCreateParamsNonStreaming),
        (InputTokensBody, responses.InputTokenCountParams),
        (ShowQuery, response_retrieve_params.ResponseRetrieveParamsStreaming),
        (ItemsQuery, responses.input_item_list_params.InputItemListParams),
        (StreamOptions, response_create_params.StreamOptions),
        (TextConfig, responses.ResponseTextConfigParam),
        (ReasoningConfig, Reasoning),
        (MessageItem, responses.EasyInputMessageParam),
        (MessageItem, responses.ResponseOutputMessageParam),
        (Part, responses.ResponseInputTextParam),
        (Part, responses.ResponseOutputTextParam),
        (ReasoningItem, responses.ResponseReasoningItemParam),
        (CallItem, responses.ResponseFunctionToolCallParam),
        (ResultItem, FunctionCallOutput),
        (FunctionTool, responses.FunctionToolParam),
        (FunctionChoice, responses.ToolChoiceFunctionParam),
        (AllowedTools, responses.ToolChoiceAllowedParam),
    ],
)
def test_no_parameter_is_missing(ours: Any, documented: Any) -> None:
    names = {name for one in documented.__mro__ for name in getattr(one, "__annotations__", {})}
    assert names - {row.field for row in rows(ours)} == set()


@pytest.mark.parametrize("body", [ResponseBody, InputTokensBody])
def test_every_field_says_what_it_does_or_why_not(body: Any) -> None:
    unsaid = {row.field for row in rows(body) if "." not in row.field and not row.note}
    assert unsaid <= {"min_p", "presence_penalty", "frequency_penalty", "seed", "stop", "ignore_eos"}
