"""Cuts a choice's text at its first stop string, across token borders, and never shows part of one.

said so far   ... the quick br|   stop strings: "brown", "red"
                            ^^ held back: it may become "brown"
"""


class StopText:
    """Takes text in pieces and gives what may be shown. With no stop strings it gives everything at once."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.found = False
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> str:
        """More text; returns what is now safe to show. After `found` is true nothing more is."""
        if not self._stops:
            return text
        self._held += text
        at = min((place for stop in self._stops if (place := self._held.find(stop)) >= 0), default=-1)
        if at >= 0:
            self.found = True
            safe, self._held = self._held[:at], ""
            return safe
        keep = max(self._unfinished(stop) for stop in self._stops)
        safe, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return safe

    def finish(self) -> str:
        """The text is over: what was held back is no stop string."""
        held, self._held = self._held, ""
        return held

    def _unfinished(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        most = min(len(stop) - 1, len(self._held))
        return next((size for size in range(most, 0, -1) if self._held.endswith(stop[:size])), 0)
