"""Who gets in: default deny on every route of both applications, whatever the path, the Host or the header says.

These tests also run under `python -O` (test_http_optimized.py): nothing of this may hang on an assert.
"""

import asyncio
import hashlib
import time
from typing import Any

import pytest
from http_house import COMMANDS, Client, House, demo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.routing import Route

from aruntime.admission.registry import KEY_BYTES_MAX, Registry
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.control.view import View
from aruntime.http import auth
from aruntime.http.app import build_app
from aruntime.http.edge import Edge
from aruntime.http.limits import HttpLimits
from aruntime.queue.records import FinishReason

ACME, UMBRELLA = Tenant(7, "acme"), Tenant(9, "umbrella")
ACME_KEY, UMBRELLA_KEY, ADMIN_KEY = "art-acme", "art-umbrella", "art-admin"
LOCAL = ("host", "localhost")


def sha256(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


@pytest.fixture
def guarded(house: House) -> House:
    """A house with two tenants and an admin key."""
    tenants = [(ACME, [sha256(ACME_KEY), sha256("art-acme-2")]), (UMBRELLA, [sha256(UMBRELLA_KEY)])]
    house.view.registry.replace(tenants, [sha256(ADMIN_KEY)])
    return house


async def get(house: House, path: str, *headers: tuple[str, str], admin: bool = False, **more: Any) -> Client:
    app = build_app(house.view, commands=COMMANDS if admin else None)
    method = more.pop("method", "GET")
    sent = [header for header in [LOCAL] if "host" not in dict(headers)]
    return await Client(app, path, b"", [*sent, *headers], method, **more).done()


def routes(view: View, *, admin: bool) -> list[Route]:
    app: Any = build_app(view, commands=COMMANDS if admin else None)
    while not hasattr(app, "routes"):
        app = app._app
    return list(app.routes)


@pytest.mark.parametrize("admin", [False, True])
async def test_every_route_but_liveness_asks_for_a_key(guarded: House, admin: bool) -> None:
    paths = [route.path.replace("{model:path}", "demo") for route in routes(guarded.view, admin=admin)]
    assert len(paths) >= 8
    paths = [path.replace("{model}", "demo").replace("{version}", "3") for path in paths]
    for path in [*paths, "/", "/nothing", "/admin/drain", "/v2/models/demo/infer"]:
        for method in ("GET", "POST", "HEAD", "OPTIONS", "BREW"):
            reply = await get(guarded, path, admin=admin, method=method)
            if path in auth.OPEN:
                assert reply.status in (200, 405)
                continue
            assert reply.status == 401, path
            if path.startswith("/v2"):
                assert list(reply.json) == ["error"]
                assert isinstance(reply.json["error"], str)
            else:
                assert reply.json["error"]["code"] == "invalid_api_key"
                assert set(reply.json["error"]) == {"message", "type", "param", "code"}
            assert reply.headers["www-authenticate"] == "Bearer"


async def test_who_has_no_key_is_told_before_the_body_has_come(guarded: House) -> None:
    client = guarded.chat(dict([bearer("wrong")]))
    client._incoming.get_nowait()
    await asyncio.wait_for(client.done(), 5)
    assert client.status == 401
    assert client.json["error"]["code"] == "invalid_api_key"


def test_only_liveness_is_open() -> None:
    assert {"/health/live", "/v2/health/live"} == auth.OPEN


@pytest.mark.parametrize(
    "path",
    [
        "//health/live",
        "/health/live/",
        "/health//live",
        "/v1/../health/live",
        "/health/live/../../v1/models",
        "/health/live/..%2f..%2fv1/models",
        "/health/%6cive",
        "/health/live%00",
        "/health/live;/v1/models",
        "/health/live?x",
        "/HEALTH/LIVE",
        "/health/live\n",
        "/v1/models#/health/live",
        "//v1/models",
        "/v1/models/%2e%2e/%2e%2e/health/live",
        "http://localhost/health/live",
        "*",
        "",
    ],
)
async def test_no_trick_with_the_path_gets_past(guarded: House, path: str) -> None:
    for admin in (False, True):
        assert (await get(guarded, path, admin=admin)).status == 401


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "health", "[::1]:8001", "acme"])
async def test_a_host_or_an_origin_does_not_change_the_decision(guarded: House, host: str) -> None:
    headers = [("host", host), ("origin", "http://localhost"), ("x-forwarded-for", "127.0.0.1"),
               ("x-forwarded-host", "localhost"), ("x-original-url", "/health/live")]  # fmt: skip
    assert (await get(guarded, "/v1/models", *headers)).status == 401
    assert (await get(guarded, "/v1/models", *headers, bearer(ACME_KEY))).status == 200


