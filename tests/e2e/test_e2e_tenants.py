"""Keys on a real server, over HTTP/2 and HTTP/1.1, and a file of tenants that changes under it."""

import hashlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
from e2e_hypercorn import hypercorn
from e2e_server import Server, completion, events, h2c, until

from aruntime.base.names import is_loopback
from aruntime.control.repository import publish

ACME, UMBRELLA, ADMIN = "art-acme-KEYMARK", "art-umbrella-KEYMARK", "art-admin-KEYMARK"


def write(file: Path, **keys: str) -> None:
    """Replace the file, as an editor does: each tenant's key, and the admin's."""
    tables = []
    for name, key in keys.items():
        digest = hashlib.sha256(key.encode()).hexdigest()
        tables.append(f'[{"admin" if name == "admin" else f"tenants.{name}"}]\nkeys = ["sha256:{digest}"]\n')
    draft = file.with_suffix(".new")
    draft.write_text("\n".join(tables))
    draft.chmod(0o600)
    draft.replace(file)


def everybody(file: Path) -> None:
    write(file, admin=ADMIN, acme=ACME, umbrella=UMBRELLA)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("e2e") / "tenants.toml"
    everybody(made)
    return made


@pytest.fixture(scope="module")
def private_repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: `tiny` for everybody, `own` for acme."""
    root = tmp_path_factory.mktemp("e2e") / "private"
    for name in ("tiny", "own"):
        publish(checkpoint, root, name)
    (root / "own" / "model.toml").write_text('callers = ["acme"]\n')
    return root


@pytest.fixture(scope="module")
def guarded(private_repository: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("e2e") / "tenants.log"
    with Server(private_repository, log, "--workers", "2", "--tenants", str(file), "--host", "0.0.0.0") as running:
        yield running


def http1(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=30)


def status(url: str, key: str) -> int:
    """What a request for the models is answered; a connection each, so that it may meet any front end."""
    return httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code


def asked(url: str, key: str) -> int:
    """What a short completion is answered."""
    return httpx.post(f"{url}/v1/completions", json=completion(1), headers=bearer(key), timeout=30).status_code


def always(url: str, key: str, wanted: int) -> Callable[[], bool]:
    """Whether every front end answers `wanted`: the kernel hands connections to any of them."""
    return lambda: all(status(url, key) == wanted for _ in range(8))


@pytest.mark.parametrize("client", [h2c, http1])
def test_a_key_opens_and_nothing_else_does(guarded: Server, client: Callable[[str], httpx.Client]) -> None:
    body = completion(5, stream=False)
    with client(guarded.url) as http:
        assert http.post("/v1/completions", json=body, headers=bearer(ACME)).status_code == 200
        assert http.post("/v1/completions", json=body, headers={"api-key": UMBRELLA}).status_code == 200
        for headers in (
            {},
            bearer("art-wrong-KEYMARK"),
            bearer(ADMIN),
            {"host": "localhost", "x-forwarded-for": "::1"},
        ):
            refused = http.post("/v1/completions", json=body, headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert refused.headers["www-authenticate"] == "Bearer"
        twice = [("authorization", f"Bearer {ACME}"), ("authorization", f"Bearer {ACME}")]
        assert http.get("/v1/models", headers=twice).status_code == 401
        assert http.get("/health/live").status_code == 200
        for path in ("/health/ready", "/%2e/health/live", "/v1/..%2fhealth/live", "//health/live", "/metrics"):
            assert http.get(path).status_code == 401


def test_the_openai_sdk_brings_its_key(guarded: Server) -> None:
    options = {"base_url": f"{guarded.url}/v1", "max_retries": 0}
    question = [{"role": "user", "content": "hello"}]
    with openai.OpenAI(api_key=ACME, **options) as client:  # type: ignore[arg-type]
        chunks = client.chat.completions.create(model="own", messages=question, stream=True, max_tokens=5)  # type: ignore[call-overload]
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] in ("length", "stop")
        assert sorted(model.id for model in client.models.list()) == ["own", "tiny"]
    with openai.OpenAI(api_key=UMBRELLA, **options) as client:  # type: ignore[arg-type]
        assert [model.id for model in client.models.list()] == ["tiny"]
        with pytest.raises(openai.PermissionDeniedError) as denied:
            client.chat.completions.create(model="own", messages=question)  # type: ignore[arg-type]
        assert denied.value.code == "permission_denied"
    with openai.OpenAI(api_key="wrong", **options) as client, pytest.raises(openai.AuthenticationError) as unknown:  # type: ignore[arg-type]
        client.models.list()
    assert unknown.value.code == "invalid_api_key"


def test_the_admin_listener_wants_the_admin_key(guarded: Server) -> None:
    url = f"{guarded.admin_url}/metrics"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers=bearer(ACME)).status_code == 401
    assert "aruntime_steps" in httpx.get(url, headers=bearer(ADMIN)).text
    assert httpx.get(f"{guarded.admin_url}/health/live").status_code == 200


def test_without_an_admin_key_the_admin_listener_believes_no_page(server: Server) -> None:
    url = f"{server.admin_url}/metrics"
    assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403
    assert httpx.get(url, headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(url, headers={"origin": server.admin_url}).status_code == 200


def test_another_file_counts_at_once_and_what_runs_goes_on(guarded: Server, file: Path) -> None:
    long = {"json": completion(3000), "headers": bearer(ACME)}
    with h2c(guarded.url) as client, client.stream("POST", "/v1/completions", **long) as running:  # type: ignore[arg-type]
        lines = running.iter_lines()
        next(lines)
        write(file, admin=ADMIN, umbrella="art-rotated-KEYMARK", newcomer="art-new-KEYMARK")
        until(always(guarded.url, "art-new-KEYMARK", 200))
        until(always(guarded.url, "art-rotated-KEYMARK", 200))
        assert always(guarded.url, UMBRELLA, 401)()
        assert always(guarded.url, ACME, 401)()
        assert events(list(lines))[-1] == "[DONE]"
    everybody(file)
    guarded.process.send_signal(signal.SIGHUP)
    until(always(guarded.url, ACME, 200))
    assert status(guarded.url, "art-new-KEYMARK") == 401


def test_a_wrong_file_is_not_taken_and_told_in_one_line(guarded: Server, file: Path) -> None:
    file.write_text(f'[tenants.acme]\nkeys = ["{ACME}"]\n')
    until(lambda: "tenants.refused" in guarded.log.read_text())
    assert always(guarded.url, ACME, 200)()
    assert always(guarded.url, UMBRELLA, 200)()
    told = [line for line in guarded.log.read_text().splitlines() if "tenants.refused" in line]
    assert len(told) == 1
    assert "tenants.acme.keys.0" in told[0]
    everybody(file)
    file.chmod(0o644)
    until(lambda: "chmod 600" in guarded.log.read_text())
    file.chmod(0o600)
    assert always(guarded.url, UMBRELLA, 200)()


def test_callers_and_bounds_of_a_model_change_and_what_runs_goes_on(guarded: Server, private_repository: Path) -> None:
    model = private_repository / "tiny" / "model.toml"
    long = {"json": completion(3000), "headers": bearer(ACME)}
    with h2c(guarded.url) as client, client.stream("POST", "/v1/completions", **long) as running:  # type: ignore[arg-type]
        lines = running.iter_lines()
        next(lines)
        model.write_text('callers = ["umbrella"]\n[objectives]\nttft_s = 0.5\nitl_s = 0.05\n')
        until(lambda: {asked(guarded.url, ACME) for _ in range(8)} == {403})
        assert asked(guarded.url, UMBRELLA) == 200
        model.write_text("limits = 1\n")
        until(lambda: "model.refused" in guarded.log.read_text())
        assert asked(guarded.url, ACME) == 403
        assert events(list(lines))[-1] == "[DONE]"
    model.write_text("")
    until(lambda: {asked(guarded.url, ACME) for _ in range(8)} == {200})


def test_a_front_end_that_is_started_again_knows_the_keys(guarded: Server) -> None:
    for pid in guarded.front_ends():
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(guarded.front_ends()) == 2)
    assert {status(guarded.url, key) for key in (ACME, UMBRELLA) for _ in range(4)} == {200}
    assert status(guarded.url, "art-wrong-KEYMARK") == 401


def test_the_log_holds_neither_a_key_nor_a_prompt(guarded: Server) -> None:
    mark = "PROMPTMARK"
    bodies: list[object] = [
        completion(3, prompt=mark), completion(3, prompt=mark, model=mark), completion(3, prompt=mark, model="own"),
        completion(3, prompt=mark, n=mark), completion(3, prompt=mark * 5000), {mark: mark}, mark,
        {"model": "tiny", "messages": [{"role": mark, "content": mark}]},
        {"model": "tiny", "messages": [{"role": "user", "content": mark}], "max_tokens": 3, "stop": [mark]},
    ]  # fmt: skip
    with h2c(guarded.url) as client:
        for headers in ({}, bearer(UMBRELLA), bearer(f"wrong-KEYMARK\t{mark}"), {"api-key": "x-KEYMARK"}):
            for body in bodies:
                for path in ("/v1/completions", "/v1/chat/completions", f"/{mark}"):
                    client.post(path, json=body, headers={**headers, "cookie": mark, "x-request-timeout-ms": "20000"})
        with client.stream("POST", "/v1/completions", json=completion(5000, prompt=mark), headers=bearer(ACME)) as gone:
            next(gone.iter_lines())
    with http1(guarded.url) as client:
        client.post("/v1/completions", content=b'{"prompt": "' + mark.encode(), headers=bearer(ACME))
        client.get(f"/v1/models/{mark}?key={ACME}", headers={mark: mark, **bearer(ACME)})
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(f"GET / HTTP/1.1\r\nauthorization: Bearer {ACME}\r\n{mark}\r\n\r\n".encode())
        raw.recv(4096)
    until(lambda: "client_closed" in guarded.log.read_text())
    log = guarded.log.read_text()
    assert "tenants.read" in log
    assert "KEYMARK" not in log
    assert mark not in log
    assert hashlib.sha256(ACME.encode()).hexdigest() not in log


def own_address() -> str:
    """An address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address: str = probe.getsockname()[0]
    if is_loopback(address):
        pytest.skip("this machine has no address but loopback")
    return address


