"""Stop strings: found wherever tokens end, never shown, and only the first counts."""

from hypothesis import given
from hypothesis import strategies as st

from aruntime.admission.ticket import Output
from aruntime.http.choices import Choice
from aruntime.http.stops import StopText
from aruntime.queue.records import FinishReason
from aruntime.wire.said import Finish


class Letters:
    """A detokenizer whose tokens are code points; "é" comes as two, and the first says nothing."""

    def push(self, token_id: int) -> str:
        return "" if token_id == 0 else chr(token_id)

    def finish(self) -> str:
        return ""


def shown(stops: tuple[str, ...], pieces: list[str], *, with_stop: bool = False) -> tuple[str, bool]:
    """What is shown of the pieces, and whether a stop string was found."""
    stop = StopText(stops, shown=with_stop)
    text = ""
    for piece in pieces:
        text += stop.push(piece)
        if stop.found:
            return text, True
    return text + stop.finish(), False


def cut_by_hand(stops: tuple[str, ...], text: str) -> tuple[str, bool]:
    """The same, from the definition: the text up to the stop string that is complete first."""
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], True
    return text, False


_STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=4).map(tuple)


@given(stops=_STOPS, pieces=st.lists(st.text("abc", max_size=5), max_size=8))
def test_the_cut_is_the_same_wherever_pieces_end(stops: tuple[str, ...], pieces: list[str]) -> None:
    assert shown(stops, pieces) == cut_by_hand(stops, "".join(pieces))


@given(stops=_STOPS, pieces=st.lists(st.text("abc", max_size=5), max_size=8))
def test_no_part_of_a_stop_string_that_comes_is_ever_shown(stops: tuple[str, ...], pieces: list[str]) -> None:
    stop, text = StopText(stops), ""
    whole, _ = cut_by_hand(stops, "".join(pieces))
    for piece in pieces:
        text += stop.push(piece)
        assert whole.startswith(text)
        if stop.found:
            break


def test_text_that_cannot_begin_a_stop_string_is_shown_at_once() -> None:
    stop = StopText(("END", "stop"))
    assert stop.push("so it g") == "so it g"
    assert stop.push("oes E") == "oes "
    assert stop.push("N") == ""
    assert stop.push("d") == "ENd"


@given(stops=_STOPS, pieces=st.lists(st.text("abc", max_size=5), max_size=8))
def test_a_stop_string_that_is_shown_is_the_end_of_what_is(stops: tuple[str, ...], pieces: list[str]) -> None:
    text = "".join(pieces)
    cut, found = cut_by_hand(stops, text)
    told, _ = shown(stops, pieces, with_stop=True)
    assert text.startswith(told)
    assert told.removeprefix(cut) in (stops if found else ("",))


def test_tokens_after_a_stop_string_are_not_counted() -> None:
    choice = Choice(Letters(), StopText(("bc",)))
    assert choice.take(Output(0, [ord(letter) for letter in "abcdef"])).text == "a"
    assert (choice.tokens, choice.finish, choice.stopped) == (3, Finish("stop", "bc"), True)


def test_a_stop_string_does_not_end_a_choice_before_its_min_tokens() -> None:
    choice = Choice(Letters(), StopText(("a",)), min_tokens=2)
    assert choice.take(Output(0, [ord(letter) for letter in "aabac"])).text == "aab"
    assert choice.tokens == 4


def test_what_was_held_back_is_shown_when_the_engine_ends_the_choice() -> None:
    choice = Choice(Letters(), StopText(("abc",)))
    assert choice.take(Output(0, [ord("x"), ord("a")])).text == "x"
    assert choice.take(Output(0, [], FinishReason.LENGTH)).text == "a"
    assert (choice.finish, choice.stopped) == (Finish("length"), False)
