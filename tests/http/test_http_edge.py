"""Headers, limits, paths and methods: what every answer has, whatever went wrong."""

import asyncio
from pathlib import Path

import pytest
from http_house import Client, House
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aruntime.http.limits import HttpLimits


async def test_a_request_id_is_kept_or_made_and_always_answered(house: House) -> None:
    kept = await house.client("/v1/nothing", {}, {"x-request-id": "my-id.1"}).done()
    assert (kept.status, kept.headers["x-request-id"]) == (404, "my-id.1")
    made = await house.client("/v1/nothing", {}, {"x-request-id": "not an id"}).done()
    assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/nothing", "GET", 404, "not_found"),
        ("/v1/chat/completions", "GET", 405, "method_not_allowed"),
        ("/metrics", "GET", 404, "not_found"),
    ],
)
async def test_wrong_paths_and_methods_have_the_error_shape(
    house: House, path: str, method: str, status: int, code: str
) -> None:
    reply = await house.client(path, {}, method=method).done()
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}


async def test_another_content_type_is_415(house: House) -> None:
    reply = await house.client("/v1/completions", {}, {"content-type": "text/plain"}).done()
    assert (reply.status, reply.json["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("length", [str(1 << 30), "9" * 5000])
async def test_a_long_body_is_refused_by_its_stated_length_before_it_is_read(house: House, length: str) -> None:
    client = house.client("/v1/completions", b"", {"content-length": length})
    assert (await client.done()).status == 413
    assert client.unread == 1


async def test_a_long_body_is_refused_while_it_is_read(tmp_path: Path) -> None:
    house = House(tmp_path, HttpLimits(body_bytes_max=100))
    assert (await house.complete(prompt="x" * 200).done()).status == 413
    house.close()


async def test_over_http_1_an_answer_that_did_not_wait_for_the_body_ends_when_it_has_passed(house: House) -> None:
    client = house.client("/v1/completions", b"{", {"content-type": "text/plain"}, version="1.1")
    client._incoming.get_nowait()
    client.send(b"{", more=True)
    await asyncio.sleep(0.01)
    assert (client.status, client.json["error"]["code"]) == (415, "unsupported_media_type")
    assert not client.task.done()
    client.send(b"}", more=False)
    assert "connection" not in (await client.done()).headers


async def test_over_http_2_an_answer_does_not_wait_for_the_body(house: House) -> None:
    client = house.client("/v1/completions", b"{", {"content-type": "text/plain"})
    client._incoming.get_nowait()
    client.send(b"{", more=True)
    assert (await asyncio.wait_for(client.done(), 5)).status == 415


async def test_over_http_1_a_connection_that_has_heard_enough_says_that_it_closes(house: House) -> None:
    long = {"content-length": str(1 << 30)}
    assert (await house.client("/v1/completions", b"", long, version="1.1").done()).headers["connection"] == "close"
    assert "connection" not in (await house.client("/v1/completions", b"", long).done()).headers


async def test_a_slow_body_is_408(tmp_path: Path) -> None:
    house = House(tmp_path, HttpLimits(body_s_max=0.05))
    client = house.client("/v1/completions", b"{")
    client._incoming.get_nowait()
    assert (await client.done()).json["error"]["code"] == "request_timeout"
    house.close()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"nul", b"\xff", b'{"model": NaN}', b"[" * 100_000])
async def test_what_is_no_json_object_is_400(house: House, body: bytes) -> None:
    reply = await house.client("/v1/chat/completions", body).done()
    assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-request-timeout-ms", "0"), ("x-request-timeout-ms", "1.5"), ("x-request-timeout-ms", "9" * 20),
     ("x-request-priority", "royal")],
)  # fmt: skip
async def test_a_wrong_header_is_named(house: House, name: str, value: str) -> None:
    reply = await house.chat({name: value}).done()
    assert (reply.status, reply.json["error"]["param"]) == (400, name)


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        [""],
        ["a", "a"],
        ["a", "b"],
        ["a/v1"],
        ["user@a"],
        ["a?b"],
        ["a#"],
        ["a b"],
        ["a\\b"],
        ["[::1"],
        ["a:123456"],
        ["\xe9"],
    ],
)
async def test_a_missing_double_or_lying_host_is_refused(house: House, hosts: list[str]) -> None:
    reply = await Client(house.app, "/health/live", b"", [("host", host) for host in hosts], "GET").done()
    assert (reply.status, reply.json["error"]["param"]) == (400, "host")
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("host", ["a", "a.example:8000", "127.0.0.1:8000", "[::1]:8000", "xn--a_b-c."])
async def test_an_honest_host_is_served(house: House, host: str) -> None:
    assert (await Client(house.app, "/health/live", b"", [("host", host)], "GET").done()).status == 200


