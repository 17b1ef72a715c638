"""Tells apart what a model says while it says it: thoughts, text, calls.

    begin ──► thought ──► begin ──► text ◄──────────────┐
                            │        │ an opening mark   │ what opened no call is text after all
                            ▼        ▼                   │
                           object ─────────────────────► ┤
                            │ {"name": "f", "arguments": ▲
                            ▼                            │
                           arguments ──► rest ──► next ──┘   the rest of the object; another one, or the closing mark

Every state takes what it can of the text held and says whether it got further; a text that may still become a mark is
held. How the text was cut into pieces makes no difference. What a call's arguments are is passed on as it was said.
"""

import re
from collections.abc import Callable, Collection

import orjson

from aruntime.base.texts import beginning_of
from aruntime.model.speech.extent import Extent
from aruntime.model.speech.formats import CallFormat, Speech, Thoughts
from aruntime.wire.conversation import CALLS_MAX, Conversation
from aruntime.wire.said import Call, Part, Reasoning, Text

_NAME = r"([a-zA-Z0-9_-]{1,64})"
_HEAD = re.compile(rf'\{{\s*"name"\s*:\s*"{_NAME}"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
_NAMED_HEAD = re.compile(rf"{_NAME}(?:\[CALL_ID\][a-zA-Z0-9]{{1,64}})?\[ARGS\] ?(?=\{{)")
_NAMED_HEAD_CHARACTERS_MAX = 160
_NAME_BEGINS = re.compile(r"[a-zA-Z0-9_-][^{]*$")


def listen(
    speech: Speech, conversation: Conversation, *, opens_thought: bool = False, constrained: bool = False
) -> "Listening | None":
    """What hears an answer in a conversation; None when there is nothing to tell apart.

    `opens_thought`: the prompt began a thought. `constrained`: the answer has a grammar (`constraint.py`).
    """
    names = {tool.name for tool in conversation.callable_tools}
    thoughts = speech.thoughts if speech.spells_thoughts or not constrained else None
    if not names and thoughts is None:
        return None
    return Listening(
        speech.calls,
        names,
        thoughts=thoughts,
        opened=opens_thought,
        bare=constrained and not speech.calls.before.startswith(speech.calls.opening),
        one=speech.single or not conversation.parallel_calls,
    )


class Listening:
    """Hears one answer: `names` are the tools that may be called, in the way of `calls`.

    `thoughts` are looked for when the model has them; `opened`: the prompt began one. `bare`: calls may come without
    their opening mark, as in a constrained answer. `one`: there may be one call only, after which the answer is `over`.
    """

    def __init__(
        self,
        calls: CallFormat,
        names: Collection[str] = (),
        *,
        thoughts: Thoughts | None = None,
        opened: bool = False,
        bare: bool = False,
        one: bool = False,
    ) -> None:
        self._calls = calls
        self._names = names
        self._thoughts = thoughts or Thoughts("", "")
        self._opened = opened
        self._bare = bool(names) and (bare or calls.bare)
        self._one = one
        self._held = ""
        self._parts: list[Part] = []
        self._state: Callable[[], bool] = self._before_thought if thoughts else self._begin
        self._trims = False  # whitespace that comes next is no part of the text
        self._raw = ""  # what was taken for the beginning of a call, as it was said
        self._in_list = self._in_object = False
        self._extent = Extent()
        self._scanned = 0  # characters of the text held that the extent knows
        self._called = 0
        self.over = False

    def push(self, text: str) -> list[Part]:
        """The parts that are certain now that `text` came."""
        self._held += text
        while not self.over and self._state():
            pass
        parts, self._parts = self._parts, []
        return parts

    def finish(self) -> list[Part]:
        """The text is over: what was held back."""
        if self._state == self._thought:
            self._say(Reasoning(self._held.rstrip()))
        elif self._state == self._object:
            self._say(Text(self._raw + self._held))
        elif self._state in (self._before_thought, self._begin, self._text):
            self._say(Text(self._held.lstrip() if self._trims else self._held))
        parts, self._parts, self._held = self._parts, [], ""
        return parts

    def _say(self, part: Text | Reasoning) -> None:
        if part.text:
            self._parts.append(part)

    def _become(self, state: Callable[[], bool], held: str) -> bool:
        self._state, self._held = state, held
        return True

    # Thoughts

    def _before_thought(self) -> bool:
        text, opening = self._held.lstrip(), self._thoughts.opening
        if text.startswith(opening):
            return self._become(self._thought, text[len(opening) :])
        if opening.startswith(text):
            return False
        return self._become(self._thought if self._opened else self._begin, self._held)

    def _thought(self) -> bool:
        if not self._trims:
            self._held = self._held.lstrip()
            self._trims = bool(self._held)
        text, closing = self._held, self._thoughts.closing
        place = text.find(closing)
        if place >= 0:
            self._trims = True
            self._say(Reasoning(text[:place].rstrip()))
            return self._become(self._begin, text[place + len(closing) :])
        cut = len(text[: beginning_of(closing, text)].rstrip())
        self._say(Reasoning(text[:cut]))
        self._held = text[cut:]
        return False

    # Text

    def _begin(self) -> bool:
        """Nothing was said yet, besides thoughts."""
        text = self._held.lstrip()
        if not text:
            return False
        if self._bare and text[0] in "{[":
            return self._open("" if self._trims else self._held[: -len(text)], text)
        return self._become(self._text, self._held)

    def _text(self) -> bool:
        if self._trims:
            self._held = self._held.lstrip()
            self._trims = not self._held
        text = self._held
        if not self._names:
            self._say(Text(text))
            self._held = ""
            return False
        opening = self._calls.opening
        place = text.find(opening)
        if place >= 0:
            self._say(Text(text[:place].rstrip()))
            # The space before a mark is no part of the text, unless the mark opens no call.
            space = text[len(text[:place].rstrip()) : place]
            return self._open(space + opening, text[place + len(opening) :])
        cut = len(text[: beginning_of(opening, text)].rstrip())
        self._say(Text(text[:cut]))
        self._held = text[cut:]
        return False

    # Calls

    def _open(self, raw: str, held: str) -> bool:
        self._raw, self._in_list = raw, False
        self._scanned, self._extent = 0, Extent()
        return self._become(self._object, held)

    def _object(self) -> bool:
        """An object that is a call should begin here."""
        if not self._scanned:
            text = self._held.lstrip()
            self._raw += self._held[: len(self._held) - len(text)]
            self._held = text
        text = self._held
        if not text:
            return False
        if text[0] == "[" and not self._in_list:
            self._in_list, self._raw = True, self._raw + "["
            return self._become(self._object, text[1:])
        if text[0] == "{":
            return self._named(_HEAD.match(text), in_object=True) or self._whole()
        if not self._calls.headed:
            return self._not_a_call()
        if _NAME_BEGINS.match(text) and len(text) < _NAMED_HEAD_CHARACTERS_MAX:
            return False
        return self._named(_NAMED_HEAD.match(text), in_object=False) or self._not_a_call()

    def _named(self, head: re.Match[str] | None, *, in_object: bool) -> bool:
        if head is None or not self._may_call(head[1]):
            return False
        self._call(head[1])
        self._extent = Extent()
        self._in_object = in_object
        return self._become(self._arguments, self._held[head.end() :])

    def _whole(self) -> bool:
        """An object that does not begin with its name and arguments is looked at when it is there."""
        end = self._extent.end(self._held[self._scanned :])
        if end < 0:
            self._scanned = len(self._held)
            return False
        end += self._scanned
        name, arguments = _call_in(self._held[:end])
        if not self._may_call(name):
            return self._not_a_call()
        self._call(name, arguments)
        return self._become(self._next, self._held[end:])

    def _arguments(self) -> bool:
        end = self._extent.end(self._held)
        said = self._held if end < 0 else self._held[:end]
        if said:
            self._parts.append(Call(self._called - 1, said))
        if end < 0:
            self._held = ""
            return False
        self._extent = Extent(depth=1)
        return self._become(self._rest if self._in_object else self._next, self._held[end:])

    def _rest(self) -> bool:
        """What stands behind the arguments in the object: nothing, or an id."""
        end = self._extent.end(self._held)
        if end < 0:
            self._held = ""
            return False
        return self._become(self._next, self._held[end:])

    def _next(self) -> bool:
        if self._one:
            self.over = True
            return False
        self._trims = True
        text = self._held = self._held.lstrip()
        closing = self._calls.closing
        if not text or (closing and closing.startswith(text) and text != closing):
            return False
        if closing and text.startswith(closing):
            return self._become(self._text, text[len(closing) :])
        if self._in_list and text[0] == "]":
            self._in_list = False
            return self._become(self._next, text[1:])
        if text[0] in ",;{":
            self._raw, self._scanned, self._extent = text[0].rstrip("{"), 0, Extent()
            return self._become(self._object, text.removeprefix(self._raw))
        return self._become(self._text, text)

    def _may_call(self, name: str) -> bool:
        return name in self._names and self._called < CALLS_MAX

    def _call(self, name: str, arguments: str = "") -> None:
        self._parts.append(Call(self._called, arguments, self._calls.new_id(), name))
        self._called += 1

    def _not_a_call(self) -> bool:
        self._say(Text(self._raw))
        self._trims = False
        return self._become(self._text, self._held)


def _call_in(text: str) -> tuple[str, str]:
    """The name and the arguments of a call that is an object; ("", "") when it is none."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "", ""
    arguments = said.get("arguments", said.get("parameters", {}))
    name = said.get("name")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return "", ""
    return name, orjson.dumps(arguments).decode()
