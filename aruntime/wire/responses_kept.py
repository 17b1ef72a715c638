"""What is asked of responses that are kept, in the query of a GET: the response or its events, and its input items."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import Field

from aruntime.wire.body import NotServed, Strict, check, refusal

ITEMS_PAGE = 100  # OpenAI's
_NUMBER_MAX = 1 << 31
_INCLUDE = NotServed("a response is told as it was asked for")


class ShowQuery(Strict):
    """GET /v1/responses/{id}."""

    not_served = {  # noqa: RUF012
        "include": _INCLUDE,
        "include_obfuscation": NotServed("events are not padded", "false"),
    }

    stream: Annotated[bool, Field(strict=False, description="its events instead, and on as they come")] = False
    starting_after: Annotated[
        int,
        Field(strict=False, ge=0, lt=_NUMBER_MAX, description="the last event that is known; the header Last-Event-ID"),
    ] = -1


class ItemsQuery(Strict):
    """GET /v1/responses/{id}/input_items."""

    not_served = {"include": _INCLUDE}  # noqa: RUF012

    limit: Annotated[int, Field(strict=False, ge=1, le=ITEMS_PAGE, description="items of one page; 20")] = 20
    order: Annotated[Literal["asc", "desc"], Field(description="desc, unless it says otherwise")] = "desc"
    after: Annotated[str, Field(max_length=256, description="the id of the item before the page")] = ""


Query = TypeVar("Query", bound=Strict)


def parse_query(pairs: Iterable[tuple[str, str]], model: type[Query]) -> Query:
    """Read a query; the last word on a field counts. InvalidRequest names the first wrong one."""
    return check({name.removesuffix("[]"): value for name, value in pairs}, model)


def page(items: bytes, query: ItemsQuery) -> bytes:
    """A page of a response's items. InvalidRequest: no item has the id that it is to come after."""
    listed: list[dict[str, Any]] = orjson.loads(items)
    if query.order == "desc":
        listed.reverse()
    if query.after:
        place = next((place for place, item in enumerate(listed) if item["id"] == query.after), None)
        if place is None:
            raise refusal("after", "no item has this id")
        listed = listed[place + 1 :]
    told = listed[: query.limit]
    first, last = (told[0]["id"], told[-1]["id"]) if told else (None, None)
    return orjson.dumps(
        {"object": "list", "data": told, "first_id": first, "last_id": last, "has_more": len(listed) > len(told)}
    )


def deleted(id_: str) -> bytes:
    """What is told of a response that was forgotten."""
    return orjson.dumps({"id": id_, "object": "response", "deleted": True})


def input_tokens(count: int) -> bytes:
    """How many tokens a response would go on from."""
    return orjson.dumps({"object": "response.input_tokens", "input_tokens": count})
