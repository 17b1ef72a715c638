"""/admin/*: what arrives at the supervisor, and what operators are told. The supervisor is played by the test."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
from http_house import Client, House
from http_operators import Operators

from aruntime.base.errors import ServingError, error_of
from aruntime.http.admin import ROUTES
from aruntime.http.app import build_app
from aruntime.http.limits import HttpLimits
from aruntime.wire import actions
from aruntime.wire.actions import Action

LOCAL = ("host", "localhost")
JSON = ("content-type", "application/json")


@pytest.fixture
def operators() -> Operators:
    return Operators()


class Desk:
    """Sends requests to the admin application of a house."""

    def __init__(self, house: House, operators: Operators) -> None:
        self.house, self.operators = house, operators
        self.app = build_app(house.view, commands=operators.commands)

    def ask(self, method: str, path: str, body: object = b"", *headers: tuple[str, str], query: str = "") -> Client:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Client(self.app, path, data, [LOCAL, *(headers or [JSON])], method, query=query)

    async def refused(self, *arguments: Any, **more: Any) -> tuple[int, str, str | None]:
        """Status, code and field of a request that never reaches the supervisor."""
        reply = await self.ask(*arguments, **more).done()
        assert self.operators.arrived.empty()
        assert set(reply.json["error"]) == {"message", "type", "param", "code"}
        return reply.status, reply.json["error"]["code"], reply.json["error"]["param"]


@pytest.fixture
def desk(house: House, operators: Operators) -> Desk:
    return Desk(house, operators)


@pytest.mark.parametrize(
    ("method", "path", "body", "action"),
    [
        ("GET", "/admin/models", b"", actions.Show()),
        ("GET", "/admin/models/demo", b"", actions.Show(model="demo")),
        ("POST", "/admin/models/demo/load", b"", actions.LoadVersion(model="demo")),
        ("POST", "/admin/models/demo/load", {}, actions.LoadVersion(model="demo")),
        ("POST", "/admin/models/demo/load", {"version": 3}, actions.LoadVersion(model="demo", version=3)),
        ("POST", "/admin/models/demo/unload", b"", actions.UnloadVersion(model="demo")),
        ("POST", "/admin/models/demo/unload", {"version": 3}, actions.UnloadVersion(model="demo", version=3)),
        ("POST", "/admin/models/load/unload", b"", actions.UnloadVersion(model="load")),
        ("POST", "/admin/models/demo/release", {"version": 3}, actions.ReleaseVersion(model="demo", version=3)),
        (
            "PUT",
            "/admin/models/demo/labels/new",
            {"version": 3},
            actions.SetLabel(model="demo", label="new", version=3),
        ),
        ("DELETE", "/admin/models/demo/labels/new", b"", actions.DropLabel(model="demo", label="new")),
        ("POST", "/admin/models/demo/rollout", {"version": 3}, actions.BeginRollout(model="demo", version=3)),
        ("POST", "/admin/models/demo/rollout/pause", b"", actions.SteerRollout(model="demo", to="pause")),
        ("POST", "/admin/models/demo/rollout/resume", b"", actions.SteerRollout(model="demo", to="resume")),
        ("POST", "/admin/models/demo/rollout/promote", b"", actions.SteerRollout(model="demo", to="promote")),
        ("POST", "/admin/models/demo/rollout/roll-back", b"", actions.SteerRollout(model="demo", to="roll-back")),
        ("GET", "/admin/audit", b"", actions.ReadAudit()),
        ("GET", "/admin/audit?limit=5&before=9", b"", actions.ReadAudit(limit=5, before=9)),
    ],
)
async def test_each_path_is_its_action_and_its_outcome_is_the_answer(
    desk: Desk, method: str, path: str, body: object, action: Action
) -> None:
    path, _, query = path.partition("?")
    client = desk.ask(method, path, body, JSON, ("x-request-id", "ours-1"), query=query)
    act, arrived = await desk.operators.next()
    assert arrived == action
    assert (act.actor, act.request_id) == ("local", "ours-1")
    assert not client.sent  # it is answered when it is done
    desk.operators.done(act, {"so": "it is"})
    assert (await client.done()).status == 200
    assert client.json == {"so": "it is"}
    assert client.headers["content-type"] == "application/json"
    assert client.headers["x-request-id"] == "ours-1"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_request_error", 400),
        ("permission_denied", 403),
        ("model_not_found", 404),
        ("model_error", 500),
        ("overloaded", 503),
        ("model_not_ready", 503),
        ("draining", 503),
        ("a_word_of_a_later_server", 500),
    ],
)
async def test_why_it_was_not_done_is_told_with_the_status_of_the_one_table(desk: Desk, code: str, status: int) -> None:
    client = desk.ask("POST", "/admin/models/demo/load")
    act, _ = await desk.operators.next()
    desk.operators.refuse(act, code, "it has no weights", "version")
    reply = await client.done()
    known: ServingError = error_of(code, "")
    assert (reply.status, known.status) == (status, status)
    assert reply.json["error"] == {
        "message": "it has no weights", "type": known.type, "param": "version", "code": known.code
    }  # fmt: skip


LOAD, LABEL, ROLLOUT = "/admin/models/demo/load", "/admin/models/demo/labels/new", "/admin/models/demo/rollout"


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "/admin/models/Bad", b"", "model"),
        ("POST", "/admin/models/-x/load", b"", "model"),
        ("POST", LOAD, {"version": 0}, "version"),
        ("POST", LOAD, {"version": "3"}, "version"),
        ("POST", LOAD, {"version": 3.0}, "version"),
        ("POST", LOAD, {"version": True}, "version"),
        ("POST", LOAD, {"version": 1_000_000_000}, "version"),
        ("POST", LOAD, {"version": 1 << 80}, "version"),
        ("POST", LOAD, {"versoin": 3}, "versoin"),
        ("POST", "/admin/models/demo/release", b"", "version"),
        ("PUT", LABEL, b"", "version"),
        ("PUT", "/admin/models/demo/labels/NEW", {"version": 3}, "label"),
        ("DELETE", "/admin/models/demo/labels/@", b"", "label"),
        ("POST", ROLLOUT, {}, "version"),
        ("POST", ROLLOUT, {"version": 3, "steps": [1]}, "steps"),
        ("POST", f"{ROLLOUT}/stop", b"", "to"),
        ("POST", LOAD, b"[3]", None),
        ("POST", LOAD, b"{", None),
        ("POST", LOAD, b"[" * 5000, None),
        ("POST", LOAD, b'{"version": NaN}', None),
        ("POST", LOAD, b'"\xff"', None),
    ],
)
async def test_the_first_wrong_field_is_named_before_anybody_hears_of_it(
    desk: Desk, method: str, path: str, body: object, field: str | None
) -> None:
    assert await desk.refused(method, path, body) == (400, "invalid_request_error", field)


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        (LOAD, {"model": "other"}, "model"),
        (LOAD, {"kind": "unload"}, "kind"),
        (LABEL, {"version": 3, "label": "stable"}, "label"),
        (ROLLOUT, {"version": 3, "model": "demo"}, "model"),
    ],
)
async def test_a_body_does_not_speak_of_what_the_path_says(
    desk: Desk, path: str, fields: dict[str, object], field: str
) -> None:
    method = "PUT" if path == LABEL else "POST"
    assert await desk.refused(method, path, fields) == (400, "invalid_request_error", field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=%D9%A3", "limit"),
        (f"limit={'9' * 4000}", "limit"),
        ("before=0", "before"),
        ("page=2", "page"),
        ("kind=3", "kind"),
    ],
)
async def test_the_audit_trail_is_asked_for_in_numbers(desk: Desk, query: str, field: str) -> None:
    assert await desk.refused("GET", "/admin/audit", query=query) == (400, "invalid_request_error", field)


async def test_a_body_that_is_not_said_to_be_json_is_no_empty_one(desk: Desk) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        refused = await desk.refused("POST", LOAD, {"version": 3}, ("content-type", kind))
        assert refused == (415, "unsupported_media_type", None)
    assert (await desk.refused("POST", LOAD, {"version": 3}, ("accept", "*/*")))[0] == 415


async def test_a_body_has_the_limits_of_every_other(house: House, operators: Operators) -> None:
    desk = Desk(house, operators)
    desk.app = build_app(house.view, commands=operators.commands, limits=HttpLimits(body_bytes_max=64))
    assert (await desk.refused("POST", LOAD, b" " * 65))[:2] == (413, "request_too_large")


async def test_a_path_takes_its_methods_only(desk: Desk) -> None:
    for route in ROUTES:
        path = route.path.replace("{model}", "demo").replace("{label}", "new").replace("{to}", "pause")
        allowed = {method for one in ROUTES if one.path == route.path for method in one.methods or ()}
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"} - allowed:
            assert await desk.refused(method, path) == (405, "method_not_allowed", None)


@pytest.mark.parametrize(
    "path",
    [
        "/admin",
        "/admin/",
        "/admin/models/",
        "/admin/models/demo/",
        "/admin/models/demo/drain",
        "/admin/models//load",
        "/admin/models/demo/load/3",
        "/admin/models/a/b/load",
        "/admin/models/demo/rollout/",
        "/ADMIN/models",
    ],
)
async def test_there_is_nothing_beside_these_paths(desk: Desk, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (await desk.refused(method, path))[0] == 404


async def test_the_public_listener_has_none_of_it(house: House) -> None:
    app = build_app(house.view)
    for route in ROUTES:
        for method in route.methods or ():
            reply = await Client(app, route.path.replace("{model}", "demo"), b"", [LOCAL], method).done()
            assert (reply.status, reply.json["error"]["code"]) == (404, "not_found")


async def test_with_an_admin_key_only_who_brings_it_acts_and_it_is_him(desk: Desk) -> None:
    desk.house.view.registry.replace(None, [hashlib.sha256(b"art-admin").digest()])
    for headers in ([], [("authorization", "Bearer art-other")]):
        for route in ROUTES:
            for method in route.methods or ():
                refused = await desk.refused(method, route.path.replace("{model}", "demo"), b"", JSON, *headers)
                assert refused == (401, "invalid_api_key", None)
    client = desk.ask("POST", LOAD, b"", ("authorization", "Bearer art-admin"))
    act, _ = await desk.operators.next()
    assert act.actor == "admin"
    desk.operators.done(act, {})
    assert (await client.done()).status == 200


async def test_an_action_goes_on_when_its_client_leaves(desk: Desk) -> None:
    client = desk.ask("POST", LOAD)
    act, _ = await desk.operators.next()
    client.leave()
    await asyncio.sleep(0.01)
    assert not client.task.done()
    assert desk.operators.arrived.empty()  # nothing takes it back
    desk.operators.done(act, {})
    await client.done()


async def test_answers_find_the_requests_they_belong_to(desk: Desk) -> None:
    clients = [desk.ask("POST", LOAD, {"version": number}) for number in (1, 2, 3)]
    acts = {action.version: act for act, action in [await desk.operators.next() for _ in clients]}  # type: ignore[union-attr]
    for number in (2, 3, 1):
        desk.operators.done(acts[number], {"version": number})
    assert [(await client.done()).json["version"] for client in clients] == [1, 2, 3]


async def test_what_waits_when_the_supervisor_ends_is_answered_and_nothing_waits_then(desk: Desk) -> None:
    client = desk.ask("POST", LOAD)
    await desk.operators.next()
    desk.operators.commands.lost()
    assert ((await client.done()).status, client.headers["retry-after"]) == (503, "1")
    assert (await desk.refused("POST", LOAD))[:2] == (503, "overloaded")
