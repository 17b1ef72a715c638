"""The diagrams in the documentation are those of the tables."""

from pathlib import Path

import pytest

from aruntime.control.diagrams import DIAGRAMS, draw, redraw
from aruntime.control.settings import RolloutPolicy

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(DIAGRAMS))
def test_the_diagram_in_the_documentation_is_the_table(name: str) -> None:
    text = (DOCS / name).read_text()
    assert redraw(text, DIAGRAMS[name]) == text, "python -m aruntime.control.diagrams draws it anew"


def test_events_of_one_way_share_an_arrow_and_ends_are_marked() -> None:
    assert draw({"a": {"x": "b", "y": "b", "z": "a"}, "b": {}}).splitlines()[1:-1] == [
        "stateDiagram-v2", "    [*] --> a", "    a --> b: x, y", "    a --> a: z", "    b --> [*]",
    ]  # fmt: skip


def test_a_page_without_a_place_for_its_diagram_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0"):
        redraw("# no place", {"a": {}})


def test_the_policy_is_explained_with_its_defaults() -> None:
    page = (DOCS / "rollout.md").read_text()
    for name, field in RolloutPolicy.model_fields.items():
        value = field.default
        shown = f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"
        assert f"| `{name}` | {shown} |" in page, (name, shown)
