"""The scenarios: each runs a few worlds and says what came of it, as a table, a picture and a verdict on its goals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from program import REFUSALS, Books, Fields, run
from step_times import demo_cpu, h200_8b

SEED = 7
TTFT_S, ITL_S = 1.0, 0.05  # the objectives by which goodput is counted
DURATION_S = 100.0
DECODE_COST = 2.0  # what the scheduler charges for a decoded token; a prefilled one is 1

ENGINE: Fields = {
    "sequences_max": 256, "step_tokens_max": 2048, "waiting_max": 512, "context_max": 8192, "blocks": 40_000,
    "ttft_s": TTFT_S, "itl_s": ITL_S,
}  # fmt: skip
CHAT: Fields = {
    "prompt_median": 400, "prompt_sigma": 0.8, "prompt_max": 4000, "output_median": 200, "output_sigma": 0.7,
    "output_max": 800, "system_tokens": 300,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted, what came out, and whether that is enough."""

    text: str
    figure: str
    met: bool


@dataclass(slots=True)
class Finding:
    """One scenario's table, with what there is to say of it. `draw` fills a picture's axes."""

    name: str
    title: str
    about: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    draw: Callable[[Any], None] | None = None


def simulate(
    tenants: Sequence[Fields], step_time: Fields | None = None, engine: Fields = ENGINE, **options: float
) -> Books:
    settings = {"seed": SEED, "duration_s": DURATION_S, **options}
    return run(settings, engine, step_time or h200_8b(), tenants)


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.0f}" if seconds >= 0.02 else f"{1e3 * seconds:.1f}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


# The peak is looked for up to here: beyond, what is let in is shorter than what is sent, for the door says no to long
# prompts first, so more requests a second are answered with no more work.
SATURATED = 1.2


@cache
def capacity_per_s() -> float:
    """Load 1: the requests a second that one replica answers when far more are waiting than it can take."""
    books = simulate([{**CHAT, "rate_per_s": 300}], engine={**ENGINE, "ttft_s": 5})
    return books.per_s(books.answered)


def load() -> Finding:
    finding = Finding(
        "load",
        "Overload",
        "One tenant, Poisson arrivals; load 1 is what the replica answers at saturation. `door`: admission by the "
        "rule; `tight door`: the same with the objective for the first token set to 0.7 times the p99 at 0.8; "
        "`none`: no admission, and no bound on the queue.",
        ("load", "door", "goodput/s", "answered/s", "TTFT p50 ms", "p99 ms", "ITL p99 ms", "refused %"),
    )
    loads = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 4.0, 10.0)
    calm_s = simulate([{**CHAT, "rate_per_s": 0.8 * capacity_per_s()}]).ttft_s(0.99)
    doors = {
        "door": (ENGINE, 1),
        "tight door": ({**ENGINE, "ttft_s": 0.7 * calm_s}, 1),
        "none": ({**ENGINE, "waiting_max": 1_000_000}, 0),
    }
    good: dict[tuple[str, float], float] = {}
    for door, (engine, admission) in doors.items():
        for load in loads:
            books = simulate([{**CHAT, "rate_per_s": load * capacity_per_s()}], engine=engine, admission=admission)
            good[door, load] = books.good(TTFT_S, ITL_S)
            finding.rows.append(
                [f"{load:g}", door, f"{good[door, load]:.1f}", f"{books.per_s(books.answered):.1f}",
                 ms(books.ttft_s(0.5)), ms(books.ttft_s(0.99)), ms(books.itl_s(0.99)), percent(books.refused_share)]
            )  # fmt: skip
            if load in (2.0, 10.0) and door != "none":
                ratio = books.ttft_s(0.99) / calm_s
                finding.goals.append(
                    Goal(
                        f"{door}, {load:g}x: admitted p99 TTFT at most 1.5 x that at 0.8",
                        f"{ratio:.2f} x",
                        ratio <= 1.5,
                    )
                )
    for door in ("door", "tight door"):
        peak = max(value for (which, load), value in good.items() if which == door and load <= SATURATED)
        best = max(value for (which, _), value in good.items() if which == door)
        for load, least in ((2.0, 0.95), (10.0, 0.90)):
            share = good[door, load] / peak
            finding.goals.append(
                Goal(
                    f"{door}, {load:g}x: goodput at least {least:.0%} of the peak",
                    f"{share:.1%} (of the best at any load {good[door, load] / best:.1%})",
                    share >= least,
                )
            )

    def draw(axes: Any) -> None:
        for door in doors:
            axes.plot(loads, [good[door, load] for load in loads], marker="o", label=door)
        axes.set(xscale="log", xlabel="load", ylabel="goodput, requests/s", title="goodput under overload")
        axes.legend()

    finding.draw = draw
    return finding


