"""`aruntime models load | unload | release | label | status`: the models of a running server.

A load returns when the version is ready, an unload when it is gone; what happens meanwhile is told on standard error.
Whoever interrupts the command stops neither.
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable

from rich.console import Console
from rich.markup import escape

from aruntime.cli.admin_client import (
    AdminClient,
    Answer,
    Refused,
    add_admin,
    asking,
    labelled,
    named,
    one_version,
    versioned,
)
from aruntime.cli.output import Row, tell

_LOOK_S = 0.2
_AT_REST = ("discovered", "verified", "standby", "serving", "unloaded", "failed", "quarantined")


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare them below `aruntime models`."""
    load = actions.add_parser("load", help="have a server load a version, the stable one if none is named")
    unload = actions.add_parser("unload", help="have a server drain and unload a version, or all of a model")
    release = actions.add_parser("release", help="let a version out of quarantine")
    label = actions.add_parser("label", help="move a label to a version, or drop it")
    status = actions.add_parser("status", help="what a server has of its models in memory")
    for action, what in ((load, "load"), (unload, "unload")):
        action.add_argument("version", type=versioned, metavar="NAME[@VERSION]")
        action.set_defaults(what=what)
    release.add_argument("version", type=one_version, metavar="NAME@VERSION")
    release.set_defaults(what="release")
    label.add_argument("name", type=named)
    label.add_argument("label", type=labelled)
    to = label.add_mutually_exclusive_group(required=True)
    to.add_argument("version", type=int, nargs="?", metavar="VERSION", help="which must be ready")
    to.add_argument("--drop", action="store_true", help="forget the label")
    status.add_argument("name", type=named, nargs="?", help="[all models]")
    runs = ((load, _change), (unload, _change), (release, _change), (label, _label), (status, _status))
    for action, run in runs:
        add_admin(action)
        action.add_argument("--json", action="store_true", help="the server's answer, one line of JSON")
        action.set_defaults(run=asking("models", run))


async def _change(options: argparse.Namespace, admin: AdminClient) -> int:
    name, number = options.version
    async with _progress(options, admin, name, number):
        result = await admin.change(options.what, name, number)
    if options.json:
        print(json.dumps(result))
    elif options.what == "unload":
        print(f"unloaded {', '.join(result['unloaded'])}")
    else:
        print(f"{result['model']}@{result['version']} is {result['state']}")
    return 0


async def _label(options: argparse.Namespace, admin: AdminClient) -> int:
    if options.drop:
        result = await admin.drop_label(options.name, options.label)
    else:
        result = await admin.set_label(options.name, options.label, options.version)
    if options.json:
        print(json.dumps(result))
    else:
        tell(options, [{"label": label, "version": number} for label, number in sorted(result["labels"].items())])
    return 0


async def _status(options: argparse.Namespace, admin: AdminClient) -> int:
    shown = await admin.show(options.name)
    if options.json:
        print(json.dumps(shown))
        return 0
    tell(options, [_row(model, version) for model in shown["models"] for version in model["versions"]])
    memory = shown["memory"]
    print(f"\nmemory: {_size(memory['bytes_used'])} of {_size(memory['bytes_max'])} set aside")
    for model in shown["models"]:
        if model["rollout"] is not None:
            print(f"rollout: {rollout_words(model['name'], model['rollout'])}")
    return 0


def rollout_words(name: str, rollout: Answer) -> str:
    """Where a rollout is: "tiny@2 canary, 25 % of requests, paused"."""
    share = f", {100 * rollout['share']:g} % of requests" if rollout.get("share") else ""
    mirror = f", {100 * rollout['mirror']:g} % copied" if rollout.get("mirror") else ""
    paused = ", paused" if rollout.get("paused") else ""
    return f"{name}@{rollout['candidate']} {rollout['stage'].replace('_', ' ')}{share}{mirror}{paused}"


def _row(model: Answer, version: Answer) -> Row:
    labels = [label for label, number in model["labels"].items() if number == version["version"]]
    replicas = [replica["life"] for replica in version["replicas"]]
    return {
        "model": model["name"],
        "version": version["version"],
        "state": version["state"],
        "labels": " ".join(sorted(labels)),
        "memory": _size(version["bytes"]) if version["bytes"] else "",
        "replicas": f"{replicas.count('ready')}/{len(replicas)}" if replicas else "",
        "in flight": version["in_flight"] or "",
        "tokens left": version["tokens_left"] or "",
        "reason": version["reason"],
    }


def _size(count: int) -> str:
    """Bytes, in words: "1.5 GiB"."""
    number, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == "TiB":
            break
        number /= 1024
    return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"


@contextlib.asynccontextmanager
async def _progress(
    options: argparse.Namespace, admin: AdminClient, name: str, number: int | None
) -> AsyncIterator[None]:
    """Meanwhile, say on standard error how it stands: a line that changes, or in a pipe a line for each change."""
    if options.json:
        yield
        return
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    status = console.status(f"{options.what} {name}") if sys.stderr.isatty() else None
    told = asyncio.create_task(
        _watch(admin, name, number, lambda line: status.update(escape(line)) if status else console.print(escape(line)))
    )
    with status or contextlib.nullcontext():
        try:
            yield
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)


async def _watch(admin: AdminClient, name: str, number: int | None, say: Callable[[str], object]) -> None:
    last = ""
    while True:
        with contextlib.suppress(Refused):  # the answer to the command itself says what is wrong
            line = "; ".join(_moving(await admin.model(name), number))
            if line and line != last:
                say(line)
                last = line
        await asyncio.sleep(_LOOK_S)


def _moving(model: Answer, number: int | None) -> list[str]:
    """What is to be said of the versions that are on their way."""
    chosen = [version for version in model["versions"] if number in (None, version["version"])]
    return [_words(version) for version in chosen if version["state"] not in _AT_REST]


def _words(version: Answer) -> str:
    words = f"{version['model']}@{version['version']} {version['state']}"
    if version["state"] == "draining":
        words += f", {version['in_flight']} in flight, {version['tokens_left']} tokens left"
    return words + (f": {version['reason']}" if version["reason"] else "")
