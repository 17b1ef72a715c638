"""The real server under more than it can take: the demo model on one thread, in few places, over HTTP/2, open loop.

    python bench/overload.py [--json FILE] [--seed N] [--rounds N]

    peak        answered a second when half as much again is sent, and nobody minds two seconds in the queue
    calm        0.8 of it; its p99 TTFT, as an operator would read it, becomes the objective of the server that follows
    overload    2 and 10 times the peak; what is refused is to be refused at once, what is admitted answered in time
    come again  2 times the peak for a while, then nothing new: clients come again when they were told
    flood       one tenant of three sends 10 times its share of the peak, beside two that send shorter ones
    classes     1.2 times the peak, a third of it from each class
    deadlines   1.5 times the peak with deadlines, and a few that nobody could meet

Three servers stand side by side and are asked in turn, round after round, so that all meet the same weather. Samples of
a phase are pooled over the rounds; a share of the peak is the median over the rounds. The first second of a phase is
not counted. TTFT is taken from the moment when a request was due, and how late the generator sent it is told. Writes
bench/results/overload.md. About four minutes.
"""

import argparse
import hashlib
import json
import math
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import uvloop
from load import Run, Sample, Source, percentile
from quick import ROOT, machine, serving
from rich.console import Console
from rich.table import Table

RESULTS = ROOT / "bench/results/overload.md"
LIMITS = "[limits]\nsequences_max = 8\nwaiting_max = 64\nstep_tokens_max = 256\ncache_bytes = 67_108_864\n"
ASK = Source(1.0, input_words=100, output_tokens=256)
MODEST = replace(ASK, output_tokens=64)
TENANTS = ("flood", "one", "two")
PHASE_S, SETTLE_S, PATIENCE_S = 6.0, 1.0, 20.0
CONNECTIONS = 8
NOW_S = 0.02  # at once; and how far from its moment a deadline may be told
RATES = ("sent/s", "answered/s", "in time/s")
TIMES = ("TTFT p50", "TTFT p95", "TTFT p99", "refused in, p50", "refused in, p99")
COLUMNS = ("load", *RATES, *TIMES, "not answered")


@dataclass(slots=True)
class Phase:
    """A load, over the rounds: the requests that were due in `seconds`, and those whose answer ended in them."""

    samples: list[Sample] = field(default_factory=list)
    ended: list[Sample] = field(default_factory=list)
    seconds: float = 0.0

    def __add__(self, other: "Phase") -> "Phase":
        return Phase(self.samples + other.samples, self.ended + other.ended, self.seconds + other.seconds)

    def only(self, condition: Callable[[Sample], bool]) -> "Phase":
        """The part of it that is so."""
        samples, ended = ([one for one in some if condition(one)] for some in (self.samples, self.ended))
        return Phase(samples, ended, self.seconds)

    def of(self, name: str) -> "Phase":
        """The part from one source."""
        return self.only(lambda one: one.source.name == name)

    @property
    def answered(self) -> "Phase":
        return self.only(lambda one: one.ok)

    @property
    def refused(self) -> "Phase":
        return self.only(lambda one: one.status not in (0, 200))

    def good_per_s(self, ttft_s: float = math.inf) -> float:
        """Answers a second whose first token came within `ttft_s`."""
        return sum(one.ok and one.ttft_s <= ttft_s for one in self.ended) / self.seconds

    def ttft_s(self, share: float) -> float:
        return percentile([one.ttft_s for one in self.answered.samples], share)

    def refusal_s(self, share: float) -> float:
        """From the moment when a request was due until it was refused."""
        return percentile([one.e2e_s for one in self.refused.samples], share)

    def row(self, name: str, ttft_s: float) -> list[str]:
        """What COLUMNS say."""
        ends = Counter(f"{one.status} {one.code}".strip() for one in self.samples if not one.ok)
        times = [*map(self.ttft_s, (0.5, 0.95, 0.99)), *map(self.refusal_s, (0.5, 0.99))]
        rates = [len(self.samples) / self.seconds, self.good_per_s(), self.good_per_s(ttft_s)]
        others = ", ".join(f"{end}: {count}" for end, count in sorted(ends.items()))
        return [name, *(f"{rate:.1f}" for rate in rates), *map(ms, times), others]


@dataclass(frozen=True, slots=True)
class Goal:
    """What was wanted, what came out, and whether that is enough."""

    text: str
    figure: str
    met: bool


