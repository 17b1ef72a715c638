"""`aruntime audit`: who did what to the models of a running server, the newest first."""

import argparse
import json
from datetime import UTC, datetime

from aruntime.cli.admin_client import AdminClient, Answer, add_admin, asking
from aruntime.cli.output import Row, tell


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = commands.add_parser("audit", help="who did what to a server's models", description=__doc__)
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="entries, at most 1000 [%(default)s]")
    parser.add_argument("--before", type=int, metavar="ID", help="only entries older than this one")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each entry")
    add_admin(parser)
    parser.set_defaults(run=asking("audit", _run))


async def _run(options: argparse.Namespace, admin: AdminClient) -> int:
    entries = await admin.audit(options.limit, options.before)
    if options.json:
        for entry in entries:
            print(json.dumps(entry))
    else:
        tell(options, [_row(entry) for entry in entries])
    return 0


def _row(entry: Answer) -> Row:
    at = datetime.fromtimestamp(entry["at_s"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {"id": entry["id"], "at (UTC)": at} | {
        name: entry[name] for name in ("actor", "action", "subject", "outcome", "detail")
    }
