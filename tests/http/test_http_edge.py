"""Headers, limits, paths and methods: what every answer has, whatever went wrong."""

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


async def test_a_long_body_is_refused_by_its_stated_length_before_it_is_read(house: House) -> None:
    client = house.client("/v1/completions", b"", {"content-length": str(1 << 30)})
    assert (await client.done()).status == 413


async def test_a_long_body_is_refused_while_it_is_read(tmp_path: Path) -> None:
    house = House(tmp_path, HttpLimits(body_bytes_max=100))
    assert (await house.complete(prompt="x" * 200).done()).status == 413
    house.close()


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


async def test_no_host_or_two_are_refused(house: House) -> None:
    none = Client(house.app, "/health/live", b"", {}, "GET")
    assert (await none.done()).status == 400


@pytest.mark.parametrize("model", ["other", "demo@9", "demo@stable", "demo:adapter", "../demo", "demo@0", "Demo"])
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


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from(
    ["model", "messages", "prompt", "n", "stop", "seed", "temperature", "stream", "stream_options", "logit_bias",
     "max_tokens", "tools", "top_k", "user", "metadata", "zz"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(_FIELDS, _VALUES, max_size=6), chat=st.booleans())
async def test_no_body_is_a_server_error(house: House, body: dict[str, object], chat: bool) -> None:
    body = {"model": "other", **body}
    client = house.client("/v1/chat/completions" if chat else "/v1/completions", body)
    await client.done()
    assert 400 <= client.status < 500
