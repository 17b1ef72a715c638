"""`aruntime models show | remove | schema`: what a repository says of a version, without it, and how it must say it."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.text import Text

from aruntime.cli.admin_client import AdminClient, Refused, add_admin, asking, one_version, versioned
from aruntime.cli.options import add_device, add_repository, device_settings
from aruntime.cli.output import refusing
from aruntime.control.launch_order import footprint_of, launch_order
from aruntime.control.lives import RESIDENT
from aruntime.control.machine import device_of
from aruntime.control.manifest import MANIFEST, SIGNATURE, read_manifest
from aruntime.control.repository import ModelVersion, Repository, remove, schemas
from aruntime.control.settings import VersionRefused

_FORMS = {"model": "model.toml", "version": "version.toml", "manifest": MANIFEST}
_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare them below `aruntime models`."""
    show = actions.add_parser("show", help="all that a version's files say of it")
    show.add_argument("version", type=versioned, metavar="NAME[@VERSION]", help="[the newest one]")
    show.add_argument("--json", action="store_true", help="one line of JSON")
    add_device(show)
    show.set_defaults(run=refusing("models", _show))
    removal = actions.add_parser("remove", help="delete a version, unless a server has it in memory or by a label")
    removal.add_argument("version", type=one_version, metavar="NAME@VERSION")
    removal.add_argument("--json", action="store_true", help="one line of JSON")
    add_admin(removal)
    removal.set_defaults(run=asking("models", _remove))
    for action in (show, removal):
        add_repository(action)
    schema = actions.add_parser("schema", help="the JSON Schema of model.toml, version.toml or MANIFEST.json")
    schema.add_argument("form", choices=list(_FORMS))
    schema.set_defaults(run=refusing("models", _schema))


def _show(options: argparse.Namespace) -> int:
    repository = Repository(options.repository)
    name, number = options.version
    numbers = repository.versions(name)
    if not numbers:
        raise VersionRefused(f"there is no model {name} in {options.repository}")
    version = repository.open(name, number if number is not None else numbers[-1])
    facts = _facts(version) | _footprint(version, options)
    if options.json:
        print(json.dumps(facts))
    else:
        _print(facts)
    return 0


def _facts(version: ModelVersion) -> dict[str, Any]:
    digests = read_manifest(version.folder).files
    files = [
        {"name": name, "bytes": (version.folder / name).stat().st_size, "sha256": digest}
        for name, digest in digests.items()
        if (version.folder / name).is_file()
    ]
    return {
        "model": version.name,
        "version": version.version,
        "signed": (version.folder / SIGNATURE).is_file(),
        "version.toml": version.settings.model_dump(mode="json"),
        "model.toml": version.model.model_dump(mode="json"),
        "files": files,
    }


def _footprint(version: ModelVersion, options: argparse.Namespace) -> dict[str, Any]:
    """What a server with these options would set aside for it; or why that one would not load it."""
    try:
        order = launch_order(version, device_settings(options))
        footprint = footprint_of(version, order, device_of(options.device))
    except VersionRefused as refused:
        return {"footprint": None, "refused": str(refused)}
    return {
        "footprint": {
            "weight_bytes": footprint.weight_bytes,
            "workspace_bytes": footprint.workspace_bytes,
            "cache_bytes_min": footprint.cache_bytes_min,
            "cache_bytes": footprint.cache_bytes,
        }
    }


def _print(facts: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{facts['model']}@{facts['version']}{', signed' if facts['signed'] else ''}")
    for part in ("version.toml", "model.toml", "footprint"):
        console.print(f"\n[bold]{part}")
        for key, value in _flat(facts[part] or {"refused": facts.get("refused")}):
            console.print(Text(f"  {key} = {value}"))
    console.print("\n[bold]files")
    for file in facts["files"]:
        console.print(Text(f"  {file['sha256']} {file['bytes']:>14,} {file['name']}"))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """`limits.replicas`, `1`: what is not given is left out."""
    pairs: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            pairs.append((prefix + key, json.dumps(value)))
    return pairs


async def _remove(options: argparse.Namespace, admin: AdminClient) -> int:
    name, number = options.version
    repository = Repository(options.repository)
    await _check_unused(admin, repository, name, number)
    remove(options.repository, name, number)
    print(json.dumps({"removed": f"{name}@{number}"}) if options.json else f"removed {name}@{number}")
    return 0


async def _check_unused(admin: AdminClient, repository: Repository, name: str, number: int) -> None:
    """Refused when a server that serves this repository needs the version; whoever serves another has no say."""
    try:
        shown = await admin.show()
    except Refused as refused:
        if refused.status in (0, 404):  # no server, or something else that listens there
            return
        raise Refused(f"the server at {admin.url} does not say whether it needs {name}@{number}: {refused}") from None
    if shown.get("repository") != repository.identity:
        return
    for model in shown["models"]:
        if model["name"] == name:
            _check_model(admin, model, number)


def _check_model(admin: AdminClient, model: dict[str, Any], number: int) -> None:
    what = f"{model['name']}@{number}"
    state = next((one["state"] for one in model["versions"] if one["version"] == number), "")
    if state in RESIDENT:
        raise Refused(f"{what} is {state} on the server at {admin.url}: unload it first")
    rollout = model["rollout"] or {}
    if number in (rollout.get("stable"), rollout.get("candidate")):
        raise Refused(f"{what} is in a rollout on the server at {admin.url}")
    for label, named in model["labels"].items():
        if named == number:
            raise Refused(f"{what} is {label} on the server at {admin.url}: move that label first")


def _schema(options: argparse.Namespace) -> int:
    schema = {"$schema": _DRAFT} | schemas()[_FORMS[options.form]]
    print(json.dumps(schema, indent=2))
    return 0
