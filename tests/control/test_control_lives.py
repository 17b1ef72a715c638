"""The life of a version: whatever happens, late words change nothing and there is always a way on."""

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aruntime.control.lives import READY, RESIDENT, STATES, TRANSITIONS, Life, NotPossible
from aruntime.wire.control import VersionState

DOCS = Path(__file__).parents[2] / "docs" / "lives.md"
EVENTS = sorted({event for events in TRANSITIONS.values() for event in events})


def reachable(state: VersionState) -> set[VersionState]:
    """Every state that some events lead to from here."""
    seen, fresh = {state}, {state}
    while fresh:
        fresh = {after for one in fresh for after in TRANSITIONS[one].values()} - seen
        seen |= fresh
    return seen


def test_every_state_has_its_events_and_can_be_reached_from_the_first() -> None:
    assert set(TRANSITIONS) == set(STATES)
    assert reachable("discovered") == set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_from_every_state_there_is_a_way_out_of_memory_and_into_it_again(state: VersionState) -> None:
    assert reachable(state) >= {"unloaded", "failed", "loading", "serving"}


@pytest.mark.parametrize("state", sorted(RESIDENT))
def test_what_is_in_memory_leaves_it_only_through_unloading_or_a_failure(state: VersionState) -> None:
    for event, after in TRANSITIONS[state].items():
        assert after in RESIDENT or (state, event) == ("unloading", "gone") or after in ("failed", "quarantined")


def test_memory_is_set_aside_before_anything_is_loaded() -> None:
    entries = {(state, event) for state, to in TRANSITIONS.items() for event, after in to.items()
               if state not in RESIDENT and after in RESIDENT}  # fmt: skip
    assert entries == {("verified", "admit")}


def test_only_what_was_probed_becomes_ready() -> None:
    entries = {(state, event) for state, to in TRANSITIONS.items() for event, after in to.items()
               if state not in READY and after in READY}  # fmt: skip
    assert entries == {("probing", "pass")}
    assert READY < RESIDENT


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_a_word_that_is_explained(event: str) -> None:
    assert f"| `{event}` |" in DOCS.read_text()


class Events(RuleBasedStateMachine):
    """One version; events of whoever works on it now, late words of those who did before, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.life = Life()
        self.superseded: list[int] = []

    @rule()
    def an_operation_begins(self) -> None:
        self.superseded.append(self.life.generation)
        assert self.life.begin() == self.life.generation not in self.superseded

    @rule(event=st.sampled_from(EVENTS), named=st.booleans())
    def something_happens(self, event: str, named: bool) -> None:
        before = self.life.state
        after = TRANSITIONS[before].get(event)
        generation = self.life.generation if named else None
        if after is None:
            assert not self.life.can(event)
            with pytest.raises(NotPossible, match=f"a version that is {before} cannot {event}"):
                self.life.move(event, "why", generation=generation)
            assert self.life.state == before
        else:
            assert self.life.can(event)
            assert self.life.move(event, "why", generation=generation)
            assert (self.life.state, self.life.reason) == (after, "why")

    @precondition(lambda self: self.superseded)
    @rule(event=st.sampled_from(EVENTS), data=st.data())
    def a_superseded_operation_ends(self, event: str, data: st.DataObject) -> None:
        before = (self.life.state, self.life.reason, self.life.generation)
        assert not self.life.move(event, "late", generation=data.draw(st.sampled_from(self.superseded)))
        assert (self.life.state, self.life.reason, self.life.generation) == before

    @rule()
    def the_server_restarts(self) -> None:
        before = self.life.state
        self.superseded.append(self.life.generation)
        self.life.restart()
        after = {"verified": "discovered"}  # its files may have changed meanwhile
        assert self.life.state == ("unloaded" if before in RESIDENT else after.get(before, before))
        assert self.life.generation not in self.superseded

    @invariant()
    def it_can_be_loaded_again(self) -> None:
        assert "serving" in reachable(self.life.state)


Events.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEvents = Events.TestCase