@pytest.mark.parametrize(
    "header",
    [
        bearer(ACME_KEY),
        bearer("art-acme-2"),
        ("authorization", f"bearer {ACME_KEY}"),
        ("authorization", f"BEARER   {ACME_KEY} "),
        ("api-key", ACME_KEY),
        ("x-api-key", ACME_KEY),
    ],
)
async def test_a_key_opens_in_each_form_that_clients_send(guarded: House, header: tuple[str, str]) -> None:
    assert (await get(guarded, "/v1/models", header)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [bearer("art-acm")],
        [bearer("art-acmee")],
        [bearer("ART-ACME")],
        [bearer("")],
        [bearer("x" * (KEY_BYTES_MAX + 1))],
        [bearer(sha256(ACME_KEY).hex())],
        [bearer(f"sha256:{sha256(ACME_KEY).hex()}")],
        [bearer(f"{ACME_KEY} {ACME_KEY}")],
        [bearer(f"{ACME_KEY},{UMBRELLA_KEY}")],
        [("authorization", ACME_KEY)],
        [("authorization", f"Basic {ACME_KEY}")],
        [("authorization", f"Bearer\t{ACME_KEY}")],
        [("authorization", "")],
        [("api-key", "")],
        [("api-key", f"Bearer {ACME_KEY}")],
        [("x-api-key", "")],
        [("cookie", f"authorization=Bearer {ACME_KEY}")],
        [bearer(ACME_KEY), bearer(ACME_KEY)],
        [bearer("wrong"), bearer(ACME_KEY)],
        [bearer(ACME_KEY), bearer("")],
        [bearer(ACME_KEY), ("api-key", ACME_KEY)],
        [("api-key", ACME_KEY), ("x-api-key", ACME_KEY)],
    ],
)
async def test_anything_but_one_key_that_is_known_is_401(guarded: House, headers: list[tuple[str, str]]) -> None:
    assert (await get(guarded, "/v1/models", *headers)).status == 401


async def test_the_two_listeners_keys_do_not_open_each_other(guarded: House) -> None:
    assert (await get(guarded, "/v1/models", bearer(ADMIN_KEY))).status == 401
    assert (await get(guarded, "/metrics", bearer(ACME_KEY), admin=True)).status == 401
    assert (await get(guarded, "/metrics", bearer(ADMIN_KEY), admin=True)).status == 200


async def test_a_request_is_the_tenant_s_whose_key_it_brings(guarded: House) -> None:
    client = guarded.chat(dict([bearer(UMBRELLA_KEY)]))
    *at, head = await guarded.submitted()
    guarded.say((at[0], at[1]), "x", FinishReason.STOP)
    assert (await client.done()).status == 200
    assert head["tenant"] == UMBRELLA.index


async def test_a_key_that_was_taken_away_is_unknown_at_the_next_request(guarded: House) -> None:
    guarded.view.registry.replace([(UMBRELLA, [sha256(UMBRELLA_KEY), sha256(ACME_KEY)])])
    assert guarded.view.registry.find(ACME_KEY.encode(), admin=False) is UMBRELLA
    guarded.view.registry.replace([])
    assert (await get(guarded, "/v1/models", bearer(ACME_KEY))).status == 401
    assert (await get(guarded, "/v1/models")).status == 401


def test_a_new_registry_lets_nobody_in() -> None:
    registry = Registry()
    assert registry.asks(admin=False)
    assert registry.asks(admin=True)
    assert registry.find(b"", admin=False) is None
    assert registry.find(b"", admin=True) is None


def test_an_admin_key_is_nobody_s() -> None:
    registry = Registry()
    registry.replace(None, [sha256(ADMIN_KEY)])
    assert not registry.asks(admin=False)
    assert registry.asks(admin=True)
    assert registry.find(ADMIN_KEY.encode(), admin=True) is NOBODY
    assert registry.find(ADMIN_KEY.encode(), admin=False) is None


def test_a_key_of_no_length_or_without_measure_is_nobody_s() -> None:
    registry = Registry()
    keys = {length: "k" * length for length in (0, 1, KEY_BYTES_MAX, KEY_BYTES_MAX + 1)}
    registry.replace([(ACME, [sha256(key) for key in keys.values()])])
    assert [registry.find(key.encode(), admin=False) for key in keys.values()] == [None, ACME, ACME, None]


