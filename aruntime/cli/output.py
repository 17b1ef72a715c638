"""How commands say what they found: a table for people, a line of JSON a row for scripts; a refusal in one line."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, object]


def tell(options: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Print rows, as `options.json` wants them."""
    if options.json:
        for row in rows:
            print(json.dumps(row))
        return
    table = Table(box=None, pad_edge=False)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(str(row.get(column, ""))) for column in columns))
    Console(soft_wrap=True).print(table)


def refusing(command: str, run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """`run`, whose refusals (ValueError, OSError) become one line on standard error and status 1."""

    def told(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except (ValueError, OSError) as error:
            print(f"aruntime {command}: {error}", file=sys.stderr)
            return 1

    return told
