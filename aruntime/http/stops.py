"""Cuts a choice's text at its first stop string, across token borders, and never shows part of one.

said so far   ... the quick br|   stop strings: "brown", "red"
                            ^^ held back: it may become "brown"

The first stop string to be complete wins, so where the text was cut into tokens makes no difference.
"""

from aruntime.base.texts import beginning_of


class StopText:
    """Takes text in pieces and gives what may be shown. With no stop strings it gives everything at once.

    The stop string that ends a text is a part of it if it is `shown`.
    """

    def __init__(self, stops: tuple[str, ...], *, shown: bool = False) -> None:
        self.found = ""  # the stop string that ended the text
        self.held = 0  # characters that are not shown: they may become one, or have become it
        self._stops = stops
        self._shown = shown
        self._held = ""

    def push(self, text: str) -> str:
        """More text; returns what is now safe to show. Nothing more is once one is `found`."""
        if not self._stops:
            return text
        held = self._held + text
        ends = [(place + len(stop), place, stop) for stop in self._stops if (place := held.find(stop)) >= 0]
        if ends:
            end, place, self.found = min(ends)
            cut = end if self._shown else place
            self._held, self.held = "", len(held) - cut
            return held[:cut]
        cut = min(beginning_of(stop, held) for stop in self._stops)
        self._held, self.held = held[cut:], len(held) - cut
        return held[:cut]

    def finish(self) -> str:
        """The text is over: what was held back is no stop string."""
        held, self._held = self._held, ""
        self.held = self.held if self.found else 0
        return held
