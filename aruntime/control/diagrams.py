"""Draws the tables of lives and of rollouts into the documentation.

python -m aruntime.control.diagrams [docs]      writes each diagram between its marks in lives.md and rollout.md
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aruntime.control import lives
from aruntime.control.rollout import stages

# The file that a diagram stands in, and what it draws.
DIAGRAMS: dict[str, Mapping[Any, Mapping[str, str]]] = {
    "lives.md": lives.TRANSITIONS,
    "rollout.md": stages.TRANSITIONS,
}
_DRAWN = re.compile(r"(?<=<!-- drawn -->\n)```mermaid\n.*?```\n(?=<!-- /drawn -->)", re.DOTALL)


def draw(table: Mapping[str, Mapping[str, str]]) -> str:
    """A state diagram in Mermaid's language: an arrow for each pair of states, with the events that lead along it."""
    first, *_ = table
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    for state, events in table.items():
        for after in dict.fromkeys(events.values()):
            words = ", ".join(event for event, to in events.items() if to == after)
            lines.append(f"    {state} --> {after}: {words}")
        if not events:
            lines.append(f"    {state} --> [*]")
    return "\n".join(["```mermaid", *lines, "```", ""])


def redraw(text: str, table: Mapping[str, Mapping[str, str]]) -> str:
    """The text with its diagram as the table has it. ValueError unless there is one place for it."""
    drawn, places = _DRAWN.subn(lambda _: draw(table), text)
    if places != 1:
        raise ValueError(f"want one place for a diagram, got {places}")
    return drawn


def main(folder: Path) -> None:
    """Draw all of them anew."""
    for name, table in DIAGRAMS.items():
        path = folder / name
        path.write_text(redraw(path.read_text(), table))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