def demo() -> Finding:
    """The same sweep, short, with the step time that was measured on the demo model."""
    engine = {**ENGINE, "sequences_max": 64, "step_tokens_max": 512, "waiting_max": 256, "context_max": 4096,
              "blocks": 4096, "ttft_s": 0.5}  # fmt: skip
    chat = {"prompt_median": 60, "prompt_max": 400, "output_median": 64, "output_max": 128}
    step_time = demo_cpu()
    full = simulate([{**chat, "rate_per_s": 2000}], step_time, engine, duration_s=20)
    capacity = full.per_s(full.answered)
    finding = Finding(
        "demo",
        "Overload of the demo model",
        "The step time measured by calibrate.py on this CPU machine; objectives 0.5 s and 50 ms.",
        ("load", "requests/s", "goodput/s", "TTFT p50 ms", "p99 ms", "ITL p99 ms", "refused %"),
    )
    for load in (0.4, 0.8, 1.0, 2.0, 10.0):
        books = simulate([{**chat, "rate_per_s": load * capacity}], step_time, engine, duration_s=40)
        finding.rows.append(
            [f"{load:g}", f"{load * capacity:.0f}", f"{books.good(0.5, ITL_S):.1f}", ms(books.ttft_s(0.5)),
             ms(books.ttft_s(0.99)), ms(books.itl_s(0.99)), percent(books.refused_share)]
        )  # fmt: skip
    return finding


def flood() -> Finding:
    finding = Finding(
        "flood",
        "One tenant floods",
        "Four tenants of equal weight, 0.2 of the capacity each, until the fourth sends ten times that. `10 x, "
        "reserved`: each of the others has reserved one and a half times the tokens a second that it needs. The goal "
        "is for the three together: a p99 of one tenant alone rests on a handful of requests.",
        ("the fourth", "tenant", "requests/s", "refused %", "TTFT p50 ms", "p99 ms", "ITL p99 ms"),
    )
    rate = 0.2 * capacity_per_s()
    alone = simulate([{**CHAT, "rate_per_s": rate}])
    needed = float(alone.records["prompt_tokens"].sum() + alone.records["told"].sum()) / alone.seconds
    cases = {
        "absent": (0.0, 0.0),
        "as agreed": (rate, 0.0),
        "10 x": (10 * rate, 0.0),
        "10 x, reserved": (10 * rate, 1.5 * needed),
    }
    p99: dict[str, float] = {}
    by_tenant: dict[str, list[float]] = {}
    refused: dict[str, float] = {}
    for name, (fourth, reserved) in cases.items():
        other = {**CHAT, "rate_per_s": rate, "tokens_per_s_reserved": reserved}
        books = simulate([*[other] * 3, {**CHAT, "rate_per_s": fourth}])
        others = [books.of(tenant) for tenant in range(3)]
        p99[name] = books.of(0, 1, 2).ttft_s(0.99)
        by_tenant[name] = [own.ttft_s(0.99) for own in others]
        refused[name] = max(own.refused_share for own in others)
        for tenant in range(4 if fourth else 3):
            own = books.of(tenant)
            finding.rows.append(
                [name, "the fourth" if tenant == 3 else str(tenant + 1), f"{own.per_s(own.records):.1f}",
                 percent(own.refused_share), ms(own.ttft_s(0.5)), ms(own.ttft_s(0.99)), ms(own.itl_s(0.99))]
            )  # fmt: skip
    for name in ("10 x", "10 x, reserved"):
        ratio = p99[name] / p99["as agreed"]
        worst = max(new / old for new, old in zip(by_tenant[name], by_tenant["as agreed"], strict=True))
        finding.goals += [
            Goal(f"{name}: no other tenant is refused", f"{refused[name]:.2%}", refused[name] == 0),
            Goal(
                f"{name}: their p99 TTFT at most 1.3 x that without the flood",
                f"{ratio:.2f} x (the worst {worst:.2f} x)",
                ratio <= 1.3,
            ),
        ]

    def draw(axes: Any) -> None:
        for place, name in enumerate(cases):
            axes.bar([place * 0.2 + tenant for tenant in range(3)], [1e3 * s for s in by_tenant[name]], 0.2, label=name)
        axes.set_xticks([0.3, 1.3, 2.3], ["1", "2", "3"])
        axes.set(xlabel="tenant", ylabel="TTFT p99, ms", title="the others while the fourth floods")
        axes.legend()

    finding.draw = draw
    return finding


