"""The page of results."""

from collections.abc import Sequence
from datetime import UTC, datetime

from load import Sample, percentile
from soaked import Soaked, is_whole

GOAL = 1.2  # times the p99 without the misbehaving
ROWS = 10


def page(soaked: Soaked) -> str:
    """The page."""
    return "\n".join(
        [
            "# A soak with a tenth of the clients misbehaving",
            "",
            f"`python bench/soak/run.py`, {datetime.now(UTC):%Y-%m-%d}: {soaked.machine}, for the server and for its",
            "clients; two front ends, the demo model on one thread. Good clients on 36 connections ask for",
            f"{soaked.rate:g} streams a second, {soaked.minutes / 4:g} minutes alone and {soaked.minutes:g} beside 4",
            f"clients that misbehave in turn. The server used {soaked.busy['calm']:.2f} cores alone and",
            f"{soaked.busy['with them']:.2f} beside them.",
            "",
            *_faults(soaked),
            "",
            *_latency(soaked),
            "",
            *_memory(soaked),
            "",
            *_meanwhile(soaked),
            "",
            "What was done to it: " + ", ".join(f"{name} {times}" for name, times in sorted(soaked.done.items())) + ".",
            "",
        ]
    )


def _faults(soaked: Soaked) -> list[str]:
    if soaked.faults:
        return [f"* **{fault}**" for fault in soaked.faults]
    count = len(soaked.calm) + len(soaked.beset)
    return [f"All of {count:,} good streams came whole; every sequence, block and descriptor was given back."]


def _latency(soaked: Soaked) -> list[str]:
    told = [
        "| good streams | | alone, ms | beside them, ms | ratio |",
        "| --- | --- | --- | --- | --- |",
    ]
    for words, take in (("TTFT", _ttft), ("ITL", _itl)):
        for share in (50, 99):
            alone, beside = (1000 * percentile(take(some), share / 100) for some in (soaked.calm, soaked.beset))
            goal = "" if share == 50 else f", goal <= {GOAL}"
            told.append(f"| {words} | p{share} | {alone:.2f} | {beside:.2f} | {beside / alone:.2f}{goal} |")
    return told


def _memory(soaked: Soaked) -> list[str]:
    assert soaked.after is not None
    told = [
        "| process | RSS before, MiB | after | second half: MiB an hour | descriptors before | most | after |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, before in soaked.before.rss_bytes.items():
        half = soaked.looks[len(soaked.looks) // 2 :]
        slope = _slope([look.at_s / 3600 for look in half], [look.rss_bytes[name] / 2**20 for look in half])
        after, most = soaked.after.rss_bytes[name], max(look.descriptors[name] for look in soaked.looks)
        told.append(
            f"| {name} | {before / 2**20:.1f} | {after / 2**20:.1f} | {slope:+.1f} "
            f"| {soaked.before.descriptors[name]} | {most} | {soaked.after.descriptors[name]} |"
        )
    return told


def _meanwhile(soaked: Soaked) -> list[str]:
    """What was seen, in some parts of the time."""
    looks = soaked.looks
    names = list(soaked.before.rss_bytes)
    told = [
        "| minute | TTFT p99, ms | ITL p99, ms | in flight, most | paused, most | blocks free, least | RSS, MiB: "
        + ", ".join(names)
        + " |",
        "| --- |" + " --- |" * 6,
    ]
    first_s, width_s = looks[0].at_s, 60 * soaked.minutes / ROWS
    for row in range(ROWS):
        from_s, to_s = first_s + row * width_s, first_s + (row + 1) * width_s
        seen = [look for look in looks if from_s <= look.at_s < to_s]
        good = [sample for sample in soaked.beset if from_s <= sample.due_s < to_s]
        if seen and good:
            told.append(
                f"| {(row + 1) * width_s / 60:.1f} | {1000 * percentile(_ttft(good), 0.99):.1f} "
                f"| {1000 * percentile(_itl(good), 0.99):.1f} | {max(look.in_flight for look in seen):g} "
                f"| {max(look.paused for look in seen):g} | {min(look.blocks_free for look in seen):g} "
                f"| {', '.join(f'{seen[-1].rss_bytes[name] / 2**20:.1f}' for name in names)} |"
            )
    return told


def _ttft(samples: Sequence[Sample]) -> list[float]:
    return [sample.ttft_s for sample in samples if is_whole(sample)]


def _itl(samples: Sequence[Sample]) -> list[float]:
    return [gap for sample in samples if is_whole(sample) for gap in sample.itl_s]


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line through these points, by least squares; 0 of one point."""
    middle = sum(x) / len(x)
    spread = sum((one - middle) ** 2 for one in x)
    return sum((one - middle) * other for one, other in zip(x, y, strict=True)) / spread if spread else 0.0
