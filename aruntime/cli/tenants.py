"""`aruntime tenants add | key | admin-key | list`: who may ask, in a file that holds the sha256 of each key and no key.

A key is printed once, when it is made. What else stands in the file, comments too, stays as it is: a table is added at
its end, a key at the head of a list, and the file is not touched when that would say anything else.
"""

import argparse
import hashlib
import os
import re
import secrets
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from aruntime.cli.options import add_tenants
from aruntime.cli.output import Row, refusing, tell
from aruntime.control.meeting import locked
from aruntime.control.tenants import TenantsRefused, parse_tenants, read_tenants


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the commands."""
    parser = commands.add_parser("tenants", help="say who may ask, and make keys", description=__doc__)
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    add = actions.add_parser("add", help="add a tenant and make its first key")
    key = actions.add_parser("key", help="make another key for a tenant")
    admin_key = actions.add_parser("admin-key", help="make a key for the admin listener")
    listing = actions.add_parser("list", help="list tenants and their terms")
    for action, is_new in ((add, True), (key, False)):
        action.add_argument("name")
        action.set_defaults(is_new=is_new)
    admin_key.set_defaults(name=None)
    for action, run in ((add, _make_key), (key, _make_key), (admin_key, _make_key), (listing, _list)):
        add_tenants(action, Path("tenants.toml"))
        action.add_argument("--json", action="store_true", help="one line of JSON for each tenant")
        action.set_defaults(run=refusing("tenants", run))


def _list(options: argparse.Namespace) -> int:
    rows: list[Row] = []
    for name, tenant in read_tenants(options.tenants).tenants.items():
        rows.append({"tenant": name, **tenant.model_dump(exclude_defaults=True), "keys": len(tenant.keys)})
    tell(options, rows)
    return 0


def _make_key(options: argparse.Namespace) -> int:
    """Put a fresh key's digest into the file, then print the key: it cannot be had again."""
    key = f"art-{secrets.token_urlsafe(32)}"
    digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    path: Path = options.tenants.resolve()
    with locked(path.parent):
        text, known = "", set()
        if path.exists():
            known = set(read_tenants(path).tenants)
            text = path.read_text()
        if options.name is not None and (options.name in known) == options.is_new:
            there_is = "there is already a" if options.is_new else "there is no"
            raise TenantsRefused(f"{path}: {there_is} tenant {options.name}")
        text = _with_key(text, ["admin"] if options.name is None else ["tenants", options.name], digest, path)
        parse_tenants(text.encode(), path)
        _replace(path, text)
    tell(options, [{"admin_key": key} if options.name is None else {"tenant": options.name, "key": key}])
    return 0


def _with_key(text: str, table: list[str], digest: str, path: Path) -> str:
    """`text` with `digest` among the keys of `table`, which is added when it is not there."""
    wanted = tomllib.loads(text)
    found: dict[str, Any] = wanted
    for name in table:
        found = found.setdefault(name, {})
    header = ".".join(f'"{name}"' if "." in name else name for name in table)
    if "keys" in found:
        before_keys = rf"^\[{re.escape(header)}\][^\n]*\n(?:[^\[\n][^\n]*\n|\n)*?[ \t]*keys\s*=\s*\["
        edited = re.sub(before_keys, lambda match: f'{match[0]}"{digest}", ', text, count=1, flags=re.MULTILINE)
    else:
        edited = f'{text.rstrip()}\n\n[{header}]\nkeys = ["{digest}"]\n'.lstrip()
    found.setdefault("keys", []).insert(0, digest)
    try:
        if tomllib.loads(edited) == wanted:
            return edited
    except tomllib.TOMLDecodeError:
        pass
    raise TenantsRefused(f"{path}: want the keys as `keys = [` below [{header}] to add one; nothing was changed")


def _replace(path: Path, text: str) -> None:
    """Write the file anew, whole or not at all; it stays its owner's."""
    fd, draft = tempfile.mkstemp(prefix=".tenants-", dir=path.parent)  # mode 600
    try:
        with open(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
            if path.exists():
                os.chown(fd, path.stat().st_uid, path.stat().st_gid)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