def reservations() -> Finding:
    finding = Finding(
        "reservations",
        "Reserved service and cache",
        "A small customer (weight 0.1, 0.1 of the capacity) beside one that floods at 3 x with weight 1. In the "
        "second case it has reserved one and a half times the tokens a second that it needs, and a fifth of the "
        "cache.",
        ("the small one", "tenant", "requests/s", "refused %", "answered/s", "TTFT p50 ms", "p99 ms", "ITL p99 ms"),
    )
    rate = 0.1 * capacity_per_s()
    small = {**CHAT, "rate_per_s": rate, "weight": 0.1}
    alone = simulate([small])
    tokens = alone.records["prompt_tokens"].sum() + alone.records["told"].sum()
    reserved = {"tokens_per_s_reserved": 1.5 * float(tokens) / alone.seconds, "cache_reserved": 0.2}
    served = {}
    for name, terms in (("no reservation", {}), ("reserved", reserved)):
        books = simulate([{**small, **terms}, {**CHAT, "rate_per_s": 3 * capacity_per_s()}])
        served[name] = books.of(0)
        for tenant, who in enumerate(("small", "flood")):
            own = books.of(tenant)
            finding.rows.append(
                [name, who, f"{own.per_s(own.records):.1f}", percent(own.refused_share),
                 f"{own.per_s(own.answered):.1f}", ms(own.ttft_s(0.5)), ms(own.ttft_s(0.99)), ms(own.itl_s(0.99))]
            )  # fmt: skip
    own, before = served["reserved"], served["no reservation"]
    ended = own.records[(own.records["finish"] > 0) | (own.records["refusal"] > 0)]
    share = len(own.answered) / len(ended)
    finding.goals += [
        Goal("reserved: 99 % of its requests that ended were answered whole", percent(share) + " %", share >= 0.99),
        Goal("reserved: a lower p99 TTFT than without", f"{ms(own.ttft_s(0.99))} to {ms(before.ttft_s(0.99))} ms",
             own.ttft_s(0.99) < before.ttft_s(0.99)),
    ]  # fmt: skip
    return finding


def priority() -> Finding:
    finding = Finding(
        "priority",
        "Classes of priority",
        "One tenant at 1.2 x load, a third of it in each class; without admission by class the queue is the "
        "scheduler's.",
        ("door", "class", "answered/s", "refused %", "TTFT p50 ms", "p99 ms", "longest ms"),
    )
    third = 1.2 * capacity_per_s() / 3
    tenants = [{**CHAT, "rate_per_s": third, "priority": priority} for priority in range(3)]
    drawn: dict[str, list[Any]] = {}
    for door, admission in (("door", 1), ("none", 0)):
        engine = ENGINE if admission else {**ENGINE, "waiting_max": 1_000_000}
        books = simulate(tenants, engine=engine, hide_tenants=1, admission=admission)
        by_class = [books.of(tenant) for tenant in range(3)]
        drawn[door] = [own.records["first_s"][own.records["first_s"] >= 0] for own in by_class]
        for name, own in zip(("interactive", "standard", "batch"), by_class, strict=True):
            finding.rows.append(
                [door, name, f"{own.per_s(own.answered):.1f}", percent(own.refused_share), ms(own.ttft_s(0.5)),
                 ms(own.ttft_s(0.99)), ms(own.ttft_s(1.0))]
            )  # fmt: skip
        batch = by_class[2]
        finding.goals.append(
            Goal(f"{door}: batch is not starved", f"{batch.per_s(batch.answered):.1f}/s", len(batch.answered) > 0)
        )
        order = [own.ttft_s(0.99) for own in by_class]
        finding.goals.append(
            Goal(
                f"{door}: a higher class has the lower p99", " < ".join(map(ms, order)) + " ms", order == sorted(order)
            )
        )

    def draw(axes: Any) -> None:
        for name, first_s in zip(("interactive", "standard", "batch"), drawn["none"], strict=True):
            axes.plot(np.sort(first_s), np.linspace(0, 1, len(first_s)), label=name)
        axes.set(xscale="log", xlabel="TTFT, s", ylabel="share of requests", title="classes at 1.2 x load, no door")
        axes.legend()

    finding.draw = draw
    return finding


