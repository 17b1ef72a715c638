"""Writes into the journal of argv[1] as fast as it can, until it is killed: version, label and entry as one."""

import itertools
import sys
from pathlib import Path

from aruntime.control.journal import Journal

journal = Journal(Path(sys.argv[1]))
print("open", flush=True)
for number in itertools.count(1):
    with journal.transaction():
        journal.save_version("demo", number, "serving", generation=number)
        journal.set_label("demo", "stable", number)
        journal.record("writer", "promote", f"demo@{number}", "ok", "x" * 300)