@pytest.mark.parametrize("model", ["other", "demo@9", "demo@canary", "demo:adapter", "../demo", "demo@0", "Demo"])
async def test_an_unknown_model_version_label_or_adapter_is_404(house: House, model: str) -> None:
    reply = await house.chat(model=model).done()
    assert (reply.status, reply.json["error"]["code"], reply.json["error"]["param"]) == (
        404,
        "model_not_found",
        "model",
    )


async def test_a_model_that_is_not_ready_is_503(house: House) -> None:
    house.view.withdraw(0)
    reply = await house.chat().done()
    assert (reply.status, reply.json["error"]["code"]) == (503, "model_not_ready")
    assert "retry-after" in reply.headers


async def test_models_are_listed_and_shown(house: House) -> None:
    listed = (await house.client("/v1/models", b"", method="GET").done()).json
    assert listed == {
        "object": "list",
        "data": [{"id": "demo", "object": "model", "created": 5, "owned_by": "aruntime"}],
    }
    assert (await house.client("/v1/models/demo", b"", method="GET").done()).json == listed["data"][0]
    assert (await house.client("/v1/models/other", b"", method="GET").done()).status == 404


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=40), name=st.sampled_from(["x-request-timeout-ms", "x-request-priority", "x-request-id",
       "content-type", "content-length"]), value=st.text(st.characters(max_codepoint=255), max_size=30))  # fmt: skip
async def test_no_header_and_no_bytes_are_a_server_error(house: House, body: bytes, name: str, value: str) -> None:
    client = await house.client("/v1/completions", body, {name: value}).done()
    assert 400 <= client.status < 500


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([("a", "b")] * 101, "headers; at most 100"),
        ([("a", "x" * 16_384)], "more than 16384 bytes"),
        ([("x" * 16_384, "")], "more than 16384 bytes"),
        ([(f"a{i}", "x" * 200) for i in range(90)], "more than 16384 bytes"),
    ],
)
async def test_too_many_or_too_long_headers_are_refused(
    house: House, headers: list[tuple[str, str]], words: str
) -> None:
    client = await Client(house.app, "/v1/completions", b"", [("host", "localhost"), *headers], "POST").done()
    assert (client.status, client.json["error"]["code"]) == (400, "invalid_request_error")
    assert words in client.json["error"]["message"]


async def test_a_long_path_is_refused_and_what_is_within_the_bounds_is_served(house: House) -> None:
    assert (await house.client("/v1/models/" + "x" * 16_384, b"", method="GET").done()).status == 400
    headers = [("host", "localhost"), *[("a", "x" * 100)] * 99]
    assert (await Client(house.app, "/health/live", b"", headers, "GET").done()).status == 200


async def test_a_body_that_nobody_wanted_is_let_pass_but_not_for_ever(tmp_path: Path) -> None:
    house = House(tmp_path, HttpLimits(body_bytes_max=1000, body_s_max=0.3))
    for pieces in (9, 11):  # one that ends, and one that has sent too much
        client = house.client("/v1/nothing", b"x" * 100, version="1.1")
        client._incoming.get_nowait()
        for _ in range(pieces):
            client.send(b"x" * 100, more=True)
        if pieces == 9:
            client.send(b"", more=False)
        assert (await asyncio.wait_for(client.task, 0.2), client.status) == (None, 404)
    slow = house.client("/v1/nothing", b"", version="1.1")
    slow._incoming.get_nowait()
    assert (await slow.done()).json["error"]["code"] == "not_found"
    house.close()