def deadlines() -> Finding:
    finding = Finding(
        "deadlines",
        "Deadlines",
        "Requests of one tenant with 6, 12 or 40 s for the whole answer, a third each; a client leaves at its "
        "deadline. Share of them that had it in time. FCFS: deadlines and classes hidden from door and scheduler; "
        "priority only: the class follows from the time allowed, the deadline is hidden. Means over 8 seeds; more than "
        "noise is beyond two standard errors.",
        ("load", "order", "hit %", "standard error", "6 s", "12 s", "40 s"),
    )
    orders = {
        "FCFS": {"hide_deadlines": 1, "hide_classes": 1},
        "priority only": {"hide_deadlines": 1},
        "deadlines": {"hide_classes": 1},
    }
    loads, seeds = (0.8, 1.0, 1.2, 1.5, 2.0), range(SEED, SEED + 8)
    hits: dict[tuple[str, float], float] = {}
    for load in loads:
        third = load * capacity_per_s() / 3
        tenants = [
            {**CHAT, "rate_per_s": third, "priority": priority, "timeout_s": timeout_s}
            for priority, timeout_s in enumerate((6, 12, 40))
        ]
        errors = {}
        for order, hidden in orders.items():
            runs = [simulate(tenants, hide_tenants=1, seed=seed, **hidden) for seed in seeds]
            shares = [books.hit_share for books in runs]
            hits[order, load] = float(np.mean(shares))
            errors[order] = float(np.std(shares, ddof=1) / len(shares) ** 0.5)
            each = [percent(float(np.mean([books.of(tenant).hit_share for books in runs]))) for tenant in range(3)]
            finding.rows.append([f"{load:g}", order, percent(hits[order, load]), percent(errors[order]), *each])
        for other in ("FCFS", "priority only"):
            ahead = hits["deadlines", load] - hits[other, load]
            noise = 2 * float(np.hypot(errors["deadlines"], errors[other]))
            verdict = "more" if ahead > noise else "fewer" if ahead < -noise else "no difference beyond noise"
            finding.goals.append(
                Goal(f"load {load:g}: more in time than {other}", f"{percent(ahead)} points, {verdict}", ahead > noise)
            )

    def draw(axes: Any) -> None:
        for order in orders:
            axes.plot(loads, [100 * hits[order, load] for load in loads], marker="o", label=order)
        axes.set(xlabel="load", ylabel="answers in time, %", title="deadline hit rate")
        axes.legend()

    finding.draw = draw
    return finding


