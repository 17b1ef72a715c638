"""The Responses API's answers as golden files have them, event by event; they are read as those of chat are."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from http_house import TEMPLATE, House
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from test_http_golden import THINKING, parts, played, written

FILES = sorted((Path(__file__).parent / "golden" / "responses").glob("*.txt"))
STREAMS = [path for path in FILES if parts(path)[1].get("stream")]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_ID = re.compile(r"\b(resp|msg|rs|fc|call)_[0-9a-zA-Z]{16,}")
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def answers(path: Path) -> list[dict[str, Any]]:
    """What came, event by event; a whole answer is one."""
    return [json.loads(event.rpartition("data: ")[2]) for event in parts(path)[3].strip().split("\n\n")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_an_answer_is_its_golden_file_byte_for_byte(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aruntime.http.responses.time.time", lambda: 1_700_000_000)
    house = House(tmp_path, context=2000, template=THINKING if "thought" in path.stem else TEMPLATE)
    ids: dict[str, str] = {}
    told = _ID.sub(lambda at: ids.setdefault(at[0], f"{at[1]}_{len(ids) + 1}"), await played(house, path))
    house.close()
    assert told == written(path, told)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_event_is_valid_against_the_sdk_s_types(path: Path) -> None:
    for event in answers(path):
        if path in STREAMS:
            EVENT.validate_python(event)
        else:
            Response.model_validate(event)


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_the_order_of_events_is_openai_s(path: Path) -> None:
    events = answers(path)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert [kind in _ENDS for kind in kinds] == [False] * (len(kinds) - 1) + [True]
    output = events[-1]["response"]["output"]
    for place, item in enumerate(output):
        mine = [event for event in events if event.get("output_index") == place]
        assert mine[0]["type"] == "response.output_item.added"
        assert mine[-1] == {**mine[-1], "type": "response.output_item.done", "item": item}
        said = "".join(event["delta"] for event in mine if event["type"].endswith(".delta"))
        assert said == (item["arguments"] if item["type"] == "function_call" else item["content"][0]["text"])
