"""schemathesis, with the document that the server gives: answers are as it says, and what it forbids is refused."""

import asyncio
import json
from typing import Any

import httpx2
import pytest
import schemathesis
from http_bodies import WAITED_FOR
from http_house import House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode, checks

from aruntime.wire.openapi import document

SCHEMA = schemathesis.openapi.from_dict(json.loads(document()))
CHECKS: Any = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]


async def ask(house: House, case: Any) -> httpx2.Response:
    sent = case.as_transport_kwargs("http://localhost")
    body = {"content": sent["data"]} if isinstance(sent.get("data"), bytes) else {"json": sent.get("json")}
    headers = [
        (name.encode("latin-1"), str(value).encode("latin-1", "replace")) for name, value in sent["headers"].items()
    ]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(house.app)) as client:
        return await asyncio.wait_for(
            client.request(sent["method"], sent["url"], params=sent.get("params"), headers=headers, **body), 5
        )


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_answers_are_as_the_document_says(kept_house: House, mode: GenerationMode, data: st.DataObject) -> None:
    case = data.draw(SCHEMA.as_strategy(generation_mode=mode))
    if isinstance(case.body, dict) and data.draw(st.booleans()):
        case.body["model"] = "demo"
    engine = asyncio.create_task(kept_house.answer_all("yes"))
    response = await ask(kept_house, case)
    engine.cancel()
    assert response.status_code < 500 or response.json()["error"]["code"] in WAITED_FOR
    case.validate_response(response, checks=CHECKS)
