"""`aruntime rollout start | status | pause | resume | promote | roll-back | watch`: how a new version takes over.

The exit status of whoever waits for the end: 0 when it ended as was asked for, 1 when it did not.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from aruntime.cli.admin_client import AdminClient, Answer, Refused, add_admin, asking, named, one_version
from aruntime.cli.output import Row, tell
from aruntime.cli.serving import rollout_words

_LOOK_S = 0.5
# A rollout outlives its server, which may be started anew meanwhile.
_AWAY_S_MAX = 60.0
_STEERING = {
    "pause": "stay in this stage; its gates go on guarding",
    "resume": "go on, with the stage's window begun anew",
    "promote": "go to the next stage at once, whatever was seen",
    "roll-back": "send the new version back",
}
_ENDS = ("complete", "rolled_back", "aborted")
_COLOURS = {"pass": "green", "breach": "bold red", "undecided": "yellow"}


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the commands."""
    parser = commands.add_parser("rollout", help="replace a model's stable version, step by step", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    start = actions.add_parser("start", help="begin, as the model's rollout policy says")
    start.add_argument("version", type=one_version, metavar="NAME@VERSION")
    start.set_defaults(ends=("complete",))
    status = actions.add_parser("status", help="the rollouts under way, and how the last ones ended")
    status.add_argument("name", type=named, nargs="?", help="[all models]")
    watch = actions.add_parser(
        "watch", help="look at it until it ends: status 0 when the new version took over, else 1"
    )
    watch.set_defaults(ends=("complete",), wait=True)
    steered = []
    for to, does in _STEERING.items():
        steered.append(actions.add_parser(to, help=does))
        steered[-1].set_defaults(to=to, ends=("rolled_back", "aborted") if to == "roll-back" else ("complete",))
    for action in (watch, *steered):
        action.add_argument("name", type=named)
    for action in (start, *steered):
        action.add_argument("--wait", action="store_true", help="until it has ended, as `watch` does")
    runs = [(start, _start), (status, _status), (watch, _watch), *((one, _steer) for one in steered)]
    for action, run in runs:
        add_admin(action)
        action.add_argument("--json", action="store_true", help="a line of JSON for each rollout, or each change of it")
        action.set_defaults(run=asking("rollout", run))


async def _start(options: argparse.Namespace, admin: AdminClient) -> int:
    options.name, number = options.version
    begun = await admin.begin_rollout(options.name, number)
    return await _follow(options, admin) if options.wait else _say(options, begun["rollout"])


async def _steer(options: argparse.Namespace, admin: AdminClient) -> int:
    steered = await admin.steer_rollout(options.name, options.to)
    return await _follow(options, admin) if options.wait else _say(options, steered["rollout"])


async def _watch(options: argparse.Namespace, admin: AdminClient) -> int:
    return await _follow(options, admin)


async def _status(options: argparse.Namespace, admin: AdminClient) -> int:
    models = (await admin.show(options.name))["models"]
    shown = [(model["name"], rollout) for model in models if (rollout := _of(model)) is not None]
    if options.json:
        for name, rollout in shown:
            print(json.dumps({"model": name, **rollout}))
    else:
        tell(options, [_row(name, rollout) for name, rollout in shown])
        for _, rollout in shown:
            if rollout.get("gates"):
                Console(soft_wrap=True).print(_gates(rollout["gates"]))
    return 0


def _of(model: Answer) -> Answer | None:
    """The rollout under way, or the last one."""
    rollout: Answer | None = model["rollout"] or model["last_rollout"]
    return rollout


def _say(options: argparse.Namespace, rollout: Answer) -> int:
    """Where it is now."""
    line = json.dumps({"model": options.name, **rollout}) if options.json else _line(options.name, rollout)
    print(line, flush=True)
    return 0


async def _follow(options: argparse.Namespace, admin: AdminClient) -> int:
    """Show the rollout until it ends; whether it ended as it was to."""
    is_live = sys.stdout.isatty() and not options.json
    last: Answer | None = None
    with Live(console=Console(), auto_refresh=False) if is_live else nullcontext() as live:
        async for rollout in _states(admin, options.name):
            if live is not None:
                live.update(_picture(options.name, rollout), refresh=True)
            elif last is None or _told(rollout) != _told(last):
                _say(options, rollout)
            last = rollout
    return 0 if last is not None and last["stage"] in options.ends else 1


async def _states(admin: AdminClient, name: str) -> AsyncIterator[Answer]:
    """How the rollout of a model is, again and again until it has ended. Refused when there is none."""
    loop = asyncio.get_running_loop()
    seen_s = loop.time()
    while True:
        try:
            rollout = _of(await admin.model(name))
            seen_s = loop.time()
        except Refused as error:
            if not error.away or loop.time() - seen_s > _AWAY_S_MAX:
                raise
        else:
            if rollout is None:
                raise Refused(f"there was never a rollout of {name}")
            yield rollout
            if rollout["stage"] in _ENDS:
                return
        await asyncio.sleep(_LOOK_S)


def _told(rollout: Answer) -> tuple[Any, ...]:
    """What of it a new line is worth: the numbers of its sentences change all the time."""
    gates = tuple((gate["gate"], gate["outcome"]) for gate in rollout.get("gates", ()))
    return rollout["candidate"], rollout["stage"], rollout.get("share"), rollout.get("paused"), gates


def _line(name: str, rollout: Answer) -> str:
    counts = [gate["outcome"] for gate in rollout.get("gates", ())]
    gates = ", ".join(f"{counts.count(one)} {one}" for one in _COLOURS if one in counts)
    return f"{rollout_words(name, rollout)}{f' [{gates}]' if gates else ''}: {rollout['reason']}"


def _row(name: str, rollout: Answer) -> Row:
    return {
        "model": name,
        "stable": rollout["stable"],
        "candidate": rollout["candidate"],
        "stage": rollout["stage"] + (", paused" if rollout.get("paused") else ""),
        "share": f"{100 * rollout['share']:g} %" if rollout.get("share") else "",
        "reason": rollout["reason"],
        "waits for": rollout.get("missing", ""),
    }


def _picture(name: str, rollout: Answer) -> Group:
    lines = [Text(rollout_words(name, rollout), style="bold"), Text(rollout["reason"])]
    if rollout.get("missing"):
        lines.append(Text(rollout["missing"], style="dim"))
    return Group(*lines, _gates(rollout.get("gates", [])))


def _gates(gates: list[Answer]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for gate in gates:
        table.add_row(gate["gate"], Text(gate["outcome"], style=_COLOURS[gate["outcome"]]), Text(gate["sentence"]))
    return table
