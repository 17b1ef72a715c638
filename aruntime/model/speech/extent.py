"""Where a JSON value ends that comes in pieces: brackets are counted, those in strings are not."""

import re

_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')


class Extent:
    """Takes the text of an object or list from its first bracket on, or from where `depth` of them are open."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def end(self, text: str) -> int:
        """Take in `text`: where in it the value ends, behind its last bracket; -1 when it goes on."""
        place = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        while match := (_IN_STRING if self._in_string else _OUTSIDE).search(text, place):
            place = match.end()
            if match[0] == "\\":
                self._escaped = place == len(text)
                place += 1
            elif match[0] == '"':
                self._in_string = not self._in_string
            else:
                self._depth += 1 if match[0] in "{[" else -1
                if self._depth <= 0:
                    return place
        return -1