def test_plain_hypercorn_asks_for_keys_too(repository: Path, file: Path, tmp_path: Path) -> None:
    everybody(file)
    with hypercorn(repository, tmp_path, 1, tenants=str(file)) as running:
        assert httpx.post(f"{running.url}/v1/completions", json=completion(3)).status_code == 401
        with h2c(running.url, headers=bearer(ACME)) as client:
            until(lambda: client.get("/health/ready").status_code == 200, 60)
            assert client.post("/v1/completions", json=completion(3, stream=False)).status_code == 200
        write(file, umbrella=UMBRELLA)
        until(lambda: status(running.url, ACME) == 401)
        assert status(running.url, UMBRELLA) == 200
    everybody(file)


def test_plain_hypercorn_without_tenants_answers_this_machine_only(repository: Path, tmp_path: Path) -> None:
    address = own_address()
    with hypercorn(repository, tmp_path, 0, host="0.0.0.0") as running:
        assert httpx.get(f"{running.url}/v1/models").status_code == 200
        elsewhere = f"http://{address}:{running.port}"
        refused = httpx.get(f"{elsewhere}/v1/models", headers={"host": "localhost"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
        assert httpx.get(f"{elsewhere}/health/live").status_code == 200


def test_plain_hypercorn_with_a_wrong_file_does_not_start(repository: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "tenants.toml"
    wrong.write_text("")
    wrong.chmod(0o644)
    with pytest.raises(AssertionError), hypercorn(repository, tmp_path, 0, tenants=str(wrong)):
        pass
    log = (tmp_path / "log").read_text()
    assert "tenants.refused" in log
    assert "chmod 600" in log