class Bench:
    """What was measured so far."""

    def __init__(self, seed: int, rounds: int) -> None:
        self.rounds = rounds
        self.rows: list[list[str]] = []
        self.goals: list[Goal] = []
        self.peaks: list[float] = []
        self.late_s: list[float] = []  # of every request, by the generator
        self.busy: list[float] = []  # of a core, by the generator, in each phase
        self._seed = seed

    def load(self, url: str, *sources: Source, duration_s: float = PHASE_S, settle_s: float = SETTLE_S) -> Phase:
        """Send them for so long; the part of it that is counted."""
        self._seed += 1
        start_s, cpu_s = time.monotonic(), time.process_time()
        samples = uvloop.run(Run(url, "demo", sources, duration_s, self._seed).samples(CONNECTIONS, PATIENCE_S))
        self.busy.append((time.process_time() - cpu_s) / (time.monotonic() - start_s))
        self.late_s += [one.sent_s - one.due_s for one in samples]
        from_s, to_s = start_s + settle_s, start_s + duration_s
        due = [one for one in samples if one.due_s > from_s]
        return Phase(due, [one for one in samples if from_s < one.end_s < to_s], duration_s - settle_s)

    def goal(self, text: str, figure: str, met: bool) -> None:
        self.goals.append(Goal(text, figure, met))

    @property
    def peak_per_s(self) -> float:
        return statistics.median(self.peaks)


@contextmanager
def demo(more: str = "", *arguments: str) -> Iterator[str]:
    """The url of a server of few places, warm. `more` ends its model.toml."""
    with tempfile.TemporaryDirectory() as folder:
        repository = shutil.copytree(ROOT / "examples/repository", Path(folder) / "repository")
        (repository / "demo/model.toml").write_text(LIMITS + more)
        given = ["--repository", str(repository), "--threads", "1", "--log-level", "error"]
        with serving(*given, *arguments) as ready:
            yield ready["url"]


def tenants(folder: Path) -> Path:
    """A file of TENANTS, whose keys are their names."""
    file = folder / "tenants.toml"
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in TENANTS}
    file.write_text("".join(f'[tenants.{name}]\nkeys = ["sha256:{digest}"]\n' for name, digest in digests.items()))
    file.chmod(0o600)
    return file


def find_peak(bench: Bench, url: str) -> float:
    """Find the peak; returns the p99 TTFT at 0.8 of it, the median of the rounds'."""
    guess = bench.load(url, replace(ASK, rate=40)).good_per_s()
    calm_s = []
    for _ in range(bench.rounds):
        bench.peaks.append(bench.load(url, replace(ASK, rate=1.5 * guess)).good_per_s())
        calm_s.append(bench.load(url, replace(ASK, rate=0.8 * bench.peaks[-1])).ttft_s(0.99))
    return statistics.median(calm_s)


def overload(bench: Bench, patient: str, prompt: str) -> None:
    """Rounds of the peak on the patient server, and of 0.8, 2 and 10 times that on the one with an objective."""
    rounds = []
    for _ in range(bench.rounds):
        full = bench.load(patient, replace(ASK, rate=1.5 * bench.peak_per_s))
        bench.peaks.append(full.good_per_s())
        phases = {f"{load:g}": bench.load(prompt, replace(ASK, rate=load * bench.peak_per_s)) for load in (0.8, 2, 10)}
        rounds.append({"1.5, without an objective": full} | phases)
    pooled = {load: sum((one[load] for one in rounds), Phase()) for load in rounds[0]}
    in_time_s = 1.5 * pooled["0.8"].ttft_s(0.99)
    bench.rows += [phase.row(load, in_time_s) for load, phase in pooled.items()]
    for load, least in (("2", 0.95), ("10", 0.90)):
        peaks = [one["1.5, without an objective"].good_per_s() for one in rounds]
        share = statistics.median(
            one[load].good_per_s(in_time_s) / peak for one, peak in zip(rounds, peaks, strict=True)
        )
        ratio = pooled[load].ttft_s(0.99) / pooled["0.8"].ttft_s(0.99)
        refused = pooled[load].refused
        honest = refused.only(lambda one: one.status == 503 and one.retry_after_s is not None)
        told_s = refused.refusal_s(0.99)
        bench.goal(f"{load}x: goodput at least {least:.0%} of the peak", f"{share:.0%}", share >= least)
        bench.goal(f"{load}x: p99 TTFT of the admitted at most 1.5 x that at 0.8", f"{ratio:.2f} x", ratio <= 1.5)
        bench.goal(
            f"{load}x: every refusal is 503 with Retry-After",
            f"{len(honest.samples)} of {len(refused.samples)}",
            len(honest.samples) == len(refused.samples),
        )
        bench.goal(f"{load}x: refused within milliseconds, p99 below {ms(NOW_S)}", ms(told_s), told_s < NOW_S)


