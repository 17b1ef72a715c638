"""`aruntime front-ends restart | status`: the front ends of a running server.

A restart replaces them one by one, without a client noticing, and the command returns when the last has been replaced.
Whoever interrupts it does not stop that.
"""

import argparse
import asyncio
import json

from aruntime.cli.admin_client import AdminClient, Answer, Refused, add_admin, asking
from aruntime.cli.output import tell

_LOOK_S = 0.2
_AWAY_S_MAX = 10.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = commands.add_parser("front-ends", help="a server's front ends: restart them", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    restart = actions.add_parser("restart", help="replace them one by one, without a client noticing")
    status = actions.add_parser("status", help="their processes, and how far the last restart is")
    for action, run in ((restart, _restart), (status, _status)):
        add_admin(action)
        action.add_argument("--json", action="store_true", help="the server's answer, one line of JSON")
        action.set_defaults(run=asking("front-ends", run))


async def _restart(options: argparse.Namespace, admin: AdminClient) -> int:
    facts = await admin.restart_front_ends()
    while facts["restart"]["state"] == "running":
        told = facts["restart"]["replaced"]
        facts = await _changed(admin, facts)
        if not options.json and facts["restart"]["replaced"] != told:
            print(_words(facts["restart"]), flush=True)
    if options.json:
        print(json.dumps(facts))
    if facts["restart"]["state"] != "done":
        raise Refused(_words(facts["restart"]))
    return 0


async def _changed(admin: AdminClient, facts: Answer) -> Answer:
    """The next that is otherwise than `facts`. Refused when there is no answer for long."""
    loop = asyncio.get_running_loop()
    seen_s = loop.time()
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            if (now := await admin.front_ends()) != facts:
                return now
            seen_s = loop.time()
        except Refused as error:
            if not error.away or loop.time() - seen_s > _AWAY_S_MAX:
                raise


async def _status(options: argparse.Namespace, admin: AdminClient) -> int:
    facts = await admin.front_ends()
    if options.json:
        print(json.dumps(facts))
        return 0
    tell(options, facts["front_ends"])
    if facts["restart"] is not None:
        print(f"\nthe last restart: {_words(facts['restart'])}")
    return 0


def _words(restart: Answer) -> str:
    """ "2 of 4 replaced", and what came in between."""
    end = {"running": "", "done": "", "failed": ", then it failed: ", "cut short": ", then "}[restart["state"]]
    return f"{restart['replaced']} of {restart['count']} replaced{end}{restart['reason']}"
