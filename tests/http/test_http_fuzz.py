"""No body is a server's fault or hangs, and every answer is whole. bench/fuzz.py does the same 100,000 times."""

import asyncio

from http_bodies import Answer, Asked, asked, judge
from http_house import House
from hypothesis import HealthCheck, given, settings


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(ask=asked())
async def test_no_body_is_a_server_error_and_every_answer_is_whole(kept_house: House, ask: Asked) -> None:
    engine = asyncio.create_task(kept_house.answer_all(ask.said))
    answer = await kept_house.client(ask.path, ask.body).done()
    judge(Answer(answer.status, answer.headers, answer.body))
    engine.cancel()
