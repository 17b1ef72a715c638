"""What is told before a token: alternatives to it, and the prompt's own tokens."""

from array import array
from dataclasses import replace

import pytest
from admission_house import House, rest

from aruntime.admission.ask import Sampling
from aruntime.admission.limits import RouteLimits, check_size
from aruntime.admission.ticket import Scored
from aruntime.base.errors import InvalidRequest
from aruntime.queue.records import FinishReason, RecordKind

ALTERNATIVE, PROMPT_TOKEN = RecordKind.ALTERNATIVE, RecordKind.PROMPT_TOKEN


async def test_alternatives_belong_to_the_token_after_them_and_the_prompt_comes_with_the_first(house: House) -> None:
    ticket = house.admit(top_logprobs=2, prompt_logprobs=True, max_tokens=2)
    at = house.engine.submitted[0]
    house.engine.channel.send(
        [
            (*at, 2, 0, 0, 0, -0.1, ALTERNATIVE),
            (*at, 9, 0, 0, 0, -0.2, ALTERNATIVE),
            (*at, 2, 1, 0, 0, -0.1, PROMPT_TOKEN),
            (*at, 3, 2, 0, 0, -4.0, PROMPT_TOKEN),
            (*at, 7, 0, 0, 0, -0.3, ALTERNATIVE),
            (*at, 7, 0, 0, 0, -0.3),
            (*at, 8, 1, FinishReason.LENGTH, 0, -0.4),
        ]
    )
    house.engine.channel.ring_bell()
    (output,) = await rest(ticket)
    assert output.token_ids == [7, 8]
    assert output.alternatives == [[(7, pytest.approx(-0.3))], []]
    first, second = output.prompt
    assert first == Scored(2, pytest.approx(-0.1), [(2, pytest.approx(-0.1)), (9, pytest.approx(-0.2))])
    assert second == Scored(3, -4.0, [])


async def test_an_answer_that_ends_before_its_first_token_still_tells_the_prompt(house: House) -> None:
    ticket = house.admit(prompt_logprobs=True)
    at = house.engine.submitted[0]
    house.engine.channel.send([(*at, 2, 1, 0, 0, -0.5, PROMPT_TOKEN), (*at, -1, 0, FinishReason.STOP, 0, 0.0)])
    house.engine.channel.ring_bell()
    (output,) = await rest(ticket)
    assert (output.token_ids, output.prompt) == ([], [Scored(2, -0.5, [])])


async def test_an_engine_that_tells_alternatives_without_end_fills_nothing(house: House) -> None:
    ticket = house.admit()
    at = house.engine.submitted[0]
    house.engine.channel.send([(*at, 1, 0, 0, 0, -1.0, ALTERNATIVE)] * 50 + [(*at, 1, 0, FinishReason.LENGTH, 0, -1.0)])
    house.engine.channel.ring_bell()
    (output,) = await rest(ticket)
    assert len(output.alternatives[0]) == 20


async def test_what_to_say_and_not_to_say_reaches_the_engine(house: House) -> None:
    sampling = Sampling(logit_bias=((4, -1.0),), bad_words=((5, 6),), grammar="g")
    house.door.admit(house.route, house.ask(sampling=sampling, top_logprobs=3, prompt_logprobs=True))
    message = house.engine.channel.receive()
    assert message is not None
    head = message[4]
    assert head["payload"] == sampling.steering.payload  # type: ignore[index]
    told = {name: head[name] for name in (*sampling.steering._fields[:4], "top_logprobs", "prompt_logprobs")}  # type: ignore[index]
    assert list(told.values()) == [1, 1, 2, 1, 3, True]


@pytest.mark.parametrize(
    ("sampling", "param"),
    [
        (Sampling(logit_bias=((50, 1.0),)), "logit_bias"),
        (Sampling(logit_bias=((1, 1.0), (1, 2.0))), "logit_bias"),
        (Sampling(logit_bias=tuple((token, 1.0) for token in range(301))), "logit_bias"),
        (Sampling(bad_words=((1,),) * 257), "bad_words"),
        (Sampling(bad_words=((1,) * 513, (2,) * 512)), "bad_words"),
        (Sampling(grammar="x" * (1 << 18) + "x"), None),
    ],
)
async def test_more_than_an_engine_takes_is_the_request_s_fault(house: House, sampling: Sampling, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        house.admit(sampling=sampling)
    assert error.value.param == param


async def test_a_payload_counts_in_the_cells_of_a_request(house: House) -> None:
    house.route.check_size(house.ask(sampling=Sampling(grammar="x" * 64 * 250)), shared=False)
    with pytest.raises(InvalidRequest):
        house.route.check_size(house.ask(sampling=Sampling(grammar="x" * 64 * 251)), shared=False)


def test_more_logprobs_of_a_prompt_than_one_request_may_have_are_refused(house: House) -> None:
    limits = RouteLimits(sequences_max=2, waiting_max=2, context_max=1 << 17, vocab=50)
    most = house.ask(prompts=[array("i", [1] * 3120)], prompt_logprobs=True, top_logprobs=20)
    check_size(most, limits, 1 << 14)
    for more in (replace(most, n=2), replace(most, prompts=[array("i", [1] * 3121)])):
        with pytest.raises(InvalidRequest, match="logprobs of prompts") as error:
            check_size(more, limits, 1 << 14)
        assert error.value.param == "logprobs"
    check_size(replace(most, n=2, prompt_logprobs=False), limits, 1 << 14)
