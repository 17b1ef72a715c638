"""What a choice says, whatever the protocol: text, reasoning, tool calls, and how likely each token was.

A model's text goes through a listener (aruntime.model) that tells the three apart; a shape (wire/answers.py and the
other protocols') writes them down, piece by piece or whole.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol


@dataclass(slots=True)
class Text:
    """A piece of what is said to the user."""

    text: str


@dataclass(slots=True)
class Reasoning:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(slots=True)
class Call:
    """A piece of the call with this `index` among the choice's: the first has `id` and `name`, all have `arguments`.

    The arguments of one call, joined, are one JSON object.
    """

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


Part = Text | Reasoning | Call


@dataclass(slots=True)
class Likely:
    """A token that could have been said: its text (U+FFFD for a part of a character), its bytes, natural logprob."""

    text: str
    data: bytes
    logprob: float


@dataclass(slots=True)
class Chosen:
    """A token that was said, and the `top` ones for its place, most likely first. `offset` is where its text begins.

    `logprob` is None for a prompt's first token, which nothing foretells.
    """

    text: str
    data: bytes
    logprob: float | None
    offset: int = 0
    top: tuple[Likely, ...] = ()


@dataclass(slots=True)
class Said:
    """What is new of a choice, or all of it: parts in their order, and the tokens when their logprobs are wanted."""

    parts: list[Part] = field(default_factory=list)
    tokens: list[Chosen] = field(default_factory=list)

    def add(self, more: "Said") -> None:
        """Go on with `more`."""
        self.parts += more.parts
        self.tokens += more.tokens

    @property
    def text(self) -> str:
        """All that is said to the user."""
        return "".join([part.text for part in self.parts if isinstance(part, Text)])

    @property
    def reasoning(self) -> str:
        """All that was thought."""
        return "".join([part.text for part in self.parts if isinstance(part, Reasoning)])

    @property
    def calls(self) -> list[Call]:
        """The calls, each whole, by index."""
        return joined_calls(part for part in self.parts if isinstance(part, Call))


@dataclass(slots=True)
class Finish:
    """How a choice ended: `reason` is "stop", "length" or "tool_calls"; `stop` is the stop string that ended it."""

    reason: str
    stop: str = ""


@dataclass(slots=True)
class Answered:
    """All that a choice has said, and how it ended."""

    said: Said
    finish: Finish


class Listener(Protocol):
    """Tells apart what one choice says. Its parts, joined, are the text without what frames calls and thoughts.

    `over`: nothing that comes now is of any use.
    """

    over: bool

    def push(self, text: str) -> Sequence[Part]:
        """The parts that are certain now that `text` came; text that may yet open a call is held back."""

    def finish(self) -> Sequence[Part]:
        """The text is over: what was held back."""


def joined_calls(pieces: Iterable[Call]) -> list[Call]:
    """Whole calls of their pieces."""
    begun: dict[int, Call] = {}
    arguments: dict[int, list[str]] = {}
    for piece in pieces:
        begun.setdefault(piece.index, piece)
        arguments.setdefault(piece.index, []).append(piece.arguments)
    return [replace(call, arguments="".join(arguments[index])) for index, call in begun.items()]
