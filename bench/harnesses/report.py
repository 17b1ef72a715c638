"""bench/results/harnesses.md: which client works, what each printed, in which version."""

import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import loads
import programs
from installed import CACHE, commit
from ran import Ran

HEAD = """# Unmodified clients, {day}

Written by `python bench/harnesses/run.py` ({machine}). Every client is as its project publishes it. Other work shared
the cores, so the figures that some print are no measurements of this server: that they are there, and that they agree
with what was asked for, is what is to be seen.

| client | version | works |
| --- | --- | --- |
{rows}
"""
TITLES = {
    "vllm": "`vllm bench serve`",
    "aiperf": "`aiperf profile`",
    "lm_eval": "lm-eval, on the tasks of `bench/harnesses/lm_eval_task`",
    "openai_python": "example programs of openai-python",
    "openai_node": "example programs of openai-node",
}
PROGRAMS = """The programs ask for models by OpenAI's names. The server has one under each of these names, loaded on
demand: a checkpoint that says fixed words (`bench/harnesses/puppet.py`), so that a program that waits for a
certain call or form gets it. Not run:

{not_run}
"""


def report(ended: Sequence[tuple[str, Ran]], machine: str) -> str:
    """The page."""
    names = list(dict.fromkeys(name for name, _ in ended))
    by_name = {name: [ran for of, ran in ended if of == name] for name in names}
    rows = "\n".join(f"| {TITLES[name]} | {_version(name)} | {_works(by_name[name])} |" for name in names)
    parts = [HEAD.format(day=date.today(), machine=machine, rows=rows)]
    for name in names:
        parts.append(f"## {TITLES[name]}\n")
        if name.startswith("openai"):
            not_run = "\n".join(f"* {what}: {why}" for what, why in programs.NOT_RUN.items())
            parts.append(PROGRAMS.format(not_run=not_run))
            parts.append(_table(by_name[name]))
        else:
            parts.extend(_printed(ran) for ran in by_name[name])
    return "\n".join(parts).rstrip() + "\n"


def _version(name: str) -> str:
    packages = {"vllm": loads.VLLM.bare, "aiperf": loads.AIPERF.whole, "lm_eval": loads.LM_EVAL.whole}
    if name in packages:
        return packages[name][0].partition("==")[2]
    package, project = {
        "openai_python": (programs.PYTHON.whole[0].partition("==")[2], "openai-python"),
        "openai_node": (programs.NODE.whole[0].partition("@")[2], "openai-node"),
    }[name]
    return f"{package}, examples at {commit(project)}"


def _works(ran: Sequence[Ran]) -> str:
    good = sum(one.works for one in ran)
    return "yes" if good == len(ran) == 1 else f"{good} of {len(ran)}"


def _table(ran: Sequence[Ran]) -> str:
    rows = "\n".join(f"| `{one.what}` | {'yes' if one.works else 'no: ' + _reason(one)} |" for one in ran)
    return f"\n| program | works |\n| --- | --- |\n{rows}\n"


def _reason(ran: Ran) -> str:
    """The line of a program's output that tells best what went wrong."""
    lines = (
        [line.strip() for line in ran.output.splitlines() if "rror" in line] or ran.output.splitlines()[-1:] or ["-"]
    )
    return lines[-1].replace("|", "\\|")[:160]


def _printed(ran: Ran) -> str:
    home, here = str(CACHE), str(Path(__file__).parent.parent.parent)
    words = shlex.join(ran.command).replace(home, "$ARUNTIME_HARNESSES").replace(f"{here}/", "")
    shown = ran.shown.replace(home, "$ARUNTIME_HARNESSES").replace(f"{here}/", "")
    return f"{ran.what}:\n\n```console\n$ {words}\n{shown}\n```\n"
