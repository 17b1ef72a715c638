"""Whole answers and streams as golden files have them: what is asked, what the engine says, and the bytes that come.

A file without an answer is given one, and the test fails: read it.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_house import TEMPLATE, House
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from aruntime.queue.records import FinishReason

FILES = sorted((Path(__file__).parent / "golden").glob("*.txt"))
LINE = "----\n"
THINKING = TEMPLATE + "{# </think> #}"
_CALL_ID = re.compile(r'"call_\w+"')


def parts(path: Path) -> tuple[str, dict[str, Any], list[str], str]:
    """The path and the body of a request, the lines of an engine, and the answer."""
    asked, _, answer = path.read_text().partition(LINE)
    _, request, said = asked.strip().split("\n\n")
    target, body = request.split("\n", 1)
    return target.removeprefix("POST "), json.loads(body), said.split("\n"), answer


def answers(path: Path) -> list[dict[str, Any]]:
    """What came, event by event; a whole answer is one."""
    lines = parts(path)[3].removesuffix("data: [DONE]\n\n").strip().split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def written(path: Path, told: str) -> str:
    """The answer that a file has. One that has none is given what was told, and has none yet."""
    answer = parts(path)[3]
    if not answer:
        path.write_text(f"{path.read_text().rstrip()}\n{LINE}{told}")
    return answer


async def played(house: House, path: Path) -> str:
    target, body, said, _ = parts(path)
    asks = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in target else {"prompt": "hi"}
    if "responses" in target:
        asks = {"input": "hi"}
    client = house.client(target, {"model": "demo", **asks, **body}, {"x-request-id": "r1"})
    prompts = len(body["prompt"]) if isinstance(body.get("prompt"), list) else 1
    ids = {house.tokenizer.spell(token)[0]: token for token in range(256)}
    asked = [await house.submitted() for _ in range(prompts * body.get("n", 1))]
    untold = {choice: head["prompt"] if head["prompt_logprobs"] else [] for choice, (*_, head) in enumerate(asked)}
    for line in said:
        choice, said_now, finish = read_said(line)
        slot, generation, head = asked[choice]
        tokens = [ids[byte] for byte in (said_now.encode() if isinstance(said_now, str) else said_now)]
        house.score((slot, generation), tokens, finish, untold.pop(choice, []), head["top_logprobs"])
        await asyncio.sleep(0.01)
    return (await client.done()).body.decode()


def read_said(line: str) -> tuple[int, str | list[int], FinishReason]:
    """A choice, its tokens as a text or as bytes, and how it ends, if it does: `0 "text" STOP`."""
    choice, _, rest = line.partition(" ")
    if rest in FinishReason.__members__:
        return int(choice), [], FinishReason[rest]
    tokens, end = json.JSONDecoder().raw_decode(rest)
    return int(choice), tokens, FinishReason[rest[end:].strip() or "NONE"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_an_answer_is_its_golden_file_byte_for_byte(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aruntime.http.completions.time.time", lambda: 1_700_000_000)
    house = House(tmp_path, context=2000, template=THINKING if "thought" in path.stem else TEMPLATE)
    told = _CALL_ID.sub('"call_1"', await played(house, path))
    house.close()
    assert told == written(path, told)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_event_is_valid_against_the_sdk_s_types(path: Path) -> None:
    for event in answers(path):
        if "error" in event:
            assert set(event["error"]) == {"message", "type", "param", "code"}
        else:
            _kind(event).model_validate(_as_typed(event), strict=True)


@pytest.mark.parametrize("path", [path for path in FILES if parts(path)[1].get("stream")], ids=lambda path: path.stem)
def test_the_order_of_events_is_openai_s(path: Path) -> None:
    target, body, _, answer = parts(path)
    events = answers(path)
    failed = "error" in events[-1]
    assert answer.endswith("data: [DONE]\n\n") != failed
    wants_usage = body.get("stream_options", {}).get("include_usage", False)
    if wants_usage and not failed:
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["total_tokens"] > 0
    chunks = [event for event in events if event.get("choices")]
    assert all(("usage" in chunk) == wants_usage and chunk.get("usage") is None for chunk in chunks)
    assert "\ufffd" not in "".join(_texts(chunks))
    for choice in {chunk["choices"][0]["index"] for chunk in chunks}:
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice]
        if "chat" in target:
            assert ["role" in one["delta"] for one in mine] == [True] + [False] * (len(mine) - 1)
        ends = [one["finish_reason"] is not None for one in mine]
        assert ends == [False] * len(ends) if failed else ends == [False] * (len(ends) - 1) + [True]


def _texts(chunks: list[dict[str, Any]]) -> Iterator[str]:
    for chunk in chunks:
        choice = chunk["choices"][0]
        yield choice["text"] if "text" in choice else choice["delta"].get("content") or ""


def _kind(event: dict[str, Any]) -> Any:
    kinds: dict[str, Any] = {"chat.completion": ChatCompletion, "chat.completion.chunk": ChatCompletionChunk}
    return kinds.get(event["object"], Completion)


def _as_typed(event: dict[str, Any]) -> dict[str, Any]:
    """The SDK types completions as whole answers that have no prompt: null says "not yet", or "nothing foretold it"."""
    if event["object"] == "text_completion":
        for choice in event["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
            logprobs = choice["logprobs"] or {"token_logprobs": [], "top_logprobs": []}
            logprobs["token_logprobs"] = [0.0 if one is None else one for one in logprobs["token_logprobs"]]
            logprobs["top_logprobs"] = [one or {} for one in logprobs["top_logprobs"]]
    return event