def come_again(bench: Bench, url: str) -> None:
    """A burst of clients who come again when they were told."""
    phase = bench.load(url, replace(ASK, rate=2 * bench.peak_per_s, retries=8), settle_s=0)
    clients, again = phase.only(lambda one: one.attempt == 1), phase.only(lambda one: one.attempt > 1)
    answered, let_in = len(phase.answered.samples), len(again.only(lambda one: one.status == 200).samples)
    work_s = len(clients.samples) / bench.peak_per_s
    took_s = max(one.end_s for one in phase.samples) - min(one.due_s for one in phase.samples)
    bench.rows.append(phase.row("2, come again", math.inf))
    bench.goal(
        "come again: of the clients who do when they were told, all are answered in the end",
        f"{answered} of {len(clients.samples)}, after {took_s:.1f} s; their work is {work_s:.1f} s at the peak",
        answered == len(clients.samples),
    )
    bench.goal(
        "come again: when they do there is room for them, for nine of ten",
        f"{let_in} of {len(again.samples)} were let in",
        let_in >= 0.9 * len(again.samples),
    )


def flood(bench: Bench, url: str) -> None:
    """Rounds of two modest tenants alone, and beside one that sends ten times its share."""
    modest = [replace(MODEST, name=name, key=name, rate=0.2 * bench.peak_per_s) for name in TENANTS[1:]]
    flooder = replace(ASK, name="flood", key="flood", rate=10 * bench.peak_per_s / len(TENANTS))
    alone, beside, flooded = Phase(), Phase(), Phase()
    for _ in range(bench.rounds):
        alone += bench.load(url, *modest)
        both = bench.load(url, *modest, flooder)
        flooded += both.of("flood")
        beside += both.only(lambda one: one.source.name != "flood")
    bench.rows.append(alone.row("two tenants alone", math.inf))
    bench.rows.append(beside.row("the two beside the flood", math.inf))
    bench.rows.append(flooded.row("the flood", math.inf))
    ratio = beside.ttft_s(0.99) / alone.ttft_s(0.99)
    refused = len(beside.refused.samples)
    bench.goal("flood: nobody else is refused", f"{refused} of {len(beside.samples)}", refused == 0)
    bench.goal("flood: p99 TTFT of the others at most 1.3 x that alone", f"{ratio:.2f} x", ratio <= 1.3)


def classes(bench: Bench, url: str) -> None:
    """A third of the load from each class."""
    names = ("interactive", "standard", "batch")
    sources = [replace(ASK, name=name, priority=name, rate=0.4 * bench.peak_per_s) for name in names]
    phase = bench.load(url, *sources, duration_s=2 * PHASE_S)
    parts = {name: phase.of(name) for name in names}
    bench.rows += [part.row(f"1.2, {name}", math.inf) for name, part in parts.items()]
    p50 = [part.ttft_s(0.5) for part in parts.values()]
    share = parts["batch"].good_per_s() / phase.good_per_s()
    bench.goal("classes: the higher the sooner, p50 TTFT", " < ".join(f"{ms(one)}" for one in p50), p50 == sorted(p50))
    bench.goal("classes: batch has its share, at least 1 of 21 answers", f"{share:.1%}", share >= 1 / 21)


