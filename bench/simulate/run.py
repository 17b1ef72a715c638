"""Simulates every scenario, prints its tables, and writes bench/results/simulation.md with its pictures.

    python bench/simulate/run.py                 all of them, some minutes on one core
    python bench/simulate/run.py load fairness   only these, printed and not written

Every figure comes from a run of tests/simulation/cpp with the seed that is printed. Needs the dependency group `bench`.
"""

import argparse
import json
import time

import matplotlib
from program import ROOT
from rich.console import Console
from rich.table import Table
from scenarios import SCENARIOS, SEED, Finding, capacity_per_s
from step_times import MEASURED, h200_8b

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "aruntime"  # the same picture, the same file
matplotlib.rcParams["svg.fonttype"] = "none"
from matplotlib import pyplot  # noqa: E402

RESULTS = ROOT / "bench/results"


def show(finding: Finding, console: Console) -> None:
    table = Table(title=finding.title)
    for column in finding.columns:
        table.add_column(column, justify="right")
    for row in finding.rows:
        table.add_row(*row)
    console.print(table)
    for goal in finding.goals:
        console.print(f"{'met    ' if goal.met else 'not met'}  {goal.text}: {goal.figure}")
    console.print()


def picture(finding: Finding) -> str:
    """Draws the finding's picture; returns its line of the page."""
    if finding.draw is None:
        return ""
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    finding.draw(axes)
    axes.grid(alpha=0.3)
    name = f"simulation-{finding.name}.svg"
    figure.savefig(RESULTS / name, metadata={"Date": None})
    pyplot.close(figure)
    return f"\n![{finding.title}]({name})\n"


def section(finding: Finding) -> str:
    lines = [f"## {finding.title}", "", finding.about, ""]
    lines += ["| " + " | ".join(finding.columns) + " |", "| " + " | ".join("---" for _ in finding.columns) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in finding.rows]
    if finding.goals:
        lines += ["", "| goal | figure | |", "| --- | --- | --- |"]
        lines += [f"| {goal.text} | {goal.figure} | {'met' if goal.met else '**not met**'} |" for goal in finding.goals]
    return "\n".join(lines) + "\n" + picture(finding)


def opening() -> str:
    measured = json.loads(MEASURED.read_text())
    times = {"8B on an H200, by arithmetic": h200_8b(), f"demo model on {measured['machine']}": measured["step_time"]}
    names = ("base_s", "prefill_token_s", "decode_s", "context_token_s", "noise")
    rows = "\n".join(
        f"| {who} | " + " | ".join(f"{one[name]:.3g}" for name in names) + " |" for who, one in times.items()
    )
    return f"""# By simulation

The product's own scheduler and door rule on virtual time ([docs/simulation.md](../../docs/simulation.md)):
`python bench/simulate/run.py`, seed {SEED}. Nothing here was measured on a GPU. The step times:

| machine | {" | ".join(names)} |
| --- | --- | --- | --- | --- | --- |
{rows}

The first is the roofline of the data sheet with the shares assumed in `bench/simulate/step_times.py`; the second was
fitted by `bench/simulate/calibrate.py` to {measured["steps"]} real steps ({measured["left_out"]} left out; relative
error median {measured["relative_error_median"]:.1%}, p90 {measured["relative_error_p90"]:.1%}). Where nothing else is
said it is the first. Load 1 is {capacity_per_s():.1f} requests/s. Goodput counts answers whose first token came within
1 s and whose tokens came at most 50 ms apart in the mean. Where no number of seeds is given it is one, and small
differences are noise. What had not ended when a run did counts as not answered.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    console = Console(width=140)
    pages = []
    for name in options.scenarios or SCENARIOS:
        started = time.perf_counter()
        finding = SCENARIOS[name]()
        show(finding, console)
        console.print(f"seed {SEED}, {time.perf_counter() - started:.1f} s\n")
        pages.append(finding)
    if not options.scenarios:
        page = "\n".join([opening(), *map(section, pages)])
        (RESULTS / "simulation.md").write_text(page)


if __name__ == "__main__":
    main()
