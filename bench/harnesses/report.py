"""bench/results/harnesses.md: which client works, what each printed, in which version."""

import re
import shlex
import tempfile
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
    "others": "other clients, by short programs in `bench/harnesses/others`",
}
PROGRAMS = {
    "openai_python": lambda: f"{programs.PYTHON.whole[0]}, examples at {commit('openai-python')}",
    "openai_node": lambda: f"{programs.NODE.whole[0]}, examples at {commit('openai-node')}",
    "others": lambda: ", ".join(programs.OTHERS.whole[:4]),
}
FIXED_WORDS = """## Programs

They ask for models by OpenAI's names. The server has one under each of these names, loaded on demand: a checkpoint that
says fixed words (`bench/harnesses/puppet.py`), so that a program that waits for a certain call or form gets it. Of the
SDKs' example programs these are not run:
"""


def report(ended: Sequence[tuple[str, Ran]], machine: str) -> str:
    """The page."""
    names = list(dict.fromkeys(name for name, _ in ended))
    by_name = {name: [ran for of, ran in ended if of == name] for name in names}
    rows = "\n".join(f"| {TITLES[name]} | {_version(name)} | {_works(by_name[name])} |" for name in names)
    parts = [HEAD.format(day=date.today(), machine=machine, rows=rows)]
    parts += [_programs({name: by_name[name] for name in names if name in PROGRAMS})]
    parts += [_printed(name, by_name[name]) for name in names if name not in PROGRAMS]
    return "\n".join(parts).rstrip() + "\n"


def _version(name: str) -> str:
    if name in PROGRAMS:
        return PROGRAMS[name]()
    packages = {"vllm": loads.VLLM.bare, "aiperf": loads.AIPERF.whole, "lm_eval": loads.LM_EVAL.whole}
    return packages[name][0].partition("==")[2]


def _works(ran: Sequence[Ran]) -> str:
    good = sum(one.works for one in ran)
    return "yes" if good == len(ran) == 1 else f"{good} of {len(ran)}"


def _programs(ended: dict[str, list[Ran]]) -> str:
    not_run = [f"* {what}: {why}" for what, why in programs.NOT_RUN.items()]
    parts = [FIXED_WORDS, *not_run]
    for name, ran in ended.items():
        rows = [f"| `{one.what}` | {'yes' if one.works else 'no: ' + _reason(one)} |" for one in ran]
        parts += [f"\n### {TITLES[name].capitalize()}\n", "| program | works |", "| --- | --- |", *rows]
    return "\n".join(parts) + "\n" if ended else ""


def _reason(ran: Ran) -> str:
    """The line of a program's output that tells best what went wrong."""
    lines = (
        [line.strip() for line in ran.output.splitlines() if "rror" in line] or ran.output.splitlines()[-1:] or ["-"]
    )
    return lines[-1].replace("|", "\\|")[:160]


def _printed(name: str, ended: Sequence[Ran]) -> str:
    return "\n".join([f"## {TITLES[name]}\n", *(_console(ran) for ran in ended)])


def _console(ran: Ran) -> str:
    text = f"$ {shlex.join(ran.command)}\n{ran.shown}"
    text = re.sub(rf"{tempfile.gettempdir()}/\w+/", "out/", text)
    for path, name in ((f"{CACHE}/", "$ARUNTIME_HARNESSES/"), (f"{Path(__file__).parent.parent.parent}/", "")):
        text = text.replace(path, name)
    return f"```console\n{text}\n```\n"