def deadlines(bench: Bench, url: str) -> None:
    """Ample ones, tight ones, and some that nobody could meet."""
    kinds = {"ample": (5000, 0.7), "tight": (1000, 0.7), "hopeless": (50, 0.1)}
    sources = [
        replace(ASK, name=name, timeout_ms=timeout_ms, rate=share * bench.peak_per_s)
        for name, (timeout_ms, share) in kinds.items()
    ]
    phase = bench.load(url, *sources, duration_s=2 * PHASE_S)
    bench.rows += [phase.of(name).row(f"1.5, {name}", math.inf) for name in kinds]
    door = phase.only(lambda one: one.status == 504 and past_s(one) < 0)
    queue = phase.only(lambda one: one.status == 504 and past_s(one) >= 0)
    stream = phase.only(lambda one: one.status == 200 and one.code == "deadline_exceeded")
    kept = phase.answered.only(lambda one: past_s(one) <= 0)
    admitted = len(kept.samples) + len(queue.samples) + len(stream.samples)
    told_s = percentile([abs(past_s(one)) for one in (queue + stream).samples], 0.99)
    passed = f"{len(queue.samples)} passed in the queue, {len(stream.samples)} in the stream"
    rate = len(kept.samples) / admitted
    bench.goal("deadlines: nine of ten that were let in are met", f"{rate:.0%} of {admitted}; {passed}", rate >= 0.9)
    bench.goal(
        f"deadlines: out of reach is told at once, p99 below {ms(NOW_S)}",
        f"{ms(door.refusal_s(0.99))}, {len(door.samples)} of them",
        door.refusal_s(0.99) < NOW_S,
    )
    bench.goal(f"deadlines: one that passes is told within {ms(NOW_S)}, p99", ms(told_s), not told_s > NOW_S)


def past_s(sample: Sample) -> float:
    """How long after its deadline an answer ended."""
    assert sample.source.timeout_ms is not None
    return sample.end_s - sample.sent_s - sample.source.timeout_ms / 1000


def markdown(bench: Bench, options: argparse.Namespace, calm_s: float) -> str:
    """bench/results/overload.md."""

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        lines = [columns, ["---"] * len(columns), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    missed = sum(not goal.met for goal in bench.goals)
    peaks = f"{min(bench.peaks):.1f} to {max(bench.peaks):.1f}"
    late = " and ".join(ms(percentile(bench.late_s, share)) for share in (0.5, 0.99))
    return f"""# The real server under overload

Written by `python bench/overload.py --seed {options.seed} --rounds {options.rounds}` on {time.strftime("%Y-%m-%d")}:
{machine()}, shared with the generator and whatever else runs there. The demo model on one
thread; requests of {ASK.input_words} words and {ASK.output_tokens} tokens ({MODEST.output_tokens} beside the flood),
streamed over {CONNECTIONS} HTTP/2 connections, Poisson arrivals.

```toml
{LIMITS}```

The peak was {bench.peak_per_s:.1f} answers a second ({peaks} over the rounds: what is nearer than that is noise).
The objective was {ms(calm_s)}, the p99 TTFT at 0.8. Loads are in peaks; "in time" is within 1.5 x the p99 TTFT of the
0.8 row, where that applies. The generator sent its requests {late} late at p50 and p99, and
took {max(bench.busy):.0%} of a core at most.

## Goals: {len(bench.goals) - missed} met, {missed} missed

{table(("goal", "measured", "met"), [(goal.text, goal.figure, "yes" if goal.met else "no") for goal in bench.goals])}

## Figures

{table(COLUMNS, bench.rows)}
"""


def show(bench: Bench) -> None:
    """The same on the terminal."""
    figures = Table(*COLUMNS, title=f"aruntime on {machine()}")
    for row in bench.rows:
        figures.add_row(*row)
    goals = Table("goal", "measured", "met")
    for goal in bench.goals:
        goals.add_row(goal.text, goal.figure, "[green]yes" if goal.met else "[red]no")
    console = Console(width=160)
    console.print(figures)
    console.print(goals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    bench = Bench(1000 * options.seed, options.rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        patient = stack.enter_context(demo())
        calm_s = find_peak(bench, patient)
        objective = f"\n[objectives]\nttft_s = {calm_s:.4f}\n"
        prompt = stack.enter_context(demo(objective))
        shared = stack.enter_context(demo(objective, "--tenants", str(tenants(folder))))
        overload(bench, patient, prompt)
        come_again(bench, prompt)
        flood(bench, shared)
        classes(bench, patient)
        deadlines(bench, patient)
    show(bench)
    RESULTS.write_text(markdown(bench, options, calm_s))
    if options.json:
        figures = [dict(zip(COLUMNS, row, strict=True)) for row in bench.rows]
        goals = [asdict(goal) for goal in bench.goals]
        found = {"machine": machine(), "peaks_per_s": bench.peaks, "goals": goals, "figures": figures}
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def ms(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{1e3 * seconds:,.{0 if seconds >= 0.1 else 1}f} ms"


if __name__ == "__main__":
    main()