def fairness() -> Finding:
    finding = Finding(
        "fairness",
        "Fairness between tenants",
        "Tenants that all ask for more than the whole replica, with requests of different shape. Service is what "
        "the scheduler charges: a prompt token 1, an output token 2, over the weight. The gap is the largest "
        "difference between two of them over any stretch of the run; the bound is that of the virtual token "
        "counter, 2 max(longest prompt, 2 x tokens of the sequences at once) over the smallest weight.",
        ("weights", "tenant", "requests/s asked", "share wanted %", "share had %", "largest gap", "bound"),
    )
    shapes = [
        CHAT,
        {**CHAT, "prompt_median": 1500, "output_median": 60},
        {**CHAT, "prompt_median": 80, "output_median": 400},
    ]
    series: dict[str, tuple[Any, list[Any]]] = {}
    for weights in ((1, 1, 1), (1, 2, 4)):
        tenants = [
            {**shape, "rate_per_s": 2 * capacity_per_s(), "weight": weight}
            for shape, weight in zip(shapes, weights, strict=True)
        ]
        books = simulate(tenants, sample_s=0.1)
        samples = books.service[books.service["at_s"] >= DURATION_S / 10]
        had = [
            own["prefilled"] + DECODE_COST * own["decoded"]
            for own in (samples[samples["tenant"] == i] for i in range(3))
        ]
        had = [cost - cost[0] for cost in had]
        total = sum(cost[-1] for cost in had)
        normal = [cost / weight for cost, weight in zip(had, weights, strict=True)]
        gap = max(float(np.ptp(one - other)) for one in normal for other in normal)
        bound = 2 * max(CHAT["prompt_max"], DECODE_COST * ENGINE["sequences_max"] * CHAT["output_max"]) / min(weights)
        name = ":".join(map(str, weights))
        series[name] = (samples["at_s"][samples["tenant"] == 0], [one - normal[0] for one in normal])
        for tenant, weight in enumerate(weights):
            finding.rows.append(
                [name, str(tenant + 1), f"{2 * capacity_per_s():.0f}", percent(weight / sum(weights)),
                 percent(had[tenant][-1] / total), f"{gap:,.0f}", f"{bound:,.0f}"]
            )  # fmt: skip
        finding.goals.append(
            Goal(f"{name}: the gap stays within the bound", f"{gap:,.0f} of {bound:,.0f}", gap <= bound)
        )

    def draw(axes: Any) -> None:
        at_s, gaps = series["1:2:4"]
        for tenant, gap in enumerate(gaps):
            axes.plot(at_s, gap, label=f"tenant {tenant + 1}")
        axes.set(xlabel="virtual s", ylabel="service / weight, less tenant 1's", title="service gap, weights 1:2:4")
        axes.legend()

    finding.draw = draw
    return finding


def prefix() -> Finding:
    finding = Finding(
        "prefix",
        "Prefix cache",
        "Three tenants with a system prompt of 1,000 tokens each and conversations of four turns on average. Off: "
        "every prompt begins with a token of its own, so nothing is shared.",
        ("load", "cache", "prompt tokens cached %", "goodput/s", "TTFT p50 ms", "p99 ms", "ITL p99 ms", "refused %"),
    )
    chat = {**CHAT, "system_tokens": 1000, "prompt_median": 150, "turns": 4, "think_s": 4}
    for load in (0.5, 0.8, 1.2):
        tenants = [{**chat, "rate_per_s": load * capacity_per_s() / 12}] * 3
        p50 = []
        for name, on in (("on", 1), ("off", 0)):
            books = simulate(tenants, engine={**ENGINE, "prefix_cache": on})
            begun = books.records[books.records["first_s"] >= 0]
            share = float(begun["cached_tokens"].sum() / begun["prompt_tokens"].sum())
            p50.append(books.ttft_s(0.5))
            finding.rows.append(
                [f"{load:g}", name, percent(share), f"{books.good(TTFT_S, ITL_S):.1f}", ms(books.ttft_s(0.5)),
                 ms(books.ttft_s(0.99)), ms(books.itl_s(0.99)), percent(books.refused_share)]
            )  # fmt: skip
        finding.goals.append(
            Goal(
                f"load {load:g}: a lower median TTFT with the cache",
                f"{ms(p50[0])} to {ms(p50[1])} ms",
                p50[0] < p50[1],
            )
        )
    return finding


def slow_readers() -> Finding:
    finding = Finding(
        "slow-readers",
        "Slow readers",
        "Two tenants at 0.35 of the capacity each; in the second case the other one's clients read 5 tokens a "
        "second, a tenth of what is made for them, and front ends pause what is 64 tokens ahead.",
        ("the other reads", "tenant", "answered/s", "TTFT p50 ms", "p99 ms", "ITL p99 ms"),
    )
    rate = 0.35 * capacity_per_s()
    p99 = []
    for name, read in (("at once", 0), ("slowly", 5)):
        chat = {**CHAT, "rate_per_s": rate}
        books = simulate([chat, {**chat, "read_tokens_per_s": read}], unread_max=64)
        p99.append((books.of(0).ttft_s(0.99), books.of(0).itl_s(0.99)))
        for tenant in range(2):
            own = books.of(tenant)
            finding.rows.append(
                [name, "the other" if tenant else "one", f"{own.per_s(own.answered):.1f}", ms(own.ttft_s(0.5)),
                 ms(own.ttft_s(0.99)), ms(own.itl_s(0.99))]
            )  # fmt: skip
    for what, quiet, slow in zip(("TTFT", "ITL"), *p99, strict=True):
        finding.goals.append(
            Goal(f"the first one's p99 {what} at most 1.1 x", f"{slow / quiet:.2f} x", slow <= 1.1 * quiet)
        )
    return finding


