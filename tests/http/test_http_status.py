"""What the server says of itself, and that a front end loads no torch to say it."""

import subprocess
import sys
from pathlib import Path

import pytest
from http_house import COMMANDS, Client, House, demo
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from aruntime.admission.ledger import TOKENS
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.base.errors import ServingError
from aruntime.http.app import build_app
from aruntime.queue.columns import ENGINE_ROW, RESULT_CODES, Column, TenantColumn, tenant_column
from aruntime.queue.records import FinishReason, Priority
from aruntime.wire.control import Split

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"


async def get(house: House, path: str) -> Client:
    return await house.client(path, b"", method="GET").done()


async def test_a_process_that_answers_is_live(house: House) -> None:
    assert (await get(house, "/health/live")).status == 200


async def test_ready_says_what_is_missing(house: House) -> None:
    assert (await get(house, "/health/ready")).status == 200
    house.view.door.draining = True
    reply = await get(house, "/health/ready")
    assert (reply.status, reply.json) == (503, {"ready": False, "reasons": ["the server is shutting down"]})
    assert (await get(house, "/health/live")).status == 200


async def test_an_engine_that_is_gone_is_told(house: House) -> None:
    assert (await get(house, "/health/engine")).status == 200
    house.view.withdraw(0)
    reply = await get(house, "/health/engine")
    assert reply.status == 503
    assert [(engine["model"], engine["ok"]) for engine in reply.json["engines"]] == [("demo", False)]


async def test_dependencies_are_apart_from_readiness(house: House) -> None:
    reply = await get(house, "/health/dependencies")
    assert reply.status == 503  # this house has no supervisor and no repository
    assert set(reply.json["dependencies"]) == {"journal", "repository", "supervisor"}


async def test_metrics_are_the_server_s_and_on_the_admin_port_only(house: House) -> None:
    assert (await get(house, "/metrics")).status == 404
    client = house.chat(stream=True)
    at = (await house.submitted())[:2]
    house.say(at, "abc", FinishReason.STOP)
    await client.done()
    other_front_end = 2
    house.table.add(other_front_end, Column.RESULTS, 4)
    house.table.set(ENGINE_ROW, Column.BLOCKS_FREE, 11)
    house.app = build_app(house.view, commands=COMMANDS)
    reply = await get(house, "/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(reply.body.decode())}
    requests = {sample.labels["code"]: sample.value for sample in families["aruntime_requests"].samples}
    assert requests["ok"] == 5
    blocks = families["aruntime_blocks_free"].samples[0]
    assert (blocks.value, blocks.labels) == (11, {"model": "demo", "version": "3", "replica": "0"})
    first = families["aruntime_time_to_first_token_seconds"]
    counts = [sample.value for sample in first.samples if sample.name.endswith("_bucket")]
    assert counts == sorted(counts)
    assert counts[-1] == next(sample.value for sample in first.samples if sample.name.endswith("_count")) == 1


async def families(house: House) -> dict[str, Metric]:
    """The metrics, by name."""
    house.app = build_app(house.view, commands=COMMANDS)
    text = (await get(house, "/metrics")).body.decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


async def test_metrics_tell_of_the_queue_the_cache_and_the_tenants(house: House) -> None:
    one = Tenant(7, "one", tokens_per_minute=100)
    house.view.door.tenants = (NOBODY, one)
    house.view.door.ledger.try_spend(7, TOKENS, 40, 100, house.view.now_s)
    for column, value in {Column.BLOCKS: 40, Column.BLOCKS_FREE: 30, Column.PROMPT_TOKENS: 8, Column.CACHED_TOKENS: 2,
                          Column.OLDEST_US: int((house.view.now_s - 3) * 1e6)}.items():  # fmt: skip
        house.table.set(ENGINE_ROW, column, value)
    for front_end in (1, 2):
        house.table.set(front_end, tenant_column(7, TenantColumn.QUEUED, Priority.BATCH), 2)
    found = await families(house)
    value = {name: family.samples[0].value for name, family in found.items() if family.samples}
    assert value["aruntime_cache_utilization"] == 0.25
    assert value["aruntime_cache_hit_ratio"] == 0.25
    assert 3 <= value["aruntime_oldest_waiting_seconds"] < 4
    assert found["aruntime_cache_config_info"].samples[0].labels["block_size"] == "16"
    queued = [sample for sample in found["aruntime_tenant_sequences_queued"].samples if sample.value]
    assert [(sample.labels["tenant"], sample.labels["priority"], sample.value) for sample in queued] == [
        ("one", "batch", 4)
    ]
    (level,) = found["aruntime_budget_level"].samples
    assert level.labels == {"tenant": "one", "budget": "tokens"}
    assert 0.6 <= level.value < 0.61


async def test_a_refusal_is_counted_once_with_its_model_or_before_any(house: House) -> None:
    assert [(await client.done()).status for client in (
        house.chat(model="other"), house.complete(model=7), house.client("/v1/no", b""), house.chat(n=99),
        house.complete(max_tokens=999), house.complete(prompt=[]),
    )] == [404, 400, 404, 400, 400, 400]  # fmt: skip
    house.view.registry.replace([(Tenant(7, "one"), [])])
    assert (await house.chat().done()).status == 401
    house.view.registry.replace(None)
    found = await families(house)
    before = {sample.labels["code"]: sample.value for sample in found["aruntime_refusals"].samples if sample.value}
    with_model = {sample.labels["code"]: sample.value for sample in found["aruntime_requests"].samples if sample.value}
    assert before == {"model_not_found": 1, "not_found": 1, "invalid_request_error": 3, "invalid_api_key": 1}
    assert with_model == {"context_length_exceeded": 1}


def test_every_code_of_an_error_is_counted() -> None:
    def codes(kind: type[ServingError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    assert set(RESULT_CODES) == {"ok", "client_closed", "client_stalled"} | codes(ServingError)


async def test_metrics_tell_what_a_tenant_may_hold_of_the_cache(house: House) -> None:
    house.view.door.tenants = (Tenant(7, "one", cache_max=0.5, cache_reserved=0.25),)
    found = await families(house)
    assert found["aruntime_tenant_blocks_max"].samples[0].value == (1 << 20) / 2
    assert found["aruntime_tenant_blocks_reserved"].samples[0].value == (1 << 20) / 4


async def test_every_metric_is_explained_and_nothing_else(house: House) -> None:
    house.view.door.tenants = (Tenant(0, "none", tokens_per_minute=1),)
    house.view.model_is(demo(split=Split(version=4, share=0.25, mirror=0.0, salt=1)))
    found = await families(house)
    rows = set()
    for family in found.values():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = [label for label in family.samples[0].labels if label != "le"]
        rows.add(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    explained = {line for line in METRICS.read_text().splitlines() if line.startswith("| `aruntime_")}
    assert sorted(rows - explained) == []
    assert sorted(explained - rows) == []


@pytest.mark.parametrize("path", ["/health/live", "/v1/models"])
async def test_status_answers_while_the_server_drains(house: House, path: str) -> None:
    house.view.door.draining = True
    assert (await get(house, path)).status == 200


def test_a_front_end_loads_no_torch() -> None:
    check = "import sys, aruntime.http.app; sys.exit('torch' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False, timeout=60).returncode == 0
