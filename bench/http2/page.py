"""The page of results: a table of costs beside the goals."""

import statistics
from collections.abc import Sequence
from datetime import UTC, datetime

from measure import EVENTS_PER_S, Cost
from parts import REAL, SCENES, Found
from servers import ARUNTIME, GRANIAN, NAMES, STOCK

_APPS = {
    "/alone/raw": "raw ASGI",
    "/alone/starlette": "StreamingResponse",
    "/step/raw": "raw ASGI, in step",
    "/step/written": "written by the step",
}
_SLOW = 0.9  # of the events that were due: below, the server could not keep up
_BUSY = 0.9  # of its core: above, the client may have held a server back


def page(found: Found, machine: str, versions: str) -> str:
    """The page."""
    lines = [
        "# HTTP/2: what an event costs",
        "",
        f"`python bench/http2/run.py`, {datetime.now(UTC):%Y-%m-%d}: {machine}, one the server's, one the client's.",
        f"{versions}.",
        f"Medians of {found.repeats} windows of {found.window_s:g} s, servers in turn; in brackets the least and most.",
        "",
    ]
    if any(app in _APPS for _, app, _ in found.costs):
        lines += _servers(found)
    if found.told:
        lines += _real(found)
    if any(app not in _APPS and app != "stream" for _, app, _ in found.costs):
        lines += _posts(found)
    lines += _goals(found)
    return "\n".join([*lines, ""])


def _servers(found: Found) -> list[str]:
    told = [
        "## A paced event: microseconds of the server's processor",
        "",
        "256 streams, each an event of 200 bytes every 20 ms. A stream keeps its own time, or all are in step, as",
        "those of an engine are. In brackets: events a second, where a server fell behind the 12,800 that were due.",
        "",
        "| server | application | " + " | ".join(f"{scene} connections" for scene in SCENES) + " |",
        "| --- | --- |" + " --- |" * len(SCENES),
    ]
    for name in NAMES:
        for app, words in _APPS.items():
            cells = [found.costs.get((name, app, scene), []) for scene in SCENES]
            if any(cells):
                told.append(f"| {name} | {words} | " + " | ".join(map(_cell, cells)) + " |")
    return [*told, ""]


def _real(found: Found) -> list[str]:
    told = [
        "## aruntime on its real way: microseconds of its front end a token",
        "",
        "256 streamed chats: rings, admission, detokenizer, JSON and frames are real, the engine's model is a clock of",
        "20 ms. Wakes: how often the front end was woken for one step of the engine.",
        "",
        "| | " + " | ".join(f"{scene} connections" for scene in SCENES) + " |",
        "| --- |" + " --- |" * len(SCENES),
        "| us an event | " + " | ".join(_cell(found.costs[REAL, "stream", scene]) for scene in SCENES) + " |",
    ]
    for words, of in (("wakes a step", "wakes_a_step"), ("tokens an event", "tokens_an_event")):
        values = [statistics.median(getattr(told, of) for told in found.told[scene]) for scene in SCENES]
        told.append(f"| {words} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    return [*told, ""]


def _posts(found: Found) -> list[str]:
    told = [
        "## A small POST: microseconds of the server's processor",
        "",
        "16 connections, a request at a time on each. h2load: requests a second, 16 connections with 10 under way.",
        "",
        "| server | what | h2 | HTTP/1.1 | h2load |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = [(name, "POST") for name in NAMES] + [(REAL, "/tokenize"), (REAL, "/v1/chat/completions")]
    for name, what in rows:
        cells = [found.costs.get((name, what, protocol), []) for protocol in ("h2", "HTTP/1.1")]
        if any(cells):
            rates = found.h2load.get(name) if what == "POST" else None
            rate = f"{statistics.median(rates):,.0f}" if rates else ""
            words = "raw ASGI, JSON echo" if what == "POST" else what
            told.append(f"| {name} | {words} | {_cell(cells[0], 0)} | {_cell(cells[1], 0)} | {rate} |")
    return [*told, ""]


def _goals(found: Found) -> list[str]:
    def middle(server: str, app: str, scene: str) -> float | None:
        costs = found.costs.get((server, app, scene))
        return statistics.median(cost.each_us for cost in costs) if costs else None

    own = {scene: middle(REAL, "stream", scene) for scene in SCENES}
    raw = {scene: middle(ARUNTIME, "/alone/raw", scene) for scene in SCENES}
    stock = {scene: middle(STOCK, "/alone/raw", scene) for scene in SCENES}
    granian = {scene: middle(GRANIAN, "/alone/starlette", scene) for scene in SCENES}
    rows = []
    for name, costs in (("real way", own), ("raw ASGI", raw)):
        rows += [
            (f"16 h2c, {name}", costs["16 h2c"], 25.0),
            (f"256 h2c, {name}", costs["256 h2c"], 45.0),
            (f"4 TLS, {name}; Granian's StreamingResponse", costs["4 TLS"], granian["4 TLS"]),
            (f"256 TLS, {name}; Granian's StreamingResponse", costs["256 TLS"], granian["256 TLS"]),
        ]
        if costs["16 h2c"] and stock["16 h2c"]:
            rows.append((f"stock Hypercorn over it, 16 h2c, {name}", stock["16 h2c"] / costs["16 h2c"], -3.5))
    rows.append(("small POST, h2, JSON echo", middle(ARUNTIME, "POST", "h2"), 300.0))
    rows.append(("small POST, h2, /tokenize on the real way", middle(REAL, "/tokenize", "h2"), 300.0))
    told = ["## Goals", "", "| what | measured | goal | |", "| --- | --- | --- | --- |"]
    for what, value, goal in rows:
        if value is not None and goal is not None:
            met = "met" if (value >= -goal if goal < 0 else value <= goal) else "missed"
            told.append(f"| {what} | {value:.1f} | {'>=' if goal < 0 else '<='} {abs(goal):.1f} | {met} |")
    return told


def _cell(costs: Sequence[Cost], digits: int = 1) -> str:
    """Median, least and most; what was behind, and whether the client was too busy to say."""
    if not costs:
        return ""
    each = [cost.each_us for cost in costs]
    text = f"{statistics.median(each):.{digits}f} ({min(each):.{digits}f} to {max(each):.{digits}f})"
    rate = statistics.median(cost.rate for cost in costs)
    if digits and rate < _SLOW * EVENTS_PER_S:
        text += f" [{rate:,.0f}/s]"
    if max(cost.client_cpu_s / cost.seconds for cost in costs) > _BUSY:
        text += " client busy"
    return text