def refusals() -> Finding:
    """Why the door refuses, by load and class of customer."""
    finding = Finding(
        "refusals",
        "Why the door says no",
        "Three classes of one tenant, a third of the load each, with 10 s for the whole answer; share of all requests.",
        ("load", *REFUSALS, "engine"),
    )
    for load in (0.8, 1.2, 2.0, 10.0):
        third = load * capacity_per_s() / 3
        tenants = [{**CHAT, "rate_per_s": third, "priority": priority, "timeout_s": 10} for priority in range(3)]
        books = simulate(tenants, hide_tenants=1)
        shares = [float((books.records["refusal"] == code).mean()) for code in range(len(REFUSALS))]
        finding.rows.append([f"{load:g}", *map(percent, shares), percent(float((books.records["finish"] == 6).mean()))])
    return finding


def fleet() -> Finding:
    finding = Finding(
        "fleet",
        "A fleet of 1,000 replicas",
        "8 front ends before 1,000 schedulers; conversations begin as often as 0.8 of the capacity allows. A replica "
        "tells its load every so often, and a front end believes it until the next time. `own`: it adds what it sent "
        "there since. Hot: the largest share of all requests that one replica got, over the mean; late: no token "
        "within 1 s.",
        ("signal ms", "routing", "requests/s", "answered/s", "TTFT p50 ms", "p99 ms", "late %", "hot", "cached %"),
    )
    engine = {**ENGINE, "sequences_max": 32, "step_tokens_max": 512, "waiting_max": 100_000, "context_max": 4096,
              "blocks": 4096}  # fmt: skip
    chat = {"prompt_median": 200, "prompt_max": 800, "output_median": 60, "output_max": 200, "system_tokens": 400,
            "turns": 3, "think_s": 0.5}  # fmt: skip
    alone = simulate([{**chat, "rate_per_s": 200}], engine={**engine, "waiting_max": 512}, duration_s=20)
    replicas = 1000
    rate = 0.8 * alone.per_s(alone.answered) * replicas / chat["turns"]
    routings = {"random": (0, 0), "least": (1, 0), "least, own": (1, 1), "two": (2, 0), "two, own": (2, 1),
                "sessions, own": (3, 1)}  # fmt: skip
    p99: dict[tuple[str, int], float] = {}
    signals_ms = (10, 100)
    for signal_ms in signals_ms:
        for name, (routing, own) in routings.items():
            books = simulate(
                [{**chat, "rate_per_s": rate}], engine=engine, duration_s=5, replicas=replicas, front_ends=8,
                admission=0, routing=routing, count_own=own, signal_s=signal_ms / 1e3,
            )  # fmt: skip
            records = books.records
            begun = records[records["first_s"] >= 0]
            late = 1 - float((begun["first_s"] <= TTFT_S).sum()) / len(records)
            hot = np.bincount(records["replica"], minlength=replicas).max() / (len(records) / replicas)
            p99[name, signal_ms] = books.ttft_s(0.99)
            finding.rows.append(
                [str(signal_ms), name, f"{books.per_s(records):.0f}", f"{books.per_s(books.answered):.0f}",
                 ms(books.ttft_s(0.5)), ms(books.ttft_s(0.99)), percent(late),
                 f"{hot:.1f}", percent(float(begun["cached_tokens"].sum() / begun["prompt_tokens"].sum()))]
            )  # fmt: skip

    def draw(axes: Any) -> None:
        for place, signal_ms in enumerate(signals_ms):
            heights = [p99[name, signal_ms] for name in routings]
            axes.bar([place * 0.4 + i for i in range(len(routings))], heights, 0.4, label=f"signals {signal_ms} ms old")
        axes.set_xticks(range(len(routings)), routings)
        axes.set(yscale="log", ylabel="TTFT p99, s", title="1,000 replicas")
        axes.legend()

    finding.draw = draw
    return finding


SCENARIOS: dict[str, Callable[[], Finding]] = {
    "load": load,
    "demo": demo,
    "flood": flood,
    "reservations": reservations,
    "priority": priority,
    "deadlines": deadlines,
    "refusals": refusals,
    "fairness": fairness,
    "prefix": prefix,
    "slow-readers": slow_readers,
    "fleet": fleet,
}