def test_two_processes_mark_a_digest_differently() -> None:
    marks = []
    for registry in (Registry(), Registry()):
        registry.replace([(ACME, [sha256(ACME_KEY)])])
        marks += registry._holders[False]
    assert marks[0] != marks[1]
    assert sha256(ACME_KEY) not in marks


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=60))
async def test_no_header_is_a_server_error_or_a_key(guarded: House, value: bytes) -> None:
    reply = await get(guarded, "/v1/models", ("authorization", value.decode("latin-1")))
    assert reply.status == 401


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("address", ["10.0.0.5", "192.168.1.2", "fe80::1", "2001:db8::1", "0.0.0.0", "unix", ""])
async def test_without_keys_only_this_machine_is_answered(house: House, address: str, admin: bool) -> None:
    for server in ((address, 8000), None):
        reply = await get(house, "/v1/models", server=server, admin=admin)
        assert (reply.status, reply.json["error"]["code"]) == (403, "permission_denied")
        assert (await get(house, "/health/live", server=server, admin=admin)).status == 200


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
async def test_without_keys_this_machine_is_answered(house: House, address: str, admin: bool) -> None:
    for host in ("localhost", "LOCALHOST:8001", "127.0.0.1:8001", "[::1]:8001", "[::1]"):
        for origin in ([], [("origin", f"http://{host}")]):
            reply = await get(house, "/v1/models", ("host", host), *origin, server=(address, 8001), admin=admin)
            assert reply.status == 200


@pytest.mark.parametrize("admin", [False, True])
@pytest.mark.parametrize(
    "header",
    [
        ("host", "evil.example"),
        ("host", "evil.example:8001"),
        ("host", "localhost.evil.example"),
        ("host", "127.0.0.1.evil.example"),
        ("host", "10.0.0.1"),
        ("host", "2130706433"),
        ("host", "[::2]:8001"),
        ("origin", "http://evil.example"),
        ("origin", "https://localhost.evil.example:8001"),
        ("origin", "http://localhost@evil.example"),
        ("origin", "null"),
        ("origin", ""),
        ("origin", "localhost"),
    ],
)
async def test_without_keys_a_page_of_elsewhere_is_refused(house: House, header: tuple[str, str], admin: bool) -> None:
    reply = await get(house, "/v1/models", header, admin=admin)
    assert (reply.status, reply.json["error"]["code"]) == (403, "permission_denied")


async def test_tenants_without_an_admin_key_leave_the_admin_listener_to_this_machine(house: House) -> None:
    house.view.registry.replace([(ACME, [sha256(ACME_KEY)])])
    assert (await get(house, "/metrics", admin=True)).status == 200
    assert (await get(house, "/metrics", bearer(ACME_KEY), admin=True, server=("10.0.0.5", 1))).status == 403
    assert (await get(house, "/v1/models")).status == 401


async def test_a_websocket_is_closed_unopened() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def inner(*_: Any) -> None:
        sent.append("reached")

    scope = {"type": "websocket", "path": "/health/live", "headers": [], "server": ("127.0.0.1", 1)}
    await Edge(inner, time.monotonic, HttpLimits())(scope, asyncio.Queue[Any]().get, send)
    assert sent == [{"type": "websocket.close"}]


def restrict(house: House, callers: list[str]) -> None:
    house.view.model_is(demo(callers))


async def test_a_model_is_called_and_seen_by_its_callers_only(guarded: House) -> None:
    restrict(guarded, ["acme"])
    assert (await get(guarded, "/v1/models/demo", bearer(ACME_KEY))).status == 200
    listed = [(await get(guarded, "/v1/models", bearer(key))).json["data"] for key in (ACME_KEY, UMBRELLA_KEY)]
    assert [[model["id"] for model in models] for models in listed] == [["demo"], []]
    for reply in (
        await get(guarded, "/v1/models/demo", bearer(UMBRELLA_KEY)),
        await guarded.chat(dict([bearer(UMBRELLA_KEY)])).done(),
        await guarded.complete(dict([bearer(UMBRELLA_KEY)])).done(),
    ):
        error = reply.json["error"]
        assert (reply.status, error["code"], error["param"]) == (403, "permission_denied", "model")
    guarded.view.withdraw(0)  # that it is not ready is its callers' business too
    assert (await guarded.chat(dict([bearer(UMBRELLA_KEY)])).done()).status == 403
    assert (await guarded.chat(dict([bearer(ACME_KEY)])).done()).status == 503


async def test_a_model_with_callers_is_closed_while_there_are_no_tenants(house: House) -> None:
    restrict(house, ["acme"])
    assert (await house.chat().done()).status == 403
    assert (await get(house, "/v1/models", admin=True)).json["data"] == []
