"""Runs unmodified clients against a real server with the demo model, on loopback, and keeps what they print.

    python bench/harnesses/run.py                     all of them; writes bench/results/harnesses.md
    python bench/harnesses/run.py vllm aiperf         only these, printed and not written
    python bench/harnesses/run.py --kept FOLDER …     keeps their whole output there

A client is installed at its first use, into a virtual environment of its own (installed.py). Exits 1 when one does not
work.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import loads  # noqa: E402
import programs  # noqa: E402
from quick import machine, serving  # noqa: E402
from ran import Ran  # noqa: E402
from report import report  # noqa: E402

RESULTS = ROOT / "bench/results/harnesses.md"
DEMO = ROOT / "examples/repository"
LOADS = {"vllm": loads.vllm_bench, "aiperf": loads.aiperf, "lm_eval": loads.lm_eval}
EXAMPLES = {"openai_python": programs.python_examples, "openai_node": programs.node_examples, "others": programs.others}


def harnesses(names: Sequence[str], kept: Path) -> Iterator[tuple[str, Ran]]:
    """Every command of the named harnesses, as it ends."""
    if asked := [name for name in LOADS if name in names]:
        with serving("--log-level", "warning", "--repository", str(DEMO)) as ready:
            for name in asked:
                yield from ((name, ran) for ran in LOADS[name](ready["url"], "demo", DEMO / "demo/1", kept))
    if asked := [name for name in EXAMPLES if name in names]:
        repository = programs.make_repository(kept / "models")
        with serving("--log-level", "warning", "--repository", str(repository)) as ready:
            for name in asked:
                yield from ((name, ran) for ran in EXAMPLES[name](ready["url"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *LOADS, *EXAMPLES], metavar="NAME")
    parser.add_argument("--kept", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        kept, ended = options.kept or Path(scratch), []
        for name, ran in harnesses(options.names or [*LOADS, *EXAMPLES], Path(scratch)):
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"{name}-{re.sub('[^a-z_-]+', '-', ran.what)}.txt").write_text(ran.output)
            print(f"{'works' if ran.works else 'DOES NOT WORK':14}{ran.seconds:6.1f} s  {name}: {ran.what}", flush=True)
            ended.append((name, ran))
    if not options.names:
        RESULTS.write_text(report(ended, machine()))
    sys.exit(not all(ran.works for _, ran in ended))


if __name__ == "__main__":
    main()
